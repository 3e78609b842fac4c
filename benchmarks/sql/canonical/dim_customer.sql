SELECT
    customer_id,
    first_name,
    last_name,
    full_name,
    email,
    phone,
    segment,
    customer_since,
    valid_from,
    valid_to,
    is_current
FROM dim_customer
