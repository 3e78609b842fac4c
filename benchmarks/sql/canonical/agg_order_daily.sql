SELECT
    day,
    country,
    orders::bigint,
    lost_orders::bigint,
    sales::numeric(20, 2),
    fulfilled_orders::bigint,
    hours_to_fulfil::numeric(20, 4)
FROM agg_order_daily
