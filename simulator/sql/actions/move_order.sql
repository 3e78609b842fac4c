-- The order enters a status; its moment is noted by trigger.
UPDATE oceanrecords.orders
SET order_status_id = %(status_id)s
WHERE order_id = %(order_id)s;
