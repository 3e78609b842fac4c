/*
The KPIs, one row each, over the chosen countries: the current month over its whole days, the last complete month, an average month, growth
and trend. Average and trend cover the latest twelve complete months; a month in which business began after its first day is not one of
them. The trend is drawn in block characters from the lowest to the highest of its months; a month without a value is a dot.

A share of lost orders changes by percentage points. A percentage of a percentage, or of a deviation that passes through zero, has no meaning.

Parameters: p_countries, names of countries; none for all.
Returns:    one row per KPI, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.overview_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    "position" smallint,
    kpi text,
    unit text,
    month_to_date numeric,
    last_month numeric,
    monthly_average numeric,
    growth_percent numeric,
    change_points numeric,
    compared_with numeric,
    expected numeric,
    trend text,
    trend_values numeric[],
    is_up_good boolean,
    is_provisional boolean,
    is_last_month_provisional boolean,
    note text
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 4
SET search_path = pg_catalog, pg_temp
AS $overview_of$
    WITH clock AS MATERIALIZED (
        SELECT * FROM work.kpi_clock
    ),
    figure (number, name, unit, is_up_good, is_lossy) AS (
        VALUES
            (1, 'Sales', NULL, true, true),
            (2, 'Average Order Value', NULL, true, true),
            (3, 'Lost Order Deviation', 'pp', false, true),
            (4, 'Average Order Fulfillment', 'hours', false, false)
    ),
    month AS MATERIALIZED (
        SELECT
            m.*,
            m.month_start = c.month_start AS is_current,
            -- Before the first load of a month, the month before it is not complete either.
            m.is_complete AND rank() OVER (PARTITION BY m.is_complete ORDER BY m.month_start DESC) = 1 AS is_last,
            m.is_complete
            AND m.is_from_start
            AND rank() OVER (PARTITION BY m.is_complete, m.is_from_start ORDER BY m.month_start DESC) <= 12 AS is_average
        FROM kpi.month_of(VARIADIC p_countries) AS m
        CROSS JOIN clock AS c
    ),
    value AS (
        SELECT
            m.month_start,
            m.is_current,
            m.is_last,
            m.is_average,
            f.*
        FROM month AS m
        CROSS JOIN LATERAL (
            VALUES
                (1, m.sales, m.known_sales, m.before_sales, m.sales_growth_percent, NULL, m.expected_sales),
                (
                    2, m.average_order_value, m.known_average_order_value, m.before_average_order_value,
                    m.average_order_value_growth_percent, NULL, NULL
                ),
                (
                    3, m.lost_deviation_points, m.known_lost_deviation_points, m.before_lost_share_percent - m.lost_limit_percent, NULL,
                    m.lost_share_change_points, m.expected_lost_deviation_points
                ),
                (4, m.fulfilment_hours, m.known_fulfilment_hours, m.before_fulfilment_hours, m.fulfilment_growth_percent, NULL, NULL)
        ) AS f (number, value, known, before, growth, change, expected)
    ),
    scaled AS (
        SELECT
            v.number,
            v.month_start,
            v.value,
            min(v.value) OVER w AS lowest,
            max(v.value) OVER w AS highest
        FROM value AS v
        WHERE v.is_average
        WINDOW w AS (PARTITION BY v.number)
    ),
    trend AS (
        SELECT
            s.number,
            avg(s.value) AS average,
            array_agg(s.value ORDER BY s.month_start) AS months,
            string_agg(
                CASE
                    WHEN s.value IS NULL THEN '·'
                    WHEN s.highest = s.lowest THEN '▄'
                    ELSE substr('▁▂▃▄▅▆▇█', 1 + round(7 * (s.value - s.lowest) / (s.highest - s.lowest))::integer, 1)
                END,
                ''
                ORDER BY s.month_start
            ) AS line
        FROM scaled AS s
        GROUP BY s.number
    ),
    compared AS (
        SELECT
            m.month_start,
            m.orders > 0 AND NOT m.is_mature AS is_provisional,
            CASE
                WHEN m.whole_days = 0 AND l.month_start < (m.month_start - interval '1 month')::date
                    THEN format('No full day yet; the last complete month is %s', l.month_name)
                WHEN m.whole_days = 0 THEN 'No full day yet'
                WHEN m.before_lost_share_percent IS NULL AND m.before_fulfilment_hours IS NULL
                    THEN format('%s of %s', CASE m.whole_days WHEN 1 THEN '1 day' ELSE m.whole_days || ' days' END, m.month_name)
                ELSE format(
                    '%s of %s against the same of %s, as known then',
                    CASE m.compared_days WHEN 1 THEN '1 day' ELSE m.compared_days || ' days' END,
                    m.month_name,
                    to_char(m.month_start - interval '1 month', 'Mon YYYY')
                )
            END AS note
        FROM month AS m
        LEFT JOIN month AS l ON l.is_last
        WHERE m.is_current
    )
    SELECT
        f.number::smallint,
        f.name,
        coalesce(f.unit, c.currency),
        v.known,
        l.value,
        round(t.average, 10),
        v.growth,
        v.change,
        v.before,
        v.expected,
        coalesce(t.line, ''),
        coalesce(t.months, '{}'),
        f.is_up_good,
        f.is_lossy AND coalesce(p.is_provisional, false),
        f.is_lossy AND EXISTS (SELECT FROM month AS m WHERE m.is_last AND m.orders > 0 AND NOT m.is_mature),
        coalesce(p.note, 'No full day yet')
    FROM figure AS f
    CROSS JOIN clock AS c
    LEFT JOIN value AS v
        ON v.number = f.number
        AND v.is_current
    LEFT JOIN value AS l
        ON l.number = f.number
        AND l.is_last
    LEFT JOIN trend AS t ON t.number = f.number
    LEFT JOIN compared AS p ON p.month_start = v.month_start
    ORDER BY f.number
$overview_of$;
COMMENT ON FUNCTION kpi.overview_of(text[]) IS 'kpi.overview over the given countries; over all countries without any.';

CREATE OR REPLACE VIEW kpi.overview AS
SELECT * FROM kpi.overview_of();

COMMENT ON VIEW kpi.overview IS 'The KPIs, one row each: the current month so far, the last complete month, an average month, growth and trend. Unit: as the row says. Source: kpi.month.';
COMMENT ON COLUMN kpi.overview.position IS 'Order of the rows.';
COMMENT ON COLUMN kpi.overview.kpi IS 'Name of the KPI; kpi.definition has its definition.';
COMMENT ON COLUMN kpi.overview.unit IS 'Unit of its values: currency, pp (percentage points) or hours.';
COMMENT ON COLUMN kpi.overview.month_to_date IS 'Value over the whole days of the current month, as known when the last of them ended; empty before the first whole day, or if there is nothing to divide by.';
COMMENT ON COLUMN kpi.overview.last_month IS 'Value of the last complete month.';
COMMENT ON COLUMN kpi.overview.monthly_average IS 'Average of the monthly values of the latest twelve complete months; a month in which business began after its first day does not count.';
COMMENT ON COLUMN kpi.overview.growth_percent IS 'Growth against the same whole days of the month before as known at the same age, in percent; empty for shares.';
COMMENT ON COLUMN kpi.overview.change_points IS 'The same for shares: change in percentage points.';
COMMENT ON COLUMN kpi.overview.compared_with IS 'Value of those days of the month before, as known at the same age.';
COMMENT ON COLUMN kpi.overview.expected IS 'Expected value of the whole days once the usual later losses have happened (kpi.loss_curve); empty if losses do not change it.';
COMMENT ON COLUMN kpi.overview.trend IS 'The latest twelve complete months as a sparkline, lowest to highest; a dot where a month has no value.';
COMMENT ON COLUMN kpi.overview.trend_values IS 'The values of those months, in order.';
COMMENT ON COLUMN kpi.overview.is_up_good IS 'Whether a rise is good news.';
COMMENT ON COLUMN kpi.overview.is_provisional IS 'Whether orders of the current month may still be lost and change the value.';
COMMENT ON COLUMN kpi.overview.is_last_month_provisional IS 'Whether orders of the last complete month may still be lost and change its value.';
COMMENT ON COLUMN kpi.overview.note IS 'Which days are compared; or that there is no full day yet.';
