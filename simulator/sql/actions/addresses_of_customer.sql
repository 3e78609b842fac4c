-- The addresses of the first customer from a number on who has any.
SELECT
    l.customer_id,
    l.address_id,
    a.country_code
FROM oceanrecords.customers_addresses AS l
INNER JOIN oceanrecords.addresses AS a
    ON a.address_id = l.address_id
WHERE l.customer_id = (
        SELECT f.customer_id
        FROM oceanrecords.customers_addresses AS f
        WHERE f.customer_id >= %(from_customer)s
        ORDER BY f.customer_id
        LIMIT 1
    )
ORDER BY l.address_id;
