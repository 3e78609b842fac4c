-- A delivered order from a number on that no other session has locked.
SELECT o.order_id
FROM oceanrecords.orders AS o
WHERE o.order_id BETWEEN %(from_order)s AND %(from_order)s + 500
    AND o.order_status_id = 4
    AND o.delivered_at <= oceanrecords.business_time()
ORDER BY o.order_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;
