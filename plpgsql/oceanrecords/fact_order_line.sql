-- Order lines, grain: a product in an order. Date and version are those of the order's moment; the supplier is the one that the
-- product had then.

CREATE OR REPLACE VIEW work.fact_order_line AS
SELECT
    l.order_id,
    l.line_number,
    l.product_id,
    (o.ordered_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS ordered_on,
    o.ordered_at,
    l.quantity,
    l.unit_price,
    l.quantity * l.unit_price AS amount,
    coalesce(l.deleted_at, o.deleted_at) AS deleted_at
FROM stage.order_lines AS l
JOIN stage.orders AS o USING (order_id);

COMMENT ON VIEW work.fact_order_line IS 'Order lines as they are now, with the moment of their order.';
COMMENT ON COLUMN work.fact_order_line.order_id IS 'Order; with the line number the business key.';
COMMENT ON COLUMN work.fact_order_line.line_number IS 'Number of the line in its order.';
COMMENT ON COLUMN work.fact_order_line.product_id IS 'Product.';
COMMENT ON COLUMN work.fact_order_line.ordered_on IS 'Date of the order, in the business time zone.';
COMMENT ON COLUMN work.fact_order_line.ordered_at IS 'Moment of the order.';
COMMENT ON COLUMN work.fact_order_line.quantity IS 'Pieces.';
COMMENT ON COLUMN work.fact_order_line.unit_price IS 'Price of a piece at the time of the order, in the business currency.';
COMMENT ON COLUMN work.fact_order_line.amount IS 'Quantity by unit price, in the business currency.';
COMMENT ON COLUMN work.fact_order_line.deleted_at IS 'When the line or its order was deleted in the source.';

SELECT etl.define_fact(
    'fact_order_line',
    p_key => '{order_id,line_number}',
    p_measures => '{quantity,amount}',
    p_dimensions => ARRAY[
        etl.fact_key('dim_product', p_as_of => 'ordered_at'),
        -- The supplier that the product had then.
        etl.fact_key('dim_supplier', p_as_of => 'ordered_at', p_through => 'product_key'),
        etl.fact_key('dim_date', 'ordered_date_key', p_lookup => '{ordered_on}')
    ],
    p_depends_on => ARRAY[
        -- Of an order, the lines that the batch did not bring itself: those are pending already. OFFSET 0 has them looked up order by order.
        etl.depends_on(
            'orders',
            $sql$SELECT l.*
FROM changed
CROSS JOIN LATERAL (
    SELECT l.order_id, l.line_number
    FROM stage.order_lines AS l
    WHERE l.order_id = changed.order_id
        AND l.batch_id IS DISTINCT FROM changed.batch_id
    OFFSET 0
) AS l$sql$,
            p_watched_columns => '{ordered_at}'
        )
    ]
);
