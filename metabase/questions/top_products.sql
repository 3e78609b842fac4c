SELECT
    coalesce(product.product_name, 'Unknown') AS product_name,
    sold.quantity,
    sold.sales
FROM (
    SELECT
        product_id,
        sum(quantity) AS quantity,
        sum(sales) AS sales
    FROM (
        -- The less is chosen, the fewer rows tell it: totals without country and period, totals by month, all there is.
        SELECT NULL::date AS month_start, product_type, product_id, quantity, sales
        FROM kpi.product_total
        WHERE TRUE
            [[AND '' IN ({{country}})]]
            [[AND {{from}}::date IS NULL]]
            [[AND {{to}}::date IS NULL]]
        UNION ALL
        SELECT month_start, product_type, product_id, quantity, sales
        FROM kpi.product_total_monthly
        WHERE (FALSE [[OR {{from}}::date IS NOT NULL]] [[OR {{to}}::date IS NOT NULL]])
            [[AND '' IN ({{country}})]]
        UNION ALL
        SELECT month_start, product_type, product_id, quantity, sales
        FROM kpi.product_monthly
        WHERE FALSE
            [[OR country IN ({{country}})]]
    ) AS chosen
    WHERE TRUE
        [[AND month_start >= date_trunc('month', {{from}}::date)::date]]
        [[AND month_start <= {{to}}::date]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
    ORDER BY sales DESC, product_id
    LIMIT 10
) AS sold
-- OFFSET 0: look ten names up, do not read them all.
LEFT JOIN LATERAL (SELECT p.product_name FROM kpi.product AS p WHERE p.product_id = sold.product_id OFFSET 0) AS product ON TRUE
ORDER BY sold.sales DESC, product_name
