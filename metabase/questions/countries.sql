SELECT DISTINCT country
FROM kpi.product_monthly
ORDER BY country
