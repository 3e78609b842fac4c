-- For each order number one product of the next order from there: what sells well is drawn often.
SELECT p.product_id
FROM unnest(%(order_keys)s::bigint[]) AS k (order_key)
CROSS JOIN LATERAL (
    SELECT l.product_id
    FROM oceanrecords.order_lines AS l
    WHERE l.order_id = (
            SELECT n.order_id
            FROM oceanrecords.order_lines AS n
            WHERE n.order_id >= k.order_key
            ORDER BY n.order_id
            LIMIT 1
        )
    ORDER BY hashint8extended(l.product_id, k.order_key)
    LIMIT 1
) AS p;
