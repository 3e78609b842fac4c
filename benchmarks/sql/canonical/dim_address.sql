SELECT
    address_id,
    street,
    postal_code,
    city,
    country_code,
    country,
    valid_from,
    valid_to,
    is_current
FROM dim_address
