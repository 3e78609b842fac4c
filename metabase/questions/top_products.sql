SELECT
    coalesce(product.product_name, 'Unknown') AS product_name,
    sold.quantity,
    sold.sales
FROM (
    -- The less is chosen, the fewer rows tell it: totals, by country, by month, all there is. One of the four has rows. Each sums up
    -- by itself: of rows that are united first the planner does not know how many groups they make.
    SELECT product_id, sum(quantity) AS quantity, sum(sales) AS sales
    FROM kpi.product_total
    WHERE TRUE
        [[AND '' IN ({{country}})]]
        [[AND {{from}}::date IS NULL]]
        [[AND {{to}}::date IS NULL]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
    UNION ALL
    SELECT product_id, sum(quantity), sum(sales)
    FROM kpi.product_country
    WHERE (FALSE [[OR country IN ({{country}})]])
        [[AND {{from}}::date IS NULL]]
        [[AND {{to}}::date IS NULL]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
    UNION ALL
    SELECT product_id, sum(quantity), sum(sales)
    FROM kpi.product_total_monthly
    WHERE (FALSE [[OR {{from}}::date IS NOT NULL]] [[OR {{to}}::date IS NOT NULL]])
        [[AND '' IN ({{country}})]]
        [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
        [[AND month_start <= {{to}}::date]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
    UNION ALL
    SELECT product_id, sum(quantity), sum(sales)
    FROM kpi.product_monthly
    WHERE (FALSE [[OR {{from}}::date IS NOT NULL]] [[OR {{to}}::date IS NOT NULL]])
        AND (FALSE [[OR country IN ({{country}})]])
        [[AND month_start >= date_trunc('month', {{from}}::timestamp)::date]]
        [[AND month_start <= {{to}}::date]]
        [[AND product_type IN ({{product_type}})]]
    GROUP BY product_id
    ORDER BY sales DESC, product_id
    LIMIT 10
) AS sold
-- OFFSET 0: look ten names up, do not read them all.
LEFT JOIN LATERAL (SELECT p.product_name FROM kpi.product AS p WHERE p.product_id = sold.product_id OFFSET 0) AS product ON TRUE
ORDER BY sold.sales DESC, product_name
