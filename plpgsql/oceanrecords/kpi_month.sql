/*
Figures by month, over the chosen countries: sales, average order value, lost orders against their limit, fulfilment, and
their growth. Every month from the first order to today is there, with zero where nothing happened and empty where a ratio
has nothing to divide by.

Growth is like with like. A full month is compared with the whole month before. The running one is compared over its days
that are over and loaded with as many days of the month before, clipped to that month's length; on its first day there is
nothing to compare yet.

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
    month AS (
        SELECT
            g.moment::date AS month_start,
            (g.moment + interval '1 month')::date AS next_start,
            c.whole_until,
            c.whole_days AS compared_days
        FROM clock AS c
        CROSS JOIN LATERAL generate_series(
            date_trunc('month', c.first_day::timestamp),
            date_trunc('month', c.last_day::timestamp),
            interval '1 month'
        ) AS g (moment)
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
            m.month_start,
            m.next_start <= m.whole_until AS is_complete,
            least(greatest(m.whole_until - m.month_start, 0), m.next_start - m.month_start) AS whole_days,
            coalesce(sum(d.orders), 0)::bigint AS orders,
            coalesce(sum(d.lost_orders), 0)::bigint AS lost_orders,
            coalesce(sum(d.sales), 0) AS sales,
            CASE WHEN count(d.day) = count(d.allowed_orders) THEN sum(d.allowed_orders) END AS allowed_orders,
            coalesce(sum(d.fulfilled_orders), 0)::bigint AS fulfilled_orders,
            coalesce(sum(d.hours_to_fulfil), 0) AS hours_to_fulfil,
            -- The same over as many days as the running month has whole ones.
            sum(d.orders) FILTER (WHERE d.day < m.month_start + m.compared_days) AS early_orders,
            sum(d.lost_orders) FILTER (WHERE d.day < m.month_start + m.compared_days) AS early_lost_orders,
            sum(d.sales) FILTER (WHERE d.day < m.month_start + m.compared_days) AS early_sales,
            sum(d.fulfilled_orders) FILTER (WHERE d.day < m.month_start + m.compared_days) AS early_fulfilled_orders,
            sum(d.hours_to_fulfil) FILTER (WHERE d.day < m.month_start + m.compared_days) AS early_hours_to_fulfil
        FROM month AS m
        LEFT JOIN limited AS d ON d.month_start = m.month_start
        GROUP BY m.month_start, m.next_start, m.whole_until
    ),
    compared AS (
        -- Now and before, in pairs that may be compared. Where the running month has no whole day yet, both are empty.
        SELECT
            s.*,
            CASE WHEN s.is_complete THEN s.sales WHEN s.whole_days > 0 THEN coalesce(s.early_sales, 0) END AS sales_now,
            CASE WHEN s.is_complete THEN lag(s.sales) OVER w WHEN s.whole_days > 0 THEN lag(s.early_sales) OVER w END AS sales_before,
            CASE WHEN s.is_complete THEN s.orders - s.lost_orders ELSE s.early_orders - s.early_lost_orders END AS kept_now,
            CASE WHEN s.is_complete THEN lag(s.orders - s.lost_orders) OVER w ELSE lag(s.early_orders - s.early_lost_orders) OVER w END AS kept_before,
            CASE WHEN s.is_complete THEN s.orders ELSE s.early_orders END AS orders_now,
            CASE WHEN s.is_complete THEN lag(s.orders) OVER w ELSE lag(s.early_orders) OVER w END AS orders_before,
            CASE WHEN s.is_complete THEN s.lost_orders ELSE s.early_lost_orders END AS lost_now,
            CASE WHEN s.is_complete THEN lag(s.lost_orders) OVER w ELSE lag(s.early_lost_orders) OVER w END AS lost_before,
            CASE WHEN s.is_complete THEN s.fulfilled_orders ELSE s.early_fulfilled_orders END AS fulfilled_now,
            CASE WHEN s.is_complete THEN lag(s.fulfilled_orders) OVER w ELSE lag(s.early_fulfilled_orders) OVER w END AS fulfilled_before,
            CASE WHEN s.is_complete THEN s.hours_to_fulfil ELSE s.early_hours_to_fulfil END AS hours_now,
            CASE WHEN s.is_complete THEN lag(s.hours_to_fulfil) OVER w ELSE lag(s.early_hours_to_fulfil) OVER w END AS hours_before
        FROM summed AS s
        WINDOW w AS (ORDER BY s.month_start)
    )
    SELECT
        c.month_start,
        to_char(c.month_start, 'Mon YYYY'),
        c.is_complete,
        c.whole_days,
        c.orders,
        c.lost_orders,
        c.sales,
        round(c.sales / nullif(c.orders - c.lost_orders, 0), 2),
        round(100.0 * c.lost_orders / nullif(c.orders, 0), 4),
        round(100.0 * coalesce(c.allowed_orders / nullif(c.orders, 0), l.limit_share), 4),
        round(100.0 * (c.lost_orders - c.allowed_orders) / nullif(c.orders, 0), 4),
        c.fulfilled_orders,
        round(c.hours_to_fulfil / nullif(c.fulfilled_orders, 0), 2),
        round(c.hours_to_fulfil / nullif(c.fulfilled_orders, 0) / 24, 2),
        round(100 * (c.sales_now / nullif(c.sales_before, 0) - 1), 2),
        round(100 * ((c.sales_now / nullif(c.kept_now, 0)) / nullif(c.sales_before / nullif(c.kept_before, 0), 0) - 1), 2),
        round(100 * ((c.lost_now / nullif(c.orders_now, 0)) / nullif(c.lost_before / nullif(c.orders_before, 0), 0) - 1), 2),
        round(100 * ((c.hours_now / nullif(c.fulfilled_now, 0)) / nullif(c.hours_before / nullif(c.fulfilled_before, 0), 0) - 1), 2)
    FROM compared AS c
    LEFT JOIN LATERAL (
        SELECT n.limit_share
        FROM kpi.lost_order_limit AS n
        WHERE n.valid_from <= c.month_start
            AND c.orders = 0
        ORDER BY n.valid_from DESC
        LIMIT 1
    ) AS l ON true
    ORDER BY c.month_start
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
