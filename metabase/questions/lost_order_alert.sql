SELECT
    month_start,
    crossed_on,
    lost_share_percent,
    lost_limit_percent,
    lost_deviation_points
FROM kpi.limit_crossing
WHERE is_new
ORDER BY month_start
