-- Countries with few customers in a month. What a business user reads of them counts under "Other countries": no figure of a country is about fewer
-- people than the setting small_group, and all figures add up. What they ordered is not a trait of people, so products need no such rule.

CREATE OR REPLACE VIEW work.kpi_small_country AS
WITH setting AS MATERIALIZED (
    SELECT max(s.value)::integer AS people
    FROM etl.setting AS s
    WHERE s.name = 'small_group'
),
month AS MATERIALIZED (
    SELECT d.month_start, d.quarter_start, 1 + (d.month_number - 1) % 3 AS number, a.country, sum(a.orders) AS orders
    FROM dwh.agg_order_daily AS a
    JOIN dwh.dim_date AS d ON d.full_date = a.day
    GROUP BY d.month_start, d.quarter_start, d.month_number, a.country
),
counted AS MATERIALIZED (
    SELECT m.*, p.customers
    FROM month AS m
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(c.customer_id), '{}') AS customers
        FROM (
            SELECT a.customer_id
            FROM dwh.agg_customer_quarterly AS a
            WHERE a.country = m.country
                AND a.quarter_start = m.quarter_start
                AND a.customer_id <> -1
                AND CASE m.number WHEN 1 THEN a.first_month_orders WHEN 2 THEN a.second_month_orders ELSE a.third_month_orders END > 0
            -- No more than it takes: a large country is as quick as a small one.
            LIMIT (SELECT s.people FROM setting AS s)
        ) AS c
    ) AS p
),
small AS (
    SELECT c.month_start, c.country, c.customers
    FROM counted AS c
    CROSS JOIN setting AS s
    WHERE cardinality(c.customers) < s.people
),
revealed AS (
    -- Months whose small countries are a small group together, so that all countries less the others would reveal it.
    SELECT m.month_start
    FROM small AS m
    CROSS JOIN setting AS s
    LEFT JOIN LATERAL unnest(m.customers) AS c (customer_id) ON true
    GROUP BY m.month_start, s.people
    HAVING count(DISTINCT c.customer_id) < s.people
)
SELECT s.month_start, s.country, 'Other countries' AS shown_as
FROM small AS s
UNION ALL
(
    -- The next smallest country joins them.
    SELECT DISTINCT ON (c.month_start) c.month_start, c.country, 'Other countries'
    FROM counted AS c
    JOIN revealed AS r USING (month_start)
    CROSS JOIN setting AS s
    WHERE cardinality(c.customers) >= s.people
    ORDER BY c.month_start, c.orders, c.country
);
COMMENT ON VIEW work.kpi_small_country IS 'Countries that count under "Other countries" in a month, because they, or such countries together, had fewer customers than the setting small_group.';
COMMENT ON COLUMN work.kpi_small_country.month_start IS 'First day of the month of the orders.';
COMMENT ON COLUMN work.kpi_small_country.country IS 'Country that the orders went to.';
COMMENT ON COLUMN work.kpi_small_country.shown_as IS 'What a business user sees in its place.';
