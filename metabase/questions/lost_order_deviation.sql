SELECT
    month_start,
    CASE WHEN is_complete THEN lost_deviation_points ELSE known_lost_deviation_points END AS lost_deviation_points,
    CASE WHEN NOT is_mature THEN expected_lost_deviation_points END AS expected_deviation_points,
    CASE WHEN is_mature THEN 'final' WHEN is_complete THEN 'provisional' ELSE 'running' END AS state
FROM kpi.month_of([[{{country}}]])
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
ORDER BY month_start
