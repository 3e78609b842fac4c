-- One order, waiting for its lock.
SELECT
    o.order_status_id,
    s.code
FROM oceanrecords.orders AS o
INNER JOIN oceanrecords.order_statuses AS s
    ON s.order_status_id = o.order_status_id
WHERE o.order_id = %(order_id)s
FOR NO KEY UPDATE OF o;
