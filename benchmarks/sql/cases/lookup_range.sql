SELECT count(d.surrogate_key), sum(d.surrogate_key)
FROM event AS e
LEFT JOIN dimension AS d
    ON d.member_id = e.member_id
    AND e.happened_at >= d.valid_from
    AND e.happened_at < d.valid_to
