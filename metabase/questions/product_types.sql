SELECT DISTINCT product_type
FROM kpi.product_monthly
ORDER BY product_type
