SELECT
    kpi,
    unit,
    month_to_date,
    monthly_average,
    growth_percent,
    trend,
    is_up_good
FROM kpi.overview_of([[{{country}}]])
ORDER BY position
