-- Which customer may have orders sent where.
INSERT INTO oceanrecords.customers_addresses (customer_id, address_id, created_at, updated_at)
SELECT
    h.customer_id,
    a.address_id,
    a.since,
    a.since
FROM seed_customer AS h
CROSS JOIN LATERAL (
    VALUES
        (h.address_id, h.created_at),
        (h.second_address_id, h.second_address_since)
) AS a (address_id, since)
WHERE a.address_id IS NOT NULL
ORDER BY
    h.customer_id,
    a.address_id;
