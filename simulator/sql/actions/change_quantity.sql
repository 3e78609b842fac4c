-- Another quantity.
UPDATE oceanrecords.order_lines
SET quantity = %(quantity)s
WHERE order_id = %(order_id)s
    AND line_number = %(line_number)s;
