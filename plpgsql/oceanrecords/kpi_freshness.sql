CREATE OR REPLACE VIEW kpi.freshness AS
SELECT
    c.complete_until,
    clock_timestamp() - c.complete_until AS age,
    c.complete_until IS NULL OR clock_timestamp() - c.complete_until > c.stale_after AS is_stale,
    r.run_id AS last_run_id,
    r.status AS last_run_status,
    r.ended_at AS last_run_at,
    g.run_id AS last_successful_run_id,
    g.ended_at AS last_successful_run_at,
    c.today,
    c.whole_until,
    c.time_zone,
    c.currency,
    c.first_day,
    c.currency_decimals
FROM work.kpi_clock AS c
LEFT JOIN LATERAL (
    SELECT n.run_id, n.status, n.ended_at
    FROM etl.run AS n
    WHERE n.ended_at IS NOT NULL
    ORDER BY n.run_id DESC
    LIMIT 1
) AS r ON true
LEFT JOIN LATERAL (
    SELECT n.run_id, n.ended_at
    FROM etl.run AS n
    WHERE n.status = 'succeeded'
    ORDER BY n.run_id DESC
    LIMIT 1
) AS g ON true;

COMMENT ON VIEW kpi.freshness IS 'Freshness of the KPIs, in one row. Source: runs and watermarks of the warehouse.';
COMMENT ON COLUMN kpi.freshness.complete_until IS 'Time of the operational system up to which the KPIs are complete; empty before the first load.';
COMMENT ON COLUMN kpi.freshness.age IS 'Lag: time since complete_until.';
COMMENT ON COLUMN kpi.freshness.is_stale IS 'Whether the lag exceeds the setting stale_after.';
COMMENT ON COLUMN kpi.freshness.last_run_id IS 'Last run that ended.';
COMMENT ON COLUMN kpi.freshness.last_run_status IS 'Outcome of that run: succeeded, partial or failed.';
COMMENT ON COLUMN kpi.freshness.last_run_at IS 'End of that run.';
COMMENT ON COLUMN kpi.freshness.last_successful_run_id IS 'Last run of which all tasks succeeded.';
COMMENT ON COLUMN kpi.freshness.last_successful_run_at IS 'End of that run.';
COMMENT ON COLUMN kpi.freshness.today IS 'Date that the KPIs use as today, in the business time zone.';
COMMENT ON COLUMN kpi.freshness.whole_until IS 'First day that is not over, or not wholly loaded: periods that reach it are current.';
COMMENT ON COLUMN kpi.freshness.first_day IS 'First day with an order; today if there is none.';
COMMENT ON COLUMN kpi.freshness.time_zone IS 'Business time zone: it decides on which day an order falls.';
COMMENT ON COLUMN kpi.freshness.currency IS 'Currency of all amounts, ISO 4217.';
COMMENT ON COLUMN kpi.freshness.currency_decimals IS 'Decimals of amounts in that currency.';
