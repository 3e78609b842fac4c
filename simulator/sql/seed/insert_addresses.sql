-- Addresses: the homes, and the second addresses that are new ones.
INSERT INTO oceanrecords.addresses (address_id, street, postal_code, city, country_code, created_at, updated_at)
SELECT
    a.address_id,
    CASE
        WHEN c.number_first THEN concat(1 + floor(140 * pg_temp.chance(a.address_id, 'house number')), ' ', s.word)
        ELSE concat(s.word, ' ', 1 + floor(140 * pg_temp.chance(a.address_id, 'house number')))
    END,
    l.variant,
    l.word,
    a.country_code,
    a.created_at,
    a.created_at
FROM (
    SELECT
        h.address_id,
        h.country_code,
        h.created_at
    FROM seed_customer AS h
    WHERE h.customer_id = h.household
    UNION ALL
    SELECT
        h.second_address_id,
        h.country_code,
        h.second_address_since
    FROM seed_customer AS h
    WHERE h.is_second_address_new
) AS a
INNER JOIN seed_country AS c
    ON c.country_code = a.country_code
INNER JOIN seed_word AS s
    ON s.kind = 'street'
    AND s.country_code = a.country_code
    AND s.number = floor(pg_temp.chance(a.address_id, 'street') * c.streets)::integer
INNER JOIN seed_word AS l
    ON l.kind = 'place'
    AND l.country_code = a.country_code
    AND l.number = floor(pg_temp.chance(a.address_id, 'place') * c.places)::integer
ORDER BY a.address_id;
