-- The lines of an order.
SELECT
    l.line_number,
    l.quantity
FROM oceanrecords.order_lines AS l
WHERE l.order_id = %(order_id)s
ORDER BY l.line_number;
