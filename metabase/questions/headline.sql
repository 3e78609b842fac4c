SELECT
    headline,
    period,
    sales,
    compared_to,
    compared_with,
    change_percent,
    note
FROM kpi.headline_of([[{{country}}]])
ORDER BY position
