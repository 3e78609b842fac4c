-- A customer, with the country of the first address.
SELECT
    c.customer_id,
    c.first_name,
    c.last_name,
    c.email,
    (
        SELECT a.country_code
        FROM oceanrecords.customers_addresses AS l
        INNER JOIN oceanrecords.addresses AS a
            ON a.address_id = l.address_id
        WHERE l.customer_id = c.customer_id
        ORDER BY l.address_id
        LIMIT 1
    ) AS country_code
FROM oceanrecords.customers AS c
WHERE c.customer_id = %(customer_id)s;
