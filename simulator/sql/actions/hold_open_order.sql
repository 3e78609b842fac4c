-- An order in a given status that no other session has locked: of the oldest ones, the one whose customer has waited longest for the
-- distance. Only what happened before now can go on.
SELECT o.order_id
FROM oceanrecords.orders AS o
INNER JOIN oceanrecords.addresses AS a
    ON a.address_id = o.address_id
WHERE o.order_id IN (
        SELECT c.order_id
        FROM oceanrecords.orders AS c
        WHERE c.order_status_id = %(status_id)s
            AND c.order_status_id IN (1, 2, 3)
        ORDER BY c.order_id
        LIMIT 60
    )
    AND o.order_status_id = %(status_id)s
    AND greatest(o.ordered_at, o.paid_at, o.shipped_at) <= oceanrecords.business_time()
ORDER BY
    extract(EPOCH FROM oceanrecords.business_time() - greatest(o.ordered_at, o.paid_at, o.shipped_at))
    / coalesce((%(transit_hours)s::jsonb ->> a.country_code)::numeric, 72) DESC,
    o.order_id
LIMIT 1
FOR NO KEY UPDATE OF o SKIP LOCKED;
