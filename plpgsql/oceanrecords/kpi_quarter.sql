/*
Sales by quarter, over the chosen countries, without a gap from the first order to today. A quarter is mature when its youngest orders are older
than the age by which 95 percent of lost orders are lost (work.kpi_loss_curve); until then it is provisional. A chosen country with a small group
of customers in a month is left out of that month (work.kpi_small_country).

Parameters: p_countries, names of countries; none for all.
Returns:    one row per quarter, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.quarter_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    quarter_start date,
    quarter_name text,
    is_complete boolean,
    is_mature boolean,
    orders bigint,
    lost_orders bigint,
    sales numeric,
    average_order_value numeric,
    is_suppressed boolean
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 20
SET search_path = pg_catalog, pg_temp
AS $quarter_of$
    WITH quarter AS (
        SELECT
            g.moment::date AS quarter_start,
            (g.moment + interval '3 months')::date <= c.whole_until AS is_complete,
            c.whole_until - (g.moment + interval '3 months')::date AS age_days
        FROM work.kpi_clock AS c
        CROSS JOIN LATERAL generate_series(
            date_trunc('quarter', least(c.first_day, c.today)::timestamp),
            date_trunc('quarter', c.last_day::timestamp),
            interval '3 months'
        ) AS g (moment)
    ),
    daily AS (
        SELECT
            d.*,
            cardinality(p_countries) = 0 OR coalesce(s.shown_as, d.country) = ANY (p_countries) AS is_shown
        FROM kpi.order_daily AS d
        LEFT JOIN work.kpi_small_country AS s
            ON cardinality(p_countries) > 0
            AND s.country = d.country
            AND s.month_start = date_trunc('month', d.day::timestamp)::date
    ),
    summed AS (
        SELECT
            date_trunc('quarter', d.day::timestamp)::date AS quarter_start,
            bool_or(NOT d.is_shown) AS is_suppressed,
            sum(d.orders) FILTER (WHERE d.is_shown)::bigint AS orders,
            sum(d.lost_orders) FILTER (WHERE d.is_shown)::bigint AS lost_orders,
            sum(d.sales) FILTER (WHERE d.is_shown) AS sales
        FROM daily AS d
        WHERE d.is_shown OR d.country = ANY (p_countries)
        GROUP BY 1
    )
    SELECT
        q.quarter_start,
        to_char(q.quarter_start, 'YYYY "Q"Q'),
        q.is_complete,
        q.is_complete
        AND q.age_days >= coalesce((SELECT min(v.age_days) FROM work.kpi_loss_curve AS v WHERE v.part_of_final >= 0.95), 0),
        CASE WHEN s.quarter_start IS NULL THEN 0 ELSE s.orders END,
        CASE WHEN s.quarter_start IS NULL THEN 0 ELSE s.lost_orders END,
        CASE WHEN s.quarter_start IS NULL THEN 0 ELSE s.sales END,
        round(s.sales / nullif(s.orders - s.lost_orders, 0), 10),
        coalesce(s.is_suppressed, false)
    FROM quarter AS q
    LEFT JOIN summed AS s USING (quarter_start)
    ORDER BY q.quarter_start
$quarter_of$;
COMMENT ON FUNCTION kpi.quarter_of(text[]) IS 'kpi.quarter over the given countries; over all countries without any.';

CREATE OR REPLACE VIEW kpi.quarter AS
SELECT * FROM kpi.quarter_of();

COMMENT ON VIEW kpi.quarter IS 'Sales by quarter, without a gap up to the current one. Unit: business currency. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.quarter.quarter_start IS 'First day of the quarter, in the business time zone.';
COMMENT ON COLUMN kpi.quarter.quarter_name IS 'Year and quarter, such as 2025 Q1.';
COMMENT ON COLUMN kpi.quarter.is_complete IS 'Whether all days of the quarter are over and loaded; a quarter that is not is current.';
COMMENT ON COLUMN kpi.quarter.is_mature IS 'Whether 95 percent of the orders that are lost in the end are lost by now; a quarter that is not is provisional.';
COMMENT ON COLUMN kpi.quarter.orders IS 'Orders placed, lost ones included.';
COMMENT ON COLUMN kpi.quarter.lost_orders IS 'Orders placed in the quarter that were cancelled or refunded since.';
COMMENT ON COLUMN kpi.quarter.sales IS 'Sales: amount of the orders that were not lost, by date of order, in the business currency.';
COMMENT ON COLUMN kpi.quarter.average_order_value IS 'Sales divided by the number of orders that were not lost, in the business currency; empty without such orders.';
COMMENT ON COLUMN kpi.quarter.is_suppressed IS 'Whether a small group (setting small_group) was suppressed: all of the quarter, which is empty then, or months of some of the chosen countries.';
