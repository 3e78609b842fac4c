-- Members of the rankings' dimensions in the database's own order, which decides among equals.
WITH member AS (
    SELECT country, product_type, product_subtype, product_name
    FROM kpi.product_monthly
    UNION ALL
    SELECT country, product_type, product_subtype, product_name
    FROM kpi.late_loss
)
SELECT
    coalesce(array_agg(DISTINCT country ORDER BY country), '{}') AS country,
    coalesce(array_agg(DISTINCT product_type ORDER BY product_type), '{}') AS product_type,
    coalesce(array_agg(DISTINCT product_subtype ORDER BY product_subtype), '{}') AS product_subtype,
    coalesce(array_agg(DISTINCT product_name ORDER BY product_name), '{}') AS product_name
FROM member
