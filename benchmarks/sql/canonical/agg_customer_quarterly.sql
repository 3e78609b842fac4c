SELECT
    country,
    quarter_start,
    customer_id,
    orders::bigint
FROM agg_customer_quarterly
