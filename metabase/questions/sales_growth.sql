SELECT
    month_start,
    sales_growth_percent
FROM kpi.month_of([[{{country}}]])
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
ORDER BY month_start
