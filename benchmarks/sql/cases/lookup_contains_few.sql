SELECT count(d.surrogate_key), sum(d.surrogate_key)
FROM event AS e
LEFT JOIN dimension AS d
    ON d.member_id = e.member_id
    AND tstzrange(d.valid_from, d.valid_to) @> e.happened_at
WHERE e.event_id <= 1000
