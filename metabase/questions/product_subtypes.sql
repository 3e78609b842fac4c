SELECT DISTINCT product_subtype
FROM kpi.subtype_monthly
ORDER BY product_subtype
