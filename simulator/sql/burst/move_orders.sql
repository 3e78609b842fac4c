-- Open orders, oldest first, enter the next status of their life.
WITH chosen AS (
    SELECT
        o.order_id,
        o.order_status_id
    FROM oceanrecords.orders AS o
    WHERE o.order_status_id IN (1, 2, 3)
        AND greatest(o.ordered_at, o.paid_at, o.shipped_at) <= oceanrecords.business_time()
    ORDER BY o.order_id
    LIMIT %(number)s
    FOR NO KEY UPDATE SKIP LOCKED
),

moved AS (
    UPDATE oceanrecords.orders AS o
    SET order_status_id = c.order_status_id + 1
    FROM chosen AS c
    WHERE c.order_id = o.order_id
    RETURNING o.order_id
)

SELECT count(*) AS orders
FROM moved;
