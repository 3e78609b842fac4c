SELECT
    coalesce(to_char(complete_until AT TIME ZONE time_zone, 'FMDD Mon YYYY HH24:MI'), 'not loaded yet') AS complete_until,
    is_stale,
    whole_until,
    currency,
    time_zone
FROM kpi.freshness
