SELECT
    product.product_name,
    sum(sold.quantity) AS quantity,
    sum(sold.sales) AS sales
FROM (
    SELECT
        product_id,
        sum(quantity) AS quantity,
        sum(sales) AS sales
    FROM (
        -- Without a country the totals over all of them, which are much fewer rows.
        SELECT month_start, product_type, product_id, quantity, sales
        FROM kpi.product_total_monthly
        [[WHERE '' IN ({{country}})]]
        UNION ALL
        SELECT month_start, product_type, product_id, quantity, sales
        FROM kpi.product_monthly
        WHERE FALSE
            [[OR country IN ({{country}})]]
    ) AS monthly
    WHERE TRUE
        [[AND month_start >= date_trunc('month', {{from}}::date)::date]]
        [[AND month_start <= {{to}}::date]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
) AS sold
JOIN kpi.product USING (product_id)
GROUP BY product.product_name
ORDER BY sales DESC, product.product_name
LIMIT 10
