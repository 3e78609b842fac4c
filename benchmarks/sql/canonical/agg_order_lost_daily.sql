SELECT
    day,
    lost_on,
    country,
    lost_orders::bigint,
    lost_amount::numeric(20, 2)
FROM agg_order_lost_daily
