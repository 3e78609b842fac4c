-- All statuses, with those that can follow.
SELECT
    s.order_status_id,
    s.code,
    array(
        SELECT t.to_status_id
        FROM oceanrecords.order_status_transitions AS t
        WHERE t.from_status_id = s.order_status_id
        ORDER BY t.to_status_id
    ) AS followers
FROM oceanrecords.order_statuses AS s
ORDER BY s.order_status_id;
