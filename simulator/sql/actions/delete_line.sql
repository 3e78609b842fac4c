-- The customer thought better of it.
DELETE FROM oceanrecords.order_lines
WHERE order_id = %(order_id)s
    AND line_number = %(line_number)s;
