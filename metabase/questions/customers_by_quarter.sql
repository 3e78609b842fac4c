SELECT
    quarter.quarter_name,
    count(DISTINCT customer.customer_id) AS unique_customers
FROM kpi.quarter
LEFT JOIN kpi.customer_quarterly AS customer
    ON customer.quarter_start = quarter.quarter_start
    [[AND customer.country IN ({{country}})]]
WHERE TRUE
    [[AND quarter.quarter_start >= date_trunc('quarter', {{from}}::date)::date]]
    [[AND quarter.quarter_start <= {{to}}::date]]
GROUP BY quarter.quarter_start, quarter.quarter_name
ORDER BY quarter.quarter_start
