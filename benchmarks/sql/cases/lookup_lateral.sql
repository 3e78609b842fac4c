SELECT count(d.surrogate_key), sum(d.surrogate_key)
FROM event AS e
LEFT JOIN LATERAL (
    SELECT v.surrogate_key
    FROM dimension AS v
    WHERE v.member_id = e.member_id
        AND v.valid_from <= e.happened_at
    ORDER BY v.valid_from DESC
    LIMIT 1
) AS d ON true
