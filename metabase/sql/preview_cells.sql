-- Months before the first one of the page are one: a NULL.
SELECT
    CASE WHEN month_start >= %(first_month)s::date THEN month_start END AS month_start,
    country,
    product_type,
    product_subtype,
    product_name,
    sum(quantity) AS quantity,
    sum(sales) AS sales
FROM kpi.product_monthly
GROUP BY 1, 2, 3, 4, 5
