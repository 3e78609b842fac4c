-- Orders by day and country: what the daily, monthly and quarterly figures are summed up from. An order counts on the day it was
-- placed; its fulfilment counts on the day it was delivered, so that a month's average stands once the month is over and the
-- running month is not made up of the quick orders alone.

CREATE OR REPLACE VIEW work.agg_order_daily AS
SELECT
    f.order_id,
    d.full_date AS day,
    a.country,
    e.orders,
    e.lost_orders,
    e.sales,
    e.fulfilled_orders,
    e.hours_to_fulfil
FROM dwh.fact_order AS f
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
-- Two rows an order, not two queries over all orders.
CROSS JOIN LATERAL (
    VALUES
        (
            f.ordered_date_key, 1::bigint, f.is_lost::integer::bigint, CASE WHEN f.is_lost THEN 0 ELSE f.gross_amount END,
            0::bigint, 0::numeric
        ),
        (CASE WHEN f.hours_to_fulfil IS NOT NULL THEN f.delivered_date_key END, 0, 0, 0, 1, f.hours_to_fulfil)
) AS e (date_key, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil)
JOIN dwh.dim_date AS d ON d.date_key = e.date_key
WHERE NOT f.is_deleted
    AND d.full_date IS NOT NULL;

COMMENT ON VIEW work.agg_order_daily IS 'What each order contributes to dwh.agg_order_daily: a row for its order, a row for its delivery.';
COMMENT ON COLUMN work.agg_order_daily.order_id IS 'Order: the contribution key.';
COMMENT ON COLUMN work.agg_order_daily.day IS 'Day of the order, or of the delivery.';
COMMENT ON COLUMN work.agg_order_daily.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_order_daily.orders IS 'Orders.';
COMMENT ON COLUMN work.agg_order_daily.lost_orders IS 'Lost orders.';
COMMENT ON COLUMN work.agg_order_daily.sales IS 'Gross amount, 0 for a lost order.';
COMMENT ON COLUMN work.agg_order_daily.fulfilled_orders IS 'Delivered orders.';
COMMENT ON COLUMN work.agg_order_daily.hours_to_fulfil IS 'Hours from order to delivery.';

SELECT etl.define_aggregate(
    'agg_order_daily',
    p_group => '{day,country}',
    p_measures => '{orders,lost_orders,sales,fulfilled_orders,hours_to_fulfil}',
    p_contribution_key => '{order_id}',
    p_facts => ARRAY[
        etl.fed_by('fact_order', '{address_key,ordered_date_key,delivered_date_key,gross_amount,hours_to_fulfil,is_lost,is_deleted}')
    ]
);
