/*
The headline: sales of yesterday (while it is not loaded, of the last full day), of the month to date against last year and against the
target, and a forecast of the month, over the chosen countries. All amounts cover whole days (over and loaded), as known when the last of them
ended; what they are compared with is taken as it was known at the same age.

The forecast is made of the whole days of the month and the days that are left. The whole days are reduced by the orders that are usually lost
later. A day that is left gets the average of its weekday over the latest eight weeks, reduced in the same way. Without a week of history there is
no forecast.

A target counts if it is set: for the chosen countries, or for all countries together or one by one. It is spread evenly over the days of its month.

Parameters: p_countries, names of countries; none for all.
Returns:    one row per headline, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.headline_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    "position" smallint,
    headline text,
    period text,
    sales numeric,
    compared_to text,
    compared_with numeric,
    change_percent numeric,
    note text
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 4
SET search_path = pg_catalog, pg_temp
AS $headline_of$
    WITH clock AS MATERIALIZED (
        SELECT
            c.*,
            (c.month_start + interval '1 month')::date AS month_end,
            (c.month_start - interval '1 year')::date AS year_before,
            least(
                c.whole_days,
                (c.month_start - interval '1 year' + interval '1 month')::date - (c.month_start - interval '1 year')::date
            ) AS year_days
        FROM work.kpi_clock AS c
    ),
    frame AS (
        SELECT f.*
        FROM clock AS c
        CROSS JOIN LATERAL (
            VALUES
                ('yesterday', c.whole_until - 1, c.whole_until, c.whole_until),
                ('week before', c.whole_until - 8, c.whole_until - 7, c.whole_until - 7),
                ('month', c.month_start, c.month_start + c.whole_days, c.whole_until),
                ('same days', c.month_start, c.month_start + c.year_days, c.whole_until),
                ('year before', c.year_before, c.year_before + c.year_days, c.year_before + c.whole_days),
                ('whole month of year before', c.year_before, (c.year_before + interval '1 month')::date, c.horizon + 1)
        ) AS f (name, first_day, until, known_until)
    ),
    small AS MATERIALIZED (
        SELECT s.*
        FROM work.kpi_small_country AS s
        WHERE cardinality(p_countries) > 0
    ),
    daily AS MATERIALIZED (
        SELECT
            a.day,
            sum(a.sales) AS sales
        FROM dwh.agg_order_daily AS a
        CROSS JOIN clock AS c
        LEFT JOIN small AS s ON s.country = a.country AND s.month_start = date_trunc('month', a.day::timestamp)::date
        WHERE (cardinality(p_countries) = 0 OR coalesce(s.shown_as, a.country) = ANY (p_countries))
            AND a.day >= least(c.year_before, c.whole_until - 56)
            AND a.day < c.whole_until
        GROUP BY a.day
    ),
    lost AS MATERIALIZED (
        SELECT
            a.day,
            a.lost_on,
            sum(a.lost_amount) AS amount
        FROM dwh.agg_order_lost_daily AS a
        CROSS JOIN clock AS c
        LEFT JOIN small AS s ON s.country = a.country AND s.month_start = date_trunc('month', a.day::timestamp)::date
        WHERE (cardinality(p_countries) = 0 OR coalesce(s.shown_as, a.country) = ANY (p_countries))
            AND a.day >= least(c.year_before, c.whole_until - 56)
            AND a.day < c.whole_until
        GROUP BY a.day, a.lost_on
    ),
    people AS (
        SELECT
            f.name,
            count(DISTINCT u.customer_id) FILTER (WHERE coalesce(s.shown_as, u.country) = ANY (p_countries)) AS chosen,
            count(DISTINCT u.customer_id) FILTER (WHERE coalesce(s.shown_as, u.country) <> ALL (p_countries)) AS others,
            bool_or(s.shown_as <> ALL (p_countries) AND u.country = ANY (p_countries)) AS is_left_out
        FROM frame AS f
        CROSS JOIN LATERAL work.kpi_customer(f.first_day, f.until - 1) AS u
        LEFT JOIN small AS s ON s.country = u.country AND s.month_start = date_trunc('month', f.first_day::timestamp)::date
        WHERE cardinality(p_countries) > 0
        GROUP BY f.name
    ),
    summed AS (
        -- A choice is shown if neither its customers nor the others are few.
        SELECT
            f.name,
            CASE
                WHEN p.name IS NULL THEN 0
                WHEN p.chosen = 0 AND p.is_left_out THEN NULL
                WHEN etl.suppress_small(p.chosen) IS NOT NULL AND etl.suppress_small(p.others) IS NOT NULL THEN 0
            END
            + coalesce((SELECT sum(d.sales) FROM daily AS d WHERE d.day >= f.first_day AND d.day < f.until), 0)
            + coalesce(
                (SELECT sum(l.amount) FROM lost AS l WHERE l.day >= f.first_day AND l.day < f.until AND l.lost_on >= f.known_until), 0
            ) AS sales
        FROM frame AS f
        LEFT JOIN people AS p USING (name)
    ),
    amount AS (
        SELECT
            max(s.sales) FILTER (WHERE s.name = 'yesterday') AS yesterday,
            max(s.sales) FILTER (WHERE s.name = 'week before') AS week_before,
            max(s.sales) FILTER (WHERE s.name = 'month') AS month,
            max(s.sales) FILTER (WHERE s.name = 'same days') AS same_days,
            max(s.sales) FILTER (WHERE s.name = 'year before') AS year_before,
            max(s.sales) FILTER (WHERE s.name = 'whole month of year before') AS whole_year_before
        FROM summed AS s
    ),
    expected AS (
        -- Days without an order are days as well: weekdays are averaged over all of them.
        SELECT
            g.moment::date AS day,
            (coalesce(d.sales, 0) + coalesce((SELECT sum(l.amount) FROM lost AS l WHERE l.day = g.moment::date AND l.lost_on >= c.whole_until), 0))
            * (1 - coalesce(v.later_share, 0)::numeric) AS sales
        FROM clock AS c
        CROSS JOIN LATERAL generate_series(
            greatest(least(c.whole_until - 56, c.month_start), c.first_day)::timestamp, (c.whole_until - 1)::timestamp, interval '1 day'
        ) AS g (moment)
        LEFT JOIN daily AS d ON d.day = g.moment::date
        LEFT JOIN work.kpi_loss_curve AS v ON v.age_days = c.whole_until - 1 - g.moment::date
    ),
    weekday AS (
        SELECT
            extract(isodow FROM e.day) AS number,
            avg(e.sales) AS sales
        FROM expected AS e
        CROSS JOIN clock AS c
        WHERE e.day >= c.whole_until - 56
        GROUP BY 1
    ),
    forecast AS (
        SELECT
            coalesce((SELECT sum(e.sales) FROM expected AS e WHERE e.day >= c.month_start), 0)
            + (SELECT CASE WHEN count(*) = count(w.sales) THEN coalesce(sum(w.sales), 0) END
                FROM generate_series(
                    greatest(c.month_start, c.whole_until)::timestamp, (c.month_end - 1)::timestamp, interval '1 day'
                ) AS r (moment)
                LEFT JOIN weekday AS w ON w.number = extract(isodow FROM r.moment)) AS sales
        FROM clock AS c
    ),
    target AS (
        SELECT
            CASE
                WHEN cardinality(p_countries) > 0
                    THEN sum(t.sales) FILTER (WHERE t.country = ANY (p_countries))
                ELSE coalesce(max(t.sales) FILTER (WHERE t.country = 'All countries'), sum(t.sales))
            END AS sales,
            count(*) FILTER (WHERE t.country = ANY (p_countries)) AS countries
        FROM kpi.sales_target AS t
        CROSS JOIN clock AS c
        WHERE t.month_start = c.month_start
    )
    SELECT
        r.number::smallint,
        r.headline,
        r.period,
        round(r.sales, 10),
        r.compared_to,
        round(r.compared_with, 10),
        round(100 * (r.compared_sales / nullif(r.compared_with, 0) - 1), 10),
        r.note
    FROM clock AS c
    CROSS JOIN amount AS a
    CROSS JOIN forecast AS f
    CROSS JOIN LATERAL (
        SELECT CASE WHEN cardinality(p_countries) = 0 OR t.countries = (SELECT count(DISTINCT k.name) FROM unnest(p_countries) AS k (name)) THEN t.sales END AS sales
        FROM target AS t
    ) AS t
    CROSS JOIN LATERAL (
        VALUES
            (
                1, CASE WHEN c.whole_until < c.today THEN 'Last full day' ELSE 'Yesterday' END, to_char(c.whole_until - 1, 'Dy FMDD Mon YYYY'),
                CASE WHEN c.whole_until > c.first_day THEN a.yesterday END,
                'the same weekday a week before',
                CASE WHEN c.whole_until - 8 >= c.first_day THEN a.week_before END,
                a.yesterday,
                CASE WHEN c.whole_until <= c.first_day THEN 'No full day yet' WHEN a.yesterday IS NULL THEN 'Too few customers to show' END
            ),
            (
                2, 'Month to date',
                to_char(c.month_start, 'Mon YYYY') || CASE WHEN c.whole_days > 0 THEN ', ' || c.whole_days || ' of ' || (c.month_end - c.month_start) || ' days' ELSE '' END,
                CASE WHEN c.whole_days > 0 THEN a.month END,
                'the same days of last year',
                CASE WHEN c.whole_days > 0 AND c.first_day <= c.year_before THEN a.year_before END,
                a.same_days,
                CASE
                    WHEN c.whole_days = 0 THEN 'No full day yet'
                    WHEN a.month IS NULL THEN 'Too few customers to show'
                    WHEN c.first_day > c.year_before THEN 'No business then a year ago'
                END
            ),
            (
                3, 'Target to date', to_char(c.month_start, 'Mon YYYY'),
                CASE WHEN c.whole_days > 0 THEN t.sales * c.whole_days / (c.month_end - c.month_start) END,
                'month to date',
                CASE WHEN c.whole_days > 0 THEN t.sales * c.whole_days / (c.month_end - c.month_start) END,
                a.month,
                CASE
                    WHEN t.sales IS NULL THEN 'No target set'
                    ELSE 'Month''s target: ' || to_char(t.sales, 'FM999,999,999,990') || ' ' || c.currency
                END
            ),
            (
                4, 'Forecast', to_char(c.month_start, 'Mon YYYY'),
                CASE WHEN a.month IS NOT NULL THEN f.sales END,
                CASE WHEN t.sales IS NOT NULL THEN 'the target of the month' ELSE 'the same month of last year' END,
                coalesce(t.sales, CASE WHEN c.first_day <= c.year_before THEN a.whole_year_before END),
                CASE WHEN a.month IS NOT NULL THEN f.sales END,
                CASE
                    WHEN a.month IS NULL THEN 'Too few customers to show'
                    WHEN f.sales IS NULL THEN 'Needs a week of history'
                    ELSE 'Whole days less usual later losses, and for each day left the average of its weekday over the latest eight weeks'
                END
            )
    ) AS r (number, headline, period, sales, compared_to, compared_with, compared_sales, note)
    ORDER BY r.number
$headline_of$;
COMMENT ON FUNCTION kpi.headline_of(text[]) IS 'kpi.headline over the given countries; over all countries without any.';

CREATE OR REPLACE VIEW kpi.headline AS
SELECT * FROM kpi.headline_of();

COMMENT ON VIEW kpi.headline IS 'Sales of yesterday, month to date against last year, the target to date, and a forecast of the month, one row each. Unit: business currency. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.headline.position IS 'Order of the rows.';
COMMENT ON COLUMN kpi.headline.headline IS 'Name of the headline.';
COMMENT ON COLUMN kpi.headline.period IS 'Day or month that it covers.';
COMMENT ON COLUMN kpi.headline.sales IS 'Sales of the period over its whole days, or the target or forecast, in the business currency; empty before the first whole day.';
COMMENT ON COLUMN kpi.headline.compared_to IS 'What it is compared with.';
COMMENT ON COLUMN kpi.headline.compared_with IS 'The value of that, in the business currency, as known at the same age; empty if there is none.';
COMMENT ON COLUMN kpi.headline.change_percent IS 'Difference from it in percent; for the target, by how much the month to date is above or below.';
COMMENT ON COLUMN kpi.headline.note IS 'Basis of the value, or the reason why there is none.';
