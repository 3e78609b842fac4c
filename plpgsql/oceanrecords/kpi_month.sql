/*
Figures by month, over the chosen countries: sales, average order value, lost orders against their limit, fulfilment, and
their growth. Every month from the first order to today is there, with zero where nothing happened and empty where a ratio
has nothing to divide by.

Growth is like with like. A full month is compared with the whole month before. The running one is compared over its days
that are over and loaded with as many days of the month before, clipped to that month's length; on its first day there is
nothing to compare yet. Nor has the month after the one in which business began on a later day than the first: a part of a
month is not like a whole one.

Parameters: p_countries, names of countries; none for all.
Returns:    a row a month, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.month_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    month_start date,
    month_name text,
    is_complete boolean,
    whole_days integer,
    orders bigint,
    lost_orders bigint,
    sales numeric,
    average_order_value numeric,
    lost_share_percent numeric,
    lost_limit_percent numeric,
    lost_deviation_points numeric,
    fulfilled_orders bigint,
    fulfilment_hours numeric,
    fulfilment_days numeric,
    sales_growth_percent numeric,
    average_order_value_growth_percent numeric,
    lost_share_growth_percent numeric,
    fulfilment_growth_percent numeric
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 60
SET search_path = pg_catalog, pg_temp
AS $month_of$
    WITH clock AS MATERIALIZED (
        SELECT * FROM work.kpi_clock
    ),
    span AS (
        -- Each month twice: with all of its days, and with as many as the running month has whole ones.
        SELECT
            g.moment::date AS month_start,
            (g.moment + interval '1 month')::date AS next_start,
            c.whole_until,
            c.first_day,
            e.is_early,
            CASE WHEN e.is_early THEN g.moment::date + c.whole_days ELSE 'infinity' END AS until
        FROM clock AS c
        CROSS JOIN LATERAL generate_series(
            date_trunc('month', c.first_day::timestamp),
            date_trunc('month', c.last_day::timestamp),
            interval '1 month'
        ) AS g (moment)
        CROSS JOIN (VALUES (false), (true)) AS e (is_early)
    ),
    daily AS (
        SELECT
            a.day,
            sum(a.orders) AS orders,
            sum(a.lost_orders) AS lost_orders,
            sum(a.sales) AS sales,
            sum(a.fulfilled_orders) AS fulfilled_orders,
            sum(a.hours_to_fulfil) AS hours_to_fulfil
        FROM dwh.agg_order_daily AS a
        WHERE cardinality(p_countries) = 0
            OR a.country = ANY (p_countries)
        GROUP BY a.day
    ),
    limited AS (
        SELECT
            d.*,
            date_trunc('month', d.day::timestamp)::date AS month_start,
            -- Every order is measured against the limit of its day; a day whose limit is not known leaves its month without one.
            d.orders * (
                SELECT l.limit_share
                FROM kpi.lost_order_limit AS l
                WHERE l.valid_from <= d.day
                ORDER BY l.valid_from DESC
                LIMIT 1
            ) AS allowed_orders
        FROM daily AS d
    ),
    summed AS (
        SELECT
            p.month_start,
            p.is_early,
            p.next_start <= p.whole_until AS is_complete,
            p.month_start >= p.first_day AS is_from_start,
            least(greatest(p.whole_until - p.month_start, 0), p.next_start - p.month_start) AS whole_days,
            coalesce(sum(d.orders), 0)::bigint AS orders,
            coalesce(sum(d.lost_orders), 0)::bigint AS lost_orders,
            coalesce(sum(d.sales), 0) AS sales,
            CASE WHEN count(d.day) = count(d.allowed_orders) THEN sum(d.allowed_orders) END AS allowed_orders,
            sum(d.sales) / nullif(sum(d.orders - d.lost_orders), 0) AS order_value,
            sum(d.lost_orders) / nullif(sum(d.orders), 0) AS lost_share,
            coalesce(sum(d.fulfilled_orders), 0)::bigint AS fulfilled_orders,
            sum(d.hours_to_fulfil) / nullif(sum(d.fulfilled_orders), 0) AS hours
        FROM span AS p
        LEFT JOIN limited AS d
            ON d.month_start = p.month_start
            AND d.day < p.until
        GROUP BY p.month_start, p.is_early, p.next_start, p.whole_until, p.first_day
    )
    SELECT
        m.month_start,
        to_char(m.month_start, 'Mon YYYY'),
        m.is_complete,
        m.whole_days,
        m.orders,
        m.lost_orders,
        m.sales,
        round(m.order_value, 2),
        round(100 * m.lost_share, 4),
        round(100 * coalesce(m.allowed_orders / nullif(m.orders, 0), l.limit_share), 4),
        round(100 * (m.lost_share - m.allowed_orders / nullif(m.orders, 0)), 4),
        m.fulfilled_orders,
        round(m.hours, 2),
        round(m.hours / 24, 2),
        round(100 * (n.sales / nullif(CASE WHEN b.is_from_start THEN b.sales END, 0) - 1), 2),
        round(100 * (n.order_value / nullif(b.order_value, 0) - 1), 2),
        round(100 * (n.lost_share / nullif(b.lost_share, 0) - 1), 2),
        round(100 * (n.hours / nullif(b.hours, 0) - 1), 2)
    FROM summed AS m
    -- What is compared now, and with what: whole months, or the early days of both.
    JOIN summed AS n
        ON n.month_start = m.month_start
        AND n.is_early = (NOT m.is_complete)
    LEFT JOIN summed AS b
        ON b.month_start = (m.month_start - interval '1 month')::date
        AND b.is_early = n.is_early
        AND m.whole_days > 0
    LEFT JOIN LATERAL (
        SELECT r.limit_share
        FROM kpi.lost_order_limit AS r
        WHERE r.valid_from <= m.month_start
            AND m.orders = 0
        ORDER BY r.valid_from DESC
        LIMIT 1
    ) AS l ON true
    WHERE NOT m.is_early
    ORDER BY m.month_start
$month_of$;
COMMENT ON FUNCTION kpi.month_of(text[]) IS 'The figures of kpi.month over the given countries; over all when none is given.';

CREATE OR REPLACE VIEW kpi.month AS
SELECT
    m.month_start,
    m.month_name,
    m.is_complete,
    m.whole_days,
    m.orders,
    m.lost_orders,
    m.sales,
    m.average_order_value,
    m.lost_share_percent,
    m.lost_limit_percent,
    m.lost_deviation_points,
    m.fulfilled_orders,
    m.fulfilment_hours,
    m.fulfilment_days,
    m.sales_growth_percent,
    m.average_order_value_growth_percent,
    m.lost_share_growth_percent,
    m.fulfilment_growth_percent
FROM kpi.month_of() AS m;

COMMENT ON VIEW kpi.month IS 'Sales, average order value, lost order deviation, fulfilment and their growth by month, without a gap up to the running month. Unit: business currency, percent, percentage points, hours, days. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.month.month_start IS 'First day of the month, in the business time zone.';
COMMENT ON COLUMN kpi.month.month_name IS 'Month and year, such as Mar 2025.';
COMMENT ON COLUMN kpi.month.is_complete IS 'Whether all days of the month are over and loaded; a month that is not is still running.';
COMMENT ON COLUMN kpi.month.whole_days IS 'Days of the month that are over and loaded.';
COMMENT ON COLUMN kpi.month.orders IS 'Orders placed, lost ones included.';
COMMENT ON COLUMN kpi.month.lost_orders IS 'Orders placed in the month that were cancelled or refunded since.';
COMMENT ON COLUMN kpi.month.sales IS 'Sales: amount of the orders that were not lost, by date of order, in the business currency.';
COMMENT ON COLUMN kpi.month.average_order_value IS 'Average order value: sales by number of orders that were not lost, in the business currency; empty without such orders.';
COMMENT ON COLUMN kpi.month.lost_share_percent IS 'Share of orders that were lost, in percent; empty without orders.';
COMMENT ON COLUMN kpi.month.lost_limit_percent IS 'Limit of that share, in percent: of kpi.lost_order_limit, each order by the limit of its day.';
COMMENT ON COLUMN kpi.month.lost_deviation_points IS 'Lost order deviation: share of lost orders minus the limit, in percentage points; above 0 is worse than the limit. Empty without orders.';
COMMENT ON COLUMN kpi.month.fulfilled_orders IS 'Orders delivered in the month.';
COMMENT ON COLUMN kpi.month.fulfilment_hours IS 'Average order fulfilment: hours from order to delivery, over the orders delivered in the month; empty without any.';
COMMENT ON COLUMN kpi.month.fulfilment_days IS 'Average order fulfilment in days of 24 hours.';
COMMENT ON COLUMN kpi.month.sales_growth_percent IS 'Growth of sales against the month before, in percent: full months as a whole, the running one over its whole days against as many days of the month before. Empty where there is nothing to compare with.';
COMMENT ON COLUMN kpi.month.average_order_value_growth_percent IS 'Growth of the average order value, in percent, compared in the same way.';
COMMENT ON COLUMN kpi.month.lost_share_growth_percent IS 'Growth of the share of lost orders, in percent, compared in the same way.';
COMMENT ON COLUMN kpi.month.fulfilment_growth_percent IS 'Growth of the average fulfilment, in percent, compared in the same way.';
