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

INSERT INTO etl.fact (fact, fact_table, transform_view, business_key, measures)
VALUES ('fact_order_line', 'dwh.fact_order_line', 'work.fact_order_line', '{order_id,line_number}', '{quantity,amount}')
ON CONFLICT (fact) DO UPDATE
SET fact_table = excluded.fact_table,
    transform_view = excluded.transform_view,
    business_key = excluded.business_key,
    measures = excluded.measures;

INSERT INTO etl.fact_dimension (fact, key_column, dimension, lookup_columns, as_of_column, null_key, lookup_role)
VALUES
    ('fact_order_line', 'product_key', 'dim_product', '{product_id}', 'ordered_at', -1, NULL),
    ('fact_order_line', 'supplier_key', 'dim_supplier', '{supplier_id}', 'ordered_at', -1, 'product_key'),
    ('fact_order_line', 'ordered_date_key', 'dim_date', '{ordered_on}', NULL, -1, NULL)
ON CONFLICT (fact, key_column) DO UPDATE
SET dimension = excluded.dimension,
    lookup_columns = excluded.lookup_columns,
    as_of_column = excluded.as_of_column,
    null_key = excluded.null_key,
    lookup_role = excluded.lookup_role;

-- Of an order, the lines that the batch did not bring itself: those are asked for already. Of a tenth of a million orders, half of them new ones,
-- each line was asked for twice otherwise. Order by order: to scan the lines for a tenth of them took twice as long.
INSERT INTO etl.dependency (object, source_table, key_query, watched_columns)
VALUES
    ('fact_order_line', 'order_lines', 'SELECT order_id, line_number FROM changed', NULL),
    (
        'fact_order_line',
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
        '{ordered_at}'
    )
ON CONFLICT (object, source_table) DO UPDATE
SET key_query = excluded.key_query,
    watched_columns = excluded.watched_columns;
