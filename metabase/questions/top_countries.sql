SELECT
    country,
    sum(quantity) AS quantity,
    sum(sales) AS sales,
    round(100 * sum(sales) / nullif(sum(sum(sales)) OVER (), 0), 1) AS share_percent
FROM kpi.subtype_monthly
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
    [[AND country IN ({{country}})]]
    [[AND product_type IN ({{product_type}})]]
GROUP BY country
ORDER BY sales DESC, country
LIMIT 10
