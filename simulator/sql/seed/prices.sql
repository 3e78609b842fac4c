-- Every price that a product ever had, with its validity. About every third quarter a product is repriced: upwards on the
-- whole, with promotions in between.
CREATE TEMPORARY TABLE seed_price ON COMMIT DROP AS
WITH launched AS MATERIALIZED (
    SELECT
        n.product_id,
        date_trunc(
            'second', p.starts_at - (p.first_products - n.product_id + 1) * interval '450 days' / p.first_products
        ) AS created_at
    FROM seed_plan AS p
    CROSS JOIN LATERAL generate_series(1, p.first_products) AS n (product_id)
    UNION ALL
    SELECT
        n.product_id,
        d.starts_at + pg_temp.hours(4 + pg_temp.chance(n.product_id, 'launched at'))
    FROM seed_day AS d
    CROSS JOIN LATERAL generate_series(d.first_product, d.last_product) AS n (product_id)
),

listed AS MATERIALIZED (
    SELECT
        l.product_id,
        l.created_at,
        s.product_subtype_id,
        s.lowest_price * power(s.highest_price / s.lowest_price, power(pg_temp.chance(l.product_id, 'price'), 1.5)) AS list_price
    FROM launched AS l
    INNER JOIN seed_shelf AS s
        ON pg_temp.chance(l.product_id, 'shelf') >= s.lower_bound
        AND pg_temp.chance(l.product_id, 'shelf') < s.upper_bound
),

priced AS (
    SELECT
        l.product_id,
        l.created_at AS valid_from,
        0 AS quarter,
        l.list_price
    FROM listed AS l
    UNION ALL
    SELECT
        l.product_id,
        p.starts_at + pg_temp.hours(2160 * (q.quarter - 1 + pg_temp.chance(l.product_id * 128 + q.quarter, 'repriced at'))),
        q.quarter,
        l.list_price * (1 + 0.011 * q.quarter)
        * (0.86 + 0.24 * pg_temp.chance(l.product_id * 128 + q.quarter, 'new price'))
    FROM listed AS l
    CROSS JOIN seed_plan AS p
    CROSS JOIN LATERAL generate_series(1, (p.ends_on - p.starts_on) / 90 + 1) AS q (quarter)
    WHERE pg_temp.chance(l.product_id * 128 + q.quarter, 'is repriced') < 0.34
),

compared AS (
    SELECT
        r.product_id,
        r.valid_from,
        r.price,
        lag(r.price) OVER timeline AS price_before
    FROM (
        SELECT
            b.product_id,
            b.valid_from,
            greatest(round(b.list_price::numeric) - 0.01, 0.99)::numeric(12, 2) AS price
        FROM priced AS b
        INNER JOIN listed AS l
            ON l.product_id = b.product_id
        CROSS JOIN seed_plan AS p
        WHERE (b.quarter = 0 OR b.valid_from > l.created_at)
            AND b.valid_from < p.ends_at
    ) AS r
    WINDOW timeline AS (PARTITION BY r.product_id ORDER BY r.valid_from)
)

SELECT
    c.product_id,
    c.price,
    c.valid_from,
    lead(c.valid_from, 1, 'infinity') OVER (PARTITION BY c.product_id ORDER BY c.valid_from) AS valid_to
FROM compared AS c
WHERE c.price IS DISTINCT FROM c.price_before
ORDER BY
    c.product_id,
    c.valid_from;
