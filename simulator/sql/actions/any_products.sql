-- For each number the next product from there.
SELECT p.product_id
FROM unnest(%(product_keys)s::bigint[]) AS k (product_key)
CROSS JOIN LATERAL (
    SELECT n.product_id
    FROM oceanrecords.products AS n
    WHERE n.product_id >= k.product_key
        AND n.is_active
    ORDER BY n.product_id
    LIMIT 1
) AS p;
