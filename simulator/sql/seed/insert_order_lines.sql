-- The lines of one chunk of orders, at the price of their moment. The demand for a product falls with its rank, as
-- in Zipf's law: a few best-sellers and a long tail. What is not launched yet is replaced by something that is; some lines go
-- to the newest products, which are promoted.
INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price, created_at, updated_at)
WITH wanted AS MATERIALIZED (
    SELECT
        o.order_id,
        o.ordered_at,
        o.order_id * 16 + n.number AS wish,
        d.last_product,
        1 + mod(
            (floor(10 * power((p.products + 10) / 10.0::double precision, pg_temp.chance(o.order_id * 16 + n.number, 'rank')))::bigint - 10)
            * p.product_stride + p.product_shift,
            p.products
        ) AS product_id
    FROM seed_plan AS p
    CROSS JOIN seed_day AS d
    INNER JOIN oceanrecords.orders AS o
        ON o.order_id BETWEEN greatest(d.first_order, %(first_order)s) AND least(d.last_order, %(last_order)s)
    CROSS JOIN LATERAL generate_series(
        1,
        1 + width_bucket(
            pg_temp.chance(o.order_id, 'number of lines'), ARRAY[0.20, 0.44, 0.66, 0.81, 0.90, 0.95, 0.98]::double precision[]
        )
    ) AS n (number)
    WHERE d.last_order >= %(first_order)s
        AND d.first_order <= %(last_order)s
),

chosen AS (
    SELECT DISTINCT ON (w.order_id, c.product_id)
        w.order_id,
        w.ordered_at,
        w.wish,
        c.product_id
    FROM wanted AS w
    CROSS JOIN seed_plan AS p
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN w.last_product > p.first_products AND pg_temp.chance(w.wish, 'promotion') < 0.05
                    THEN w.last_product
                        - floor(pg_temp.chance(w.wish, 'promoted product') * least(20, w.last_product - p.first_products))::bigint
                WHEN w.product_id > w.last_product THEN 1 + mod(w.product_id - 1, p.first_products)
                ELSE w.product_id
            END AS product_id
    ) AS c
    ORDER BY
        w.order_id,
        c.product_id,
        w.wish
)

SELECT
    c.order_id,
    row_number() OVER (PARTITION BY c.order_id ORDER BY c.product_id),
    c.product_id,
    1 + width_bucket(pg_temp.chance(c.wish, 'quantity'), ARRAY[0.86, 0.95, 0.98, 0.99, 0.995]::double precision[]),
    r.price,
    c.ordered_at,
    c.ordered_at
FROM chosen AS c
INNER JOIN seed_price AS r
    ON r.product_id = c.product_id
    AND r.valid_from <= c.ordered_at
    AND r.valid_to > c.ordered_at
ORDER BY
    c.order_id,
    c.product_id;
