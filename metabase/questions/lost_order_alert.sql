SELECT
    month_start,
    lost_share_percent,
    lost_limit_percent,
    lost_deviation_points
FROM kpi.month
WHERE month_start >= (SELECT max(month_start) FROM kpi.month) - interval '1 month'
    AND lost_deviation_points > 0
ORDER BY month_start
