-- The lines of a new order.
INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)
SELECT
    %(order_id)s,
    l.line_number,
    l.product_id,
    l.quantity,
    l.unit_price
FROM unnest(
    %(product_ids)s::bigint[], %(quantities)s::integer[], %(unit_prices)s::numeric[]
) WITH ORDINALITY AS l (product_id, quantity, unit_price, line_number)
ORDER BY l.line_number;
