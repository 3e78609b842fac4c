-- Some products get another price, up to a tenth higher or lower.
WITH chosen AS (
    SELECT p.product_id
    FROM oceanrecords.products AS p
    ORDER BY pg_temp.chance(p.product_id, 'burst: price')
    LIMIT %(number)s
    FOR NO KEY UPDATE SKIP LOCKED
),

changed AS (
    UPDATE oceanrecords.products AS p
    SET price = least(
        greatest(round(p.price * (0.9 + 0.2 * pg_temp.chance(p.product_id, 'burst: new price'))::numeric), 1)
        + CASE WHEN p.price = trunc(p.price) + 0.49 THEN -0.01 ELSE 0.49 END,
        999999.99
    )
    FROM chosen AS c
    WHERE c.product_id = p.product_id
    RETURNING p.product_id
)

SELECT count(*) AS products
FROM changed;
