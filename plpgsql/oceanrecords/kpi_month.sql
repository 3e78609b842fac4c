/*
Figures by month, over the chosen countries. Every month from the first order to today is there, with zero where nothing happened and
empty where a ratio has nothing to divide by. Ratios have ten decimals: they are rounded once, where they are shown.

Growth compares like with like, in three respects:
  * Days. A complete month is compared with the whole month before. The current month is compared over its whole days (over and loaded) with
    the same days of the month before; both sides are clipped to the shorter month. Before the first whole day nothing is compared.
  * Age. Orders are cancelled and refunded for weeks. The earlier period is therefore taken as it was known at the same age: for the
    current month as many days after its start, for a complete month as many days after its end.
  * Completeness. A month in which business began after its first day is not compared with.

A month is mature when its youngest orders are older than the age by which 95 percent of lost orders are lost (work.kpi_loss_curve).
Until then it is provisional, and the expected values say what it becomes if orders are lost at the usual pace.

A chosen country with a small group of customers in a month is left out of that month (work.kpi_small_country).

Parameters: p_countries, names of countries; none for all.
Returns:    one row per month, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.month_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    month_start date,
    month_name text,
    is_complete boolean,
    is_from_start boolean,
    is_mature boolean,
    whole_days integer,
    compared_days integer,
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
    known_sales numeric,
    known_average_order_value numeric,
    known_lost_share_percent numeric,
    known_lost_deviation_points numeric,
    known_fulfilment_hours numeric,
    before_sales numeric,
    before_average_order_value numeric,
    before_lost_share_percent numeric,
    before_fulfilment_hours numeric,
    sales_growth_percent numeric,
    average_order_value_growth_percent numeric,
    lost_share_change_points numeric,
    fulfilment_growth_percent numeric,
    expected_sales numeric,
    expected_lost_share_percent numeric,
    expected_lost_deviation_points numeric,
    is_suppressed boolean
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
    curve AS MATERIALIZED (
        SELECT * FROM work.kpi_loss_curve
    ),
    usual AS (
        SELECT coalesce(min(v.age_days) FILTER (WHERE v.part_of_final >= 0.95), 0) AS age_days
        FROM curve AS v
    ),
    month AS (
        SELECT
            g.moment::date AS month_start,
            (g.moment + interval '1 month')::date AS next_start,
            (g.moment - interval '1 month')::date AS before_start,
            c.whole_until,
            c.horizon,
            g.moment::date >= c.first_day AS is_from_start,
            (g.moment - interval '1 month')::date >= c.first_day AS is_before_whole,
            (g.moment + interval '1 month')::date <= c.whole_until AS is_complete,
            least(greatest(c.whole_until - g.moment::date, 0), (g.moment + interval '1 month')::date - g.moment::date) AS whole_days
        FROM clock AS c
        CROSS JOIN LATERAL generate_series(
            date_trunc('month', least(c.first_day, c.today)::timestamp),
            date_trunc('month', c.last_day::timestamp),
            interval '1 month'
        ) AS g (moment)
    ),
    small AS MATERIALIZED (
        SELECT s.*
        FROM work.kpi_small_country AS s
        WHERE cardinality(p_countries) > 0
    ),
    daily AS MATERIALIZED (
        SELECT
            a.day,
            date_trunc('month', a.day::timestamp)::date AS month_start,
            sum(a.orders) AS orders,
            sum(a.lost_orders) AS lost_orders,
            sum(a.sales) AS sales,
            sum(a.fulfilled_orders) AS fulfilled_orders,
            sum(a.hours_to_fulfil) AS hours_to_fulfil
        FROM dwh.agg_order_daily AS a
        CROSS JOIN clock AS c
        LEFT JOIN small AS s ON s.country = a.country AND s.month_start = date_trunc('month', a.day::timestamp)::date
        WHERE (cardinality(p_countries) = 0 OR coalesce(s.shown_as, a.country) = ANY (p_countries))
            AND a.day <= c.horizon
        GROUP BY a.day
    ),
    suppressed AS MATERIALIZED (
        SELECT DISTINCT s.month_start
        FROM small AS s
        WHERE s.country = ANY (p_countries)
    ),
    lost AS MATERIALIZED (
        SELECT
            a.day,
            a.lost_on,
            date_trunc('month', a.day::timestamp)::date AS month_start,
            sum(a.lost_orders) AS orders,
            sum(a.lost_amount) AS amount
        FROM dwh.agg_order_lost_daily AS a
        CROSS JOIN clock AS c
        LEFT JOIN small AS s ON s.country = a.country AND s.month_start = date_trunc('month', a.day::timestamp)::date
        WHERE (cardinality(p_countries) = 0 OR coalesce(s.shown_as, a.country) = ANY (p_countries))
            AND a.day <= c.horizon
        GROUP BY a.day, a.lost_on
    ),
    limited AS MATERIALIZED (
        SELECT
            d.*,
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
    -- Each month in four roles: all that is loaded, its whole days as known when the last of them ended, and both sides of its growth.
    frame AS (
        SELECT
            m.month_start,
            r.role,
            r.first_day,
            r.until,
            -- Losses from this day on do not count yet.
            r.known_until
        FROM month AS m
        CROSS JOIN LATERAL (
            VALUES
                ('all', m.month_start, m.next_start, m.horizon + 1),
                ('known', m.month_start, m.month_start + m.whole_days, m.whole_until),
                (
                    'now', m.month_start,
                    CASE
                        WHEN m.is_complete THEN m.next_start
                        ELSE m.month_start + least(m.whole_days, m.month_start - m.before_start)
                    END,
                    m.whole_until
                ),
                (
                    'before', m.before_start,
                    CASE
                        WHEN m.is_complete THEN m.month_start
                        ELSE m.before_start + least(m.whole_days, m.month_start - m.before_start)
                    END,
                    CASE
                        WHEN m.is_complete THEN m.month_start + (m.whole_until - m.next_start)
                        ELSE m.before_start + m.whole_days
                    END
                )
        ) AS r (role, first_day, until, known_until)
        WHERE (r.role = 'all' OR m.whole_days > 0 AND (r.role <> 'before' OR m.is_before_whole))
            -- Nothing is known of a month of which all was suppressed.
            AND (
                r.first_day NOT IN (SELECT s.month_start FROM suppressed AS s)
                OR r.first_day IN (SELECT d.month_start FROM daily AS d)
            )
    ),
    placed AS (
        SELECT
            f.month_start,
            f.role,
            coalesce(sum(d.orders), 0) AS orders,
            coalesce(sum(d.lost_orders), 0) AS lost_orders,
            coalesce(sum(d.sales), 0) AS sales,
            CASE WHEN count(d.day) = count(d.allowed_orders) THEN sum(d.allowed_orders) END AS allowed_orders,
            coalesce(sum(d.fulfilled_orders), 0) AS fulfilled_orders,
            sum(d.hours_to_fulfil) / nullif(sum(d.fulfilled_orders), 0) AS hours
        FROM frame AS f
        LEFT JOIN limited AS d
            ON d.month_start = f.first_day
            AND d.day < f.until
        GROUP BY f.month_start, f.role
    ),
    late AS (
        -- Lost since, and not lost yet as far as was known.
        SELECT
            f.month_start,
            f.role,
            sum(l.orders) AS orders,
            sum(l.amount) AS amount
        FROM frame AS f
        JOIN lost AS l
            ON l.month_start = f.first_day
            AND l.day < f.until
            AND l.lost_on >= f.known_until
        GROUP BY f.month_start, f.role
    ),
    figure AS (
        SELECT
            p.month_start,
            p.role,
            p.orders,
            p.lost_orders - coalesce(l.orders, 0) AS lost_orders,
            p.sales + coalesce(l.amount, 0) AS sales,
            p.allowed_orders / nullif(p.orders, 0) AS limit_share,
            (p.sales + coalesce(l.amount, 0)) / nullif(p.orders - p.lost_orders + coalesce(l.orders, 0), 0) AS order_value,
            (p.lost_orders - coalesce(l.orders, 0)) / nullif(p.orders, 0) AS lost_share,
            p.fulfilled_orders,
            p.hours
        FROM placed AS p
        LEFT JOIN late AS l
            ON l.month_start = p.month_start
            AND l.role = p.role
    ),
    young AS (
        -- What is still lost of the orders of whole days, at the usual pace.
        SELECT
            d.month_start,
            sum((d.orders - d.lost_orders + coalesce(t.orders, 0)) * v.later_share) AS orders,
            sum((d.sales + coalesce(t.amount, 0)) * v.later_share) AS amount
        FROM daily AS d
        CROSS JOIN clock AS c
        JOIN curve AS v ON v.age_days = c.whole_until - 1 - d.day
        LEFT JOIN (
            SELECT l.day, sum(l.orders) AS orders, sum(l.amount) AS amount
            FROM lost AS l
            CROSS JOIN clock AS k
            WHERE l.lost_on >= k.whole_until
            GROUP BY l.day
        ) AS t ON t.day = d.day
        GROUP BY d.month_start
    )
    SELECT
        m.month_start,
        to_char(m.month_start, 'Mon YYYY'),
        m.is_complete,
        m.is_from_start,
        m.is_complete AND m.whole_until - m.next_start >= u.age_days,
        m.whole_days,
        CASE
            WHEN m.whole_days = 0 THEN 0
            WHEN m.is_complete THEN m.whole_days
            ELSE least(m.whole_days, m.month_start - m.before_start)
        END,
        a.orders::bigint,
        a.lost_orders::bigint,
        a.sales,
        round(a.order_value, 10),
        round(100 * a.lost_share, 10),
        round(100 * coalesce(a.limit_share, e.limit_share), 10),
        round(100 * (a.lost_share - a.limit_share), 10),
        a.fulfilled_orders::bigint,
        round(a.hours, 10),
        round(a.hours / 24, 10),
        k.sales,
        round(k.order_value, 10),
        round(100 * k.lost_share, 10),
        round(100 * (k.lost_share - k.limit_share), 10),
        round(k.hours, 10),
        b.sales,
        round(b.order_value, 10),
        round(100 * b.lost_share, 10),
        round(b.hours, 10),
        round(100 * (n.sales / nullif(b.sales, 0) - 1), 10),
        round(100 * (n.order_value / nullif(b.order_value, 0) - 1), 10),
        round(100 * (n.lost_share - b.lost_share), 10),
        round(100 * (n.hours / nullif(b.hours, 0) - 1), 10),
        round(k.sales - coalesce(y.amount, 0), 10),
        round(100 * (k.lost_orders + coalesce(y.orders, 0)) / nullif(k.orders, 0), 10),
        round(100 * ((k.lost_orders + coalesce(y.orders, 0)) / nullif(k.orders, 0) - k.limit_share), 10),
        m.month_start IN (SELECT s.month_start FROM suppressed AS s)
    FROM month AS m
    CROSS JOIN usual AS u
    LEFT JOIN figure AS a
        ON a.month_start = m.month_start
        AND a.role = 'all'
    LEFT JOIN figure AS k
        ON k.month_start = m.month_start
        AND k.role = 'known'
    LEFT JOIN figure AS n
        ON n.month_start = m.month_start
        AND n.role = 'now'
    LEFT JOIN figure AS b
        ON b.month_start = m.month_start
        AND b.role = 'before'
    LEFT JOIN young AS y ON y.month_start = m.month_start
    LEFT JOIN LATERAL (
        SELECT r.limit_share
        FROM kpi.lost_order_limit AS r
        WHERE r.valid_from <= m.month_start
            AND a.orders = 0
        ORDER BY r.valid_from DESC
        LIMIT 1
    ) AS e ON true
    ORDER BY m.month_start
$month_of$;
COMMENT ON FUNCTION kpi.month_of(text[]) IS 'kpi.month over the given countries; over all countries without any.';

CREATE OR REPLACE VIEW kpi.month AS
SELECT * FROM kpi.month_of();

COMMENT ON VIEW kpi.month IS 'Sales, Average Order Value, Lost Order Deviation, Average Order Fulfillment and their growth by month, without a gap up to the current month. Unit: business currency, percent, percentage points, hours, days. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.month.month_start IS 'First day of the month, in the business time zone.';
COMMENT ON COLUMN kpi.month.month_name IS 'Month and year, such as Mar 2025.';
COMMENT ON COLUMN kpi.month.is_complete IS 'Whether all days of the month are over and loaded; a month that is not is current.';
COMMENT ON COLUMN kpi.month.is_from_start IS 'Whether there was business since the first day of the month; a month in which it began later counts in no average and no comparison.';
COMMENT ON COLUMN kpi.month.is_mature IS 'Whether 95 percent of the orders that are lost in the end are lost by now; a month that is not is provisional.';
COMMENT ON COLUMN kpi.month.whole_days IS 'Days of the month that are over and loaded.';
COMMENT ON COLUMN kpi.month.compared_days IS 'Days of the month that growth compares: all of a complete month; of the current month its whole days, at most as many as the month before has.';
COMMENT ON COLUMN kpi.month.orders IS 'Orders placed, lost ones included.';
COMMENT ON COLUMN kpi.month.lost_orders IS 'Orders placed in the month that were cancelled or refunded since.';
COMMENT ON COLUMN kpi.month.sales IS 'Sales: amount of the orders that were not lost, by date of order, in the business currency.';
COMMENT ON COLUMN kpi.month.average_order_value IS 'Average Order Value: sales divided by the number of orders that were not lost, in the business currency; empty without such orders.';
COMMENT ON COLUMN kpi.month.lost_share_percent IS 'Share of orders that were lost, in percent; empty without orders.';
COMMENT ON COLUMN kpi.month.lost_limit_percent IS 'Limit of that share, in percent: of kpi.lost_order_limit, each order by the limit of its day.';
COMMENT ON COLUMN kpi.month.lost_deviation_points IS 'Lost Order Deviation: share of lost orders minus the limit, in percentage points; above 0 is worse than the limit. Empty without orders.';
COMMENT ON COLUMN kpi.month.fulfilled_orders IS 'Orders delivered in the month.';
COMMENT ON COLUMN kpi.month.fulfilment_hours IS 'Average Order Fulfillment: hours from order to delivery, over the orders delivered in the month; empty without any.';
COMMENT ON COLUMN kpi.month.fulfilment_days IS 'Average Order Fulfillment in days of 24 hours.';
COMMENT ON COLUMN kpi.month.known_sales IS 'Sales of the whole days, in the business currency, as known when the last of them ended; empty before the first whole day.';
COMMENT ON COLUMN kpi.month.known_average_order_value IS 'Average Order Value of the whole days, in the business currency, as known when the last of them ended.';
COMMENT ON COLUMN kpi.month.known_lost_share_percent IS 'Share of lost orders of the whole days, as known when the last of them ended, in percent.';
COMMENT ON COLUMN kpi.month.known_lost_deviation_points IS 'Lost Order Deviation of the whole days, as known when the last of them ended, in percentage points.';
COMMENT ON COLUMN kpi.month.known_fulfilment_hours IS 'Average Order Fulfillment of the whole days, in hours.';
COMMENT ON COLUMN kpi.month.before_sales IS 'Sales of the period that growth compares with, in the business currency, as known at the same age; empty if business began within it.';
COMMENT ON COLUMN kpi.month.before_average_order_value IS 'Average Order Value of that period, in the business currency, as known at the same age.';
COMMENT ON COLUMN kpi.month.before_lost_share_percent IS 'Share of lost orders of that period, as known at the same age, in percent.';
COMMENT ON COLUMN kpi.month.before_fulfilment_hours IS 'Average Order Fulfillment of that period, in hours.';
COMMENT ON COLUMN kpi.month.sales_growth_percent IS 'Growth of sales in percent: a complete month against the month before, the current one over its whole days against the same days of the month before, as known at the same age. Empty if there is nothing to compare with.';
COMMENT ON COLUMN kpi.month.average_order_value_growth_percent IS 'Growth of Average Order Value in percent, compared in the same way.';
COMMENT ON COLUMN kpi.month.lost_share_change_points IS 'Change of the share of lost orders in percentage points, compared in the same way.';
COMMENT ON COLUMN kpi.month.fulfilment_growth_percent IS 'Growth of Average Order Fulfillment in percent, compared in the same way.';
COMMENT ON COLUMN kpi.month.expected_sales IS 'Sales of the whole days less the orders that are usually lost later (kpi.loss_curve), in the business currency: an expected value.';
COMMENT ON COLUMN kpi.month.expected_lost_share_percent IS 'Share of lost orders of the whole days once the usual later losses are added, in percent: an expected value.';
COMMENT ON COLUMN kpi.month.expected_lost_deviation_points IS 'Lost Order Deviation that follows from it, in percentage points: an expected value.';
COMMENT ON COLUMN kpi.month.is_suppressed IS 'Whether a small group (setting small_group) was suppressed: all of the month, which is empty then, or some of the chosen countries.';
