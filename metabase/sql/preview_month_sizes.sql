SELECT
    month_start,
    count(*) AS cells
FROM kpi.product_monthly
GROUP BY month_start
ORDER BY month_start
