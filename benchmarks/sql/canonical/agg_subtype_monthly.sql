SELECT
    month_start,
    country,
    product_type,
    product_subtype,
    quantity::bigint,
    sales::numeric(20, 2)
FROM agg_subtype_monthly
