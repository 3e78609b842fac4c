-- Lost orders by the day on which they were placed and the day on which they were lost. A young period has had little time to lose
-- orders: with this table the figures compare it with what was known of an earlier period at the same age. Lost orders are few, and
-- so are the rows.

CREATE OR REPLACE VIEW work.agg_order_lost_daily AS
SELECT
    f.order_id,
    d.full_date AS day,
    coalesce((f.lost_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date, d.full_date) AS lost_on,
    a.country,
    f.is_lost::integer::bigint AS lost_orders,
    f.gross_amount AS lost_amount
FROM dwh.fact_order AS f
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
WHERE NOT f.is_deleted
    AND f.is_lost
    AND d.full_date IS NOT NULL;

COMMENT ON VIEW work.agg_order_lost_daily IS 'What each lost order contributes to dwh.agg_order_lost_daily.';
COMMENT ON COLUMN work.agg_order_lost_daily.order_id IS 'Order: the contribution key.';
COMMENT ON COLUMN work.agg_order_lost_daily.day IS 'Day of the order.';
COMMENT ON COLUMN work.agg_order_lost_daily.lost_on IS 'Day of the loss; the day of the order if the moment is unknown.';
COMMENT ON COLUMN work.agg_order_lost_daily.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_order_lost_daily.lost_orders IS 'Orders.';
COMMENT ON COLUMN work.agg_order_lost_daily.lost_amount IS 'Gross amount.';

SELECT etl.define_aggregate(
    'agg_order_lost_daily',
    p_group => '{day,lost_on,country}',
    p_measures => '{lost_orders,lost_amount}',
    p_contribution_key => '{order_id}',
    p_facts => ARRAY[
        etl.fed_by('fact_order', '{address_key,ordered_date_key,gross_amount,lost_at,is_lost,is_deleted}')
    ]
);
