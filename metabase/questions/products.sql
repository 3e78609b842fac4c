SELECT DISTINCT product_name
FROM kpi.product
ORDER BY product_name
