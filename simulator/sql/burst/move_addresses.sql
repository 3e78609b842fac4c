-- Some addresses turn out to be where another one is.
WITH address_keys AS (
    SELECT
        min(a.address_id) AS first_key,
        max(a.address_id) - min(a.address_id) + 1 AS width
    FROM oceanrecords.addresses AS a
),

chosen AS (
    SELECT a.address_id
    FROM oceanrecords.addresses AS a
    ORDER BY pg_temp.chance(a.address_id, 'burst: address')
    LIMIT %(number)s
    FOR NO KEY UPDATE SKIP LOCKED
),

moved AS (
    UPDATE oceanrecords.addresses AS a
    SET
        street = t.street,
        postal_code = t.postal_code,
        city = t.city,
        country_code = t.country_code
    FROM chosen AS c
    CROSS JOIN address_keys AS k
    CROSS JOIN LATERAL (
        SELECT
            o.street,
            o.postal_code,
            o.city,
            o.country_code
        FROM oceanrecords.addresses AS o
        WHERE o.address_id >= k.first_key + floor(k.width * pg_temp.chance(c.address_id, 'burst: neighbour'))::bigint
        ORDER BY o.address_id
        LIMIT 1
    ) AS t
    WHERE c.address_id = a.address_id
    RETURNING a.address_id
)

SELECT count(*) AS addresses
FROM moved;
