SELECT
    complete_until,
    is_stale,
    last_run_id,
    last_run_status,
    last_run_at,
    last_successful_run_id,
    last_successful_run_at,
    today,
    whole_until,
    first_day,
    time_zone,
    currency,
    currency_decimals,
    current_timestamp AS read_at
FROM kpi.freshness
