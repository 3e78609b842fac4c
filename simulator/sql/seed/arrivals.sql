-- Who the customers are, whom they live with, and since when. Founders were there before the history begins; every other customer
-- registers shortly before the first order. Some belong to the household of an earlier customer and share name and address;
-- some have a second address, a new one or that of another customer.
CREATE TEMPORARY TABLE seed_arrival ON COMMIT DROP AS
WITH arrived AS MATERIALIZED (
    SELECT
        c.customer_id,
        p.starts_at - (p.founders - c.customer_id + 1) * interval '400 days' / p.founders AS created_at
    FROM seed_plan AS p
    CROSS JOIN LATERAL generate_series(1, p.founders) AS c (customer_id)
    UNION ALL
    SELECT
        c.customer_id,
        pg_temp.moment_of_day(
            d.starts_at,
            (o.first_order - d.first_order + pg_temp.chance(o.first_order, 'moment')) / (d.last_order - d.first_order + 1)
        ) - pg_temp.hours(0.03 + 0.7 * pg_temp.chance(c.customer_id, 'registers before ordering'))
    FROM seed_day AS d
    CROSS JOIN seed_plan AS p
    CROSS JOIN LATERAL generate_series(d.first_customer, d.last_customer) AS c (customer_id)
    CROSS JOIN LATERAL (
        SELECT
            ((c.customer_id - p.founders) * p.orders + p.customers - p.founders - 1)
            / (p.customers - p.founders) AS first_order
    ) AS o
),

related AS MATERIALIZED (
    SELECT
        a.customer_id,
        date_trunc('second', a.created_at) AS created_at,
        CASE WHEN pg_temp.chance(a.customer_id, 'segment') < 0.12 THEN 'business' ELSE 'consumer' END AS segment,
        CASE
            WHEN a.customer_id > 1
                AND pg_temp.chance(a.customer_id, 'lives with somebody') < 0.16
                AND pg_temp.chance(r.customer_id, 'lives with somebody') >= 0.16
                AND pg_temp.chance(a.customer_id, 'segment') >= 0.12
                AND pg_temp.chance(r.customer_id, 'segment') >= 0.12
                THEN r.customer_id
            ELSE a.customer_id
        END AS household,
        CASE
            WHEN pg_temp.chance(a.customer_id, 'second address') >= 0.18 THEN 'none'
            WHEN pg_temp.chance(a.customer_id, 'whose second address') < 0.7 OR a.customer_id = 1 THEN 'new'
            ELSE 'shared'
        END AS second_address,
        f.customer_id AS friend
    FROM arrived AS a
    CROSS JOIN LATERAL (
        SELECT 1 + floor(pg_temp.chance(a.customer_id, 'relative') * (a.customer_id - 1))::bigint AS customer_id
    ) AS r
    CROSS JOIN LATERAL (
        SELECT 1 + floor(pg_temp.chance(a.customer_id, 'friend') * (a.customer_id - 1))::bigint AS customer_id
    ) AS f
)

SELECT
    r.*,
    count(*) FILTER (WHERE r.household = r.customer_id) OVER so_far AS homes_so_far,
    count(*) FILTER (WHERE r.second_address = 'new') OVER so_far AS second_homes_so_far,
    count(*) FILTER (WHERE r.household = r.customer_id) OVER () AS homes
FROM related AS r
WINDOW so_far AS (ORDER BY r.customer_id)
ORDER BY r.customer_id;
