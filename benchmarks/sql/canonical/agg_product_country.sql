SELECT
    country,
    product_id,
    product_type,
    quantity::bigint,
    sales::numeric(20, 2)
FROM agg_product_country
