-- The calendar of the history: how many orders a day sees, by growth, season, weekday and luck; which customers arrive and
-- which products are launched on it; and how many of its orders get lost, which changes from month to month.
CREATE TEMPORARY TABLE seed_day ON COMMIT DROP AS
WITH weighted AS (
    SELECT
        n.number,
        p.starts_on + n.number AS day,
        exp(0.35 * n.number / 365.0)
        * (ARRAY[0.88, 0.82, 0.92, 0.95, 0.93, 0.88, 0.84, 0.86, 0.97, 1.05, 1.28, 1.62])[
            extract(MONTH FROM p.starts_on + n.number)::integer
        ]
        * (ARRAY[0.98, 0.90, 0.92, 0.96, 1.12, 1.22, 0.90])[extract(ISODOW FROM p.starts_on + n.number)::integer]
        * CASE WHEN to_char(p.starts_on + n.number, 'MMDD') BETWEEN '1124' AND '1130' THEN 1.5 ELSE 1 END
        * (0.85 + 0.3 * pg_temp.chance(n.number, 'luck of the day')) AS weight
    FROM seed_plan AS p
    CROSS JOIN LATERAL generate_series(0, p.ends_on - p.starts_on - 1) AS n (number)
),

counted AS (
    SELECT
        w.number,
        w.day,
        round(
            p.orders * sum(w.weight) OVER (ORDER BY w.number) / sum(w.weight) OVER ()
        )::bigint AS last_order,
        p.first_products + (p.products - p.first_products) * (w.number + 1) / (p.ends_on - p.starts_on) AS last_product
    FROM weighted AS w
    CROSS JOIN seed_plan AS p
),

numbered AS (
    SELECT
        c.*,
        lag(c.last_order, 1, 0::bigint) OVER (ORDER BY c.number) AS orders_before,
        lag(c.last_product, 1, p.first_products) OVER (ORDER BY c.number) AS products_before
    FROM counted AS c
    CROSS JOIN seed_plan AS p
)

SELECT
    n.number,
    n.day,
    p.starts_at + n.number * interval '24 hours' AS starts_at,
    n.orders_before + 1 AS first_order,
    n.last_order,
    p.founders + (p.customers - p.founders) * n.orders_before / p.orders + 1 AS first_customer,
    p.founders + (p.customers - p.founders) * n.last_order / p.orders AS last_customer,
    n.products_before + 1 AS first_product,
    n.last_product,
    0.012 + 0.11 * power(pg_temp.chance(to_char(n.day, 'YYYYMM')::bigint, 'share of cancelled orders'), 2) AS cancelled_share,
    0.008 + 0.05 * pg_temp.chance(to_char(n.day, 'YYYYMM')::bigint, 'share of refunded orders') AS refunded_share
FROM numbered AS n
CROSS JOIN seed_plan AS p
ORDER BY n.number;
