SELECT
    quarter_name,
    unique_customers
FROM kpi.customer_count_of([[{{country}}]])
WHERE TRUE
    [[AND quarter_start >= date_trunc('quarter', {{from}}::timestamp)::date]]
    [[AND quarter_start <= {{to}}::date]]
ORDER BY quarter_start
