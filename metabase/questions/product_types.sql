SELECT product_type
FROM kpi.product_type
ORDER BY product_type
