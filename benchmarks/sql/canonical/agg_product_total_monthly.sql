SELECT
    month_start,
    product_id,
    product_type,
    quantity::bigint,
    sales::numeric(20, 2)
FROM agg_product_total_monthly
