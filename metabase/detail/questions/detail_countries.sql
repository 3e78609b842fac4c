SELECT DISTINCT country
FROM analysis.agg_order_daily
ORDER BY country
