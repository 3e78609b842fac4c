SELECT
    month_start,
    sales_growth_percent,
    CASE WHEN NOT is_mature THEN sales_growth_percent END AS provisional_growth_percent,
    CASE WHEN is_mature THEN 'final' WHEN is_complete THEN 'provisional' ELSE 'running' END AS state
FROM kpi.month_of([[{{country}}]])
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
ORDER BY month_start
