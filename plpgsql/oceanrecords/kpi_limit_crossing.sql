-- Days on which the share of lost orders of a month rose above the limit: an alert that asks for the new ones is sent once per crossing.

CREATE OR REPLACE VIEW kpi.limit_crossing AS
WITH clock AS MATERIALIZED (
    SELECT
        c.*,
        -- How far the KPIs were complete a day ago: crossings since then are new, even if a load was late or missed.
        CASE
            WHEN c.today = (now() AT TIME ZONE c.time_zone)::date THEN (
                SELECT (max(r.started_at) AT TIME ZONE c.time_zone)::date
                FROM etl.run AS r
                WHERE r.status IN ('succeeded', 'partial')
                    AND r.only_tasks IS NULL
                    AND r.ended_at <= now() - interval '1 day'
                    -- A check that fails, or a dimension, leaves the counts of a run as they should be.
                    AND NOT EXISTS (
                        SELECT FROM etl.task_run AS t
                        WHERE t.run_id = r.run_id
                            AND t.kind IN ('extract', 'stage', 'fact', 'aggregate')
                            AND t.status <> 'succeeded'
                    )
            )
        END AS known_until
    FROM work.kpi_clock AS c
),
event AS (
    -- Orders allowed to be lost count on the day of the order, lost ones on the day of the loss.
    SELECT
        date_trunc('month', a.day::timestamp)::date AS month_start,
        a.day,
        a.orders,
        0 AS lost_orders,
        a.orders * (
            SELECT l.limit_share
            FROM kpi.lost_order_limit AS l
            WHERE l.valid_from <= a.day
            ORDER BY l.valid_from DESC
            LIMIT 1
        ) AS allowed_orders
    FROM dwh.agg_order_daily AS a
    CROSS JOIN clock AS c
    WHERE a.day >= c.month_start - interval '1 month'
    UNION ALL
    SELECT date_trunc('month', l.day::timestamp)::date, l.lost_on, 0, l.lost_orders, 0
    FROM dwh.agg_order_lost_daily AS l
    CROSS JOIN clock AS c
    WHERE l.day >= c.month_start - interval '1 month'
),
known AS (
    SELECT
        e.month_start,
        e.day,
        sum(sum(e.orders)) OVER w AS orders,
        sum(sum(e.lost_orders)) OVER w AS lost_orders,
        -- A day whose limit is not known leaves its month without one.
        CASE WHEN every(every(e.allowed_orders IS NOT NULL)) OVER w THEN sum(sum(e.allowed_orders)) OVER w END AS allowed_orders
    FROM event AS e
    CROSS JOIN clock AS c
    WHERE e.day < c.whole_until
    GROUP BY e.month_start, e.day
    WINDOW w AS (PARTITION BY e.month_start ORDER BY e.day)
),
compared AS (
    SELECT
        k.*,
        lag(k.lost_orders > k.allowed_orders, 1, false) OVER (PARTITION BY k.month_start ORDER BY k.day) AS was_above
    FROM known AS k
)
SELECT
    k.month_start,
    k.day AS crossed_on,
    round(100 * k.lost_orders / nullif(k.orders, 0), 10) AS lost_share_percent,
    round(100 * k.allowed_orders / nullif(k.orders, 0), 10) AS lost_limit_percent,
    round(100 * (k.lost_orders - k.allowed_orders) / nullif(k.orders, 0), 10) AS lost_deviation_points,
    k.day >= coalesce(c.known_until, c.whole_until - 1) AS is_new
FROM compared AS k
CROSS JOIN clock AS c
WHERE k.lost_orders > k.allowed_orders
    AND NOT k.was_above;

COMMENT ON VIEW kpi.limit_crossing IS 'Days on which the share of lost orders of the current month, or of the one before, rose above the limit. Grain: a month and a day. Unit: percent, percentage points. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.limit_crossing.month_start IS 'First day of the month of the orders.';
COMMENT ON COLUMN kpi.limit_crossing.crossed_on IS 'Day with which the share rose above the limit.';
COMMENT ON COLUMN kpi.limit_crossing.lost_share_percent IS 'Share of lost orders as known when that day ended, in percent.';
COMMENT ON COLUMN kpi.limit_crossing.lost_limit_percent IS 'The limit, in percent: each order by the limit of its day.';
COMMENT ON COLUMN kpi.limit_crossing.lost_deviation_points IS 'Share minus limit, in percentage points.';
COMMENT ON COLUMN kpi.limit_crossing.is_new IS 'Whether the KPIs reached that day within the last 24 hours. A question asked once a day returns each crossing once.';
