SELECT
    country,
    sum(quantity) AS quantity,
    sum(sales) AS sales
FROM kpi.subtype_monthly
WHERE TRUE
    [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
    [[AND month_start <= {{to}}::date]]
    [[AND country IN ({{country}})]]
    [[AND product_type IN ({{product_type}})]]
GROUP BY country
ORDER BY sales DESC, country
LIMIT 10
