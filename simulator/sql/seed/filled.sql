-- The first table that has rows of business, if there is one.
SELECT t.name
FROM (
    SELECT 'customers' AS name
    WHERE EXISTS (SELECT FROM oceanrecords.customers)
    UNION ALL
    SELECT 'addresses'
    WHERE EXISTS (SELECT FROM oceanrecords.addresses)
    UNION ALL
    SELECT 'suppliers'
    WHERE EXISTS (SELECT FROM oceanrecords.suppliers)
    UNION ALL
    SELECT 'product_types'
    WHERE EXISTS (SELECT FROM oceanrecords.product_types)
    UNION ALL
    SELECT 'products'
    WHERE EXISTS (SELECT FROM oceanrecords.products)
) AS t
LIMIT 1;
