-- Orders, grain: an order. Its measures sum up its lines, so a change of a line is a change of its order.

CREATE OR REPLACE VIEW work.fact_order AS
SELECT
    o.order_id,
    o.customer_id,
    o.address_id,
    o.payment_method_id,
    o.order_status_id,
    (o.ordered_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS ordered_on,
    (o.shipped_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS shipped_on,
    (o.delivered_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS delivered_on,
    o.ordered_at,
    o.shipped_at,
    o.delivered_at,
    CASE WHEN s.is_lost THEN coalesce(o.cancelled_at, o.refunded_at) END AS lost_at,
    coalesce(l.line_count, 0) AS line_count,
    coalesce(l.quantity, 0) AS quantity,
    coalesce(l.gross_amount, 0) AS gross_amount,
    round(extract(epoch FROM o.delivered_at - o.ordered_at) / 3600, 4) AS hours_to_fulfil,
    coalesce(s.is_lost, false) AS is_lost,
    o.deleted_at
FROM stage.orders AS o
LEFT JOIN stage.order_statuses AS s ON s.order_status_id = o.order_status_id AND s.deleted_at IS NULL
LEFT JOIN (
    SELECT
        n.order_id,
        count(*)::integer AS line_count,
        sum(n.quantity) AS quantity,
        sum(n.quantity * n.unit_price) AS gross_amount
    FROM stage.order_lines AS n
    WHERE n.deleted_at IS NULL
    GROUP BY n.order_id
) AS l USING (order_id);

COMMENT ON VIEW work.fact_order IS 'Orders as they are now, with the sums of their lines.';
COMMENT ON COLUMN work.fact_order.order_id IS 'Order: the business key.';
COMMENT ON COLUMN work.fact_order.customer_id IS 'Customer.';
COMMENT ON COLUMN work.fact_order.address_id IS 'Address.';
COMMENT ON COLUMN work.fact_order.payment_method_id IS 'Payment method.';
COMMENT ON COLUMN work.fact_order.order_status_id IS 'Status.';
COMMENT ON COLUMN work.fact_order.ordered_on IS 'Date of the order, in the business time zone.';
COMMENT ON COLUMN work.fact_order.shipped_on IS 'Date of shipping.';
COMMENT ON COLUMN work.fact_order.delivered_on IS 'Date of delivery.';
COMMENT ON COLUMN work.fact_order.ordered_at IS 'Moment of the order.';
COMMENT ON COLUMN work.fact_order.shipped_at IS 'Moment of shipping.';
COMMENT ON COLUMN work.fact_order.delivered_at IS 'Moment of delivery.';
COMMENT ON COLUMN work.fact_order.lost_at IS 'Moment of the cancellation or refund of a lost order.';
COMMENT ON COLUMN work.fact_order.line_count IS 'Lines.';
COMMENT ON COLUMN work.fact_order.quantity IS 'Pieces.';
COMMENT ON COLUMN work.fact_order.gross_amount IS 'Quantity by unit price over all lines, in the business currency.';
COMMENT ON COLUMN work.fact_order.hours_to_fulfil IS 'Hours from order to delivery.';
COMMENT ON COLUMN work.fact_order.is_lost IS 'Whether the order is lost.';
COMMENT ON COLUMN work.fact_order.deleted_at IS 'When the order was deleted in the source.';

SELECT etl.define_fact(
    'fact_order',
    p_key => '{order_id}',
    p_measures => '{line_count,quantity,gross_amount,hours_to_fulfil,is_lost}',
    p_dimensions => ARRAY[
        etl.fact_key('dim_customer', p_as_of => 'ordered_at'),
        etl.fact_key('dim_address', p_as_of => 'ordered_at'),
        etl.fact_key('dim_payment', p_as_of => 'ordered_at'),
        etl.fact_key('dim_status', p_as_of => 'ordered_at'),
        etl.fact_key('dim_date', 'ordered_date_key', p_lookup => '{ordered_on}'),
        etl.fact_key('dim_date', 'shipped_date_key', p_lookup => '{shipped_on}', p_null_key => -2),
        etl.fact_key('dim_date', 'delivered_date_key', p_lookup => '{delivered_on}', p_null_key => -2)
    ],
    p_depends_on => ARRAY[
        etl.depends_on('order_lines', p_watched_columns => '{quantity,unit_price}'),
        etl.depends_on(
            'order_statuses', 'SELECT o.order_id FROM changed JOIN stage.orders AS o USING (order_status_id)', p_watched_columns => '{is_lost}'
        )
    ]
);
