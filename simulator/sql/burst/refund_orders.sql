-- The newest delivered orders are refunded.
WITH chosen AS (
    SELECT o.order_id
    FROM oceanrecords.orders AS o
    WHERE o.order_status_id = 4
        AND o.delivered_at <= oceanrecords.business_time()
    ORDER BY o.order_id DESC
    LIMIT %(number)s
    FOR NO KEY UPDATE SKIP LOCKED
),

refunded AS (
    UPDATE oceanrecords.orders AS o
    SET order_status_id = 6
    FROM chosen AS c
    WHERE c.order_id = o.order_id
    RETURNING o.order_id
)

SELECT count(*) AS orders
FROM refunded;
