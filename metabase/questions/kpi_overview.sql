SELECT
    kpi,
    unit,
    month_to_date,
    last_month,
    monthly_average,
    growth_percent,
    change_points,
    expected,
    trend,
    trend_values,
    is_up_good,
    is_provisional,
    is_last_month_provisional,
    note
FROM kpi.overview_of([[{{country}}]])
ORDER BY position
