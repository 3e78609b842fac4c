SELECT
    month_start,
    sales_growth_percent
FROM kpi.month
WHERE is_complete
    [[AND month_start >= date_trunc('month', {{from}}::date)::date]]
    [[AND month_start <= {{to}}::date]]
ORDER BY month_start
