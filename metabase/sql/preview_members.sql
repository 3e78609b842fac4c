-- Members of the rankings' dimensions in the database's own order, by which ties are broken.
SELECT
    coalesce(array_agg(DISTINCT country ORDER BY country), '{}') AS country,
    coalesce(array_agg(DISTINCT product_type ORDER BY product_type), '{}') AS product_type,
    coalesce(array_agg(DISTINCT product_subtype ORDER BY product_subtype), '{}') AS product_subtype,
    coalesce(array_agg(DISTINCT product_name ORDER BY product_name), '{}') AS product_name
FROM kpi.product_monthly
