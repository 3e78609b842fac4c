SELECT
    quarter_name,
    sales
FROM kpi.quarter_of([[{{country}}]])
WHERE TRUE
    [[AND quarter_start >= date_trunc('quarter', {{from}}::timestamp)::date]]
    [[AND quarter_start <= {{to}}::date]]
ORDER BY quarter_start
