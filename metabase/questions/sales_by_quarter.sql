SELECT
    quarter_name,
    sales,
    CASE WHEN is_mature THEN sales END AS final_sales,
    CASE WHEN NOT is_mature THEN sales END AS provisional_sales,
    CASE WHEN is_mature THEN 'final' WHEN is_complete THEN 'provisional' ELSE 'running' END AS state
FROM kpi.quarter_of([[{{country}}]])
WHERE TRUE
    [[AND quarter_start >= date_trunc('quarter', {{from}}::timestamp)::date]]
    [[AND quarter_start <= {{to}}::date]]
ORDER BY quarter_start
