SELECT
    month_start,
    CASE WHEN is_complete THEN lost_share_percent ELSE known_lost_share_percent END AS lost_share_percent,
    lost_limit_percent,
    CASE WHEN NOT is_mature THEN CASE WHEN is_complete THEN lost_share_percent ELSE known_lost_share_percent END END AS provisional_share_percent,
    CASE WHEN is_mature THEN 'final' WHEN is_complete THEN 'provisional' ELSE 'running' END AS state
FROM kpi.month_of([[{{country}}]])
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
ORDER BY month_start
