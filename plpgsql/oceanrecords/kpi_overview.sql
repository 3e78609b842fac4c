/*
The table of key figures, a row a figure, over the chosen countries. The average and the trend are of the latest twelve full
months. The trend is drawn in block characters from the lowest to the highest of its months; a month without a value is a dot.

A percentage of a deviation, which passes through zero, says nothing: the growth of the lost order deviation is that of the
share of lost orders.

Parameters: p_countries, names of countries; none for all.
Returns:    a row a figure, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.overview_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    "position" smallint,
    kpi text,
    unit text,
    month_to_date numeric,
    monthly_average numeric,
    growth_percent numeric,
    trend text,
    is_up_good boolean
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 5
SET search_path = pg_catalog, pg_temp
AS $overview_of$
    WITH clock AS MATERIALIZED (
        SELECT * FROM work.kpi_clock
    ),
    figure (number, name, unit, is_up_good) AS (
        VALUES
            (1, 'Sales', NULL, true),
            (2, 'Average order value', NULL, true),
            (3, 'Lost order deviation', 'pp', false),
            (4, 'Average order fulfilment', 'hours', false),
            (5, 'Average order fulfilment in days', 'days', false)
    ),
    month AS (
        SELECT
            m.month_start,
            m.month_start = c.month_start AS is_current,
            dense_rank() OVER (PARTITION BY m.is_complete ORDER BY m.month_start DESC) <= 12 AND m.is_complete AS is_average,
            f.number,
            f.value,
            f.growth
        FROM kpi.month_of(VARIADIC p_countries) AS m
        CROSS JOIN clock AS c
        CROSS JOIN LATERAL (
            VALUES
                (1, m.sales, m.sales_growth_percent),
                (2, m.average_order_value, m.average_order_value_growth_percent),
                (3, m.lost_deviation_points, m.lost_share_growth_percent),
                (4, m.fulfilment_hours, m.fulfilment_growth_percent),
                (5, m.fulfilment_days, m.fulfilment_growth_percent)
        ) AS f (number, value, growth)
    ),
    scaled AS (
        SELECT
            m.*,
            min(m.value) OVER w AS lowest,
            max(m.value) OVER w AS highest
        FROM month AS m
        WHERE m.is_average
        WINDOW w AS (PARTITION BY m.number)
    ),
    trend AS (
        SELECT
            s.number,
            avg(s.value) AS average,
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
    )
    SELECT
        f.number::smallint,
        f.name,
        coalesce(f.unit, c.currency),
        round(m.value, 2),
        round(t.average, 2),
        m.growth,
        coalesce(t.line, ''),
        f.is_up_good
    FROM figure AS f
    CROSS JOIN clock AS c
    LEFT JOIN month AS m
        ON m.number = f.number
        AND m.is_current
    LEFT JOIN trend AS t ON t.number = f.number
    ORDER BY f.number
$overview_of$;
COMMENT ON FUNCTION kpi.overview_of(text[]) IS 'The figures of kpi.overview over the given countries; over all when none is given.';

CREATE OR REPLACE VIEW kpi.overview AS
SELECT
    o.position,
    o.kpi,
    o.unit,
    o.month_to_date,
    o.monthly_average,
    o.growth_percent,
    o.trend,
    o.is_up_good
FROM kpi.overview_of() AS o;

COMMENT ON VIEW kpi.overview IS 'The key figures, a row each: this month so far, in an average month, growth and trend. Unit: as the row says. Source: kpi.month.';
COMMENT ON COLUMN kpi.overview.position IS 'Order of the rows.';
COMMENT ON COLUMN kpi.overview.kpi IS 'Name of the figure.';
COMMENT ON COLUMN kpi.overview.unit IS 'Unit of its values: currency, pp (percentage points), hours or days.';
COMMENT ON COLUMN kpi.overview.month_to_date IS 'Value of the running month up to now; empty where there is nothing to divide by.';
COMMENT ON COLUMN kpi.overview.monthly_average IS 'Average of the monthly values of the latest twelve full months.';
COMMENT ON COLUMN kpi.overview.growth_percent IS 'Growth against the same number of whole days of the month before, in percent.';
COMMENT ON COLUMN kpi.overview.trend IS 'The latest twelve full months as a sparkline, lowest to highest; a dot where a month has no value.';
COMMENT ON COLUMN kpi.overview.is_up_good IS 'Whether a rise is good news.';
