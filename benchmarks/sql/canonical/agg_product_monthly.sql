SELECT
    country,
    month_start,
    product_id,
    product_type,
    product_subtype,
    quantity::bigint,
    sales::numeric(20, 2)
FROM agg_product_monthly
