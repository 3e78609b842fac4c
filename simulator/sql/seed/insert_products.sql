-- Products at their latest price. Works are called after artist and title, things after maker and model.
INSERT INTO oceanrecords.products (
    product_id, product_subtype_id, supplier_id, sku, name, price, created_at, updated_at
)
SELECT
    t.product_id,
    s.product_subtype_id,
    1 + floor(power(pg_temp.chance(t.product_id, 'supplier'), 1.6) * p.suppliers)::integer,
    concat('OR-', upper(left(replace(s.department, '-', ''), 3)), '-', lpad(t.product_id::text, 7, '0')),
    CASE
        WHEN s.noun = '' THEN concat(
            CASE
                WHEN pg_temp.chance(t.product_id, 'is by a band') < 0.6 THEN concat(a.word, ' ', b.word)
                ELSE concat(f.word, ' ', l.word)
            END,
            ' – ', v.word, ' ', w.word
        )
        ELSE concat(
            m.word, ' ',
            chr(65 + floor(26 * pg_temp.chance(t.product_id, 'first letter'))::integer),
            chr(65 + floor(26 * pg_temp.chance(t.product_id, 'second letter'))::integer),
            '-', 10 + floor(990 * pg_temp.chance(t.product_id, 'model number')), ' ', s.noun
        )
    END,
    t.price,
    t.created_at,
    t.updated_at
FROM (
    SELECT
        r.product_id,
        max(r.price) FILTER (WHERE r.valid_to = 'infinity') AS price,
        min(r.valid_from) AS created_at,
        max(r.valid_from) AS updated_at
    FROM seed_price AS r
    GROUP BY r.product_id
) AS t
CROSS JOIN seed_plan AS p
INNER JOIN seed_shelf AS s
    ON pg_temp.chance(t.product_id, 'shelf') >= s.lower_bound
    AND pg_temp.chance(t.product_id, 'shelf') < s.upper_bound
INNER JOIN seed_country AS c
    ON c.country_code = 'US'
INNER JOIN seed_word AS f
    ON f.kind = 'first name'
    AND f.country_code = c.country_code
    AND f.number = floor(pg_temp.chance(t.product_id, 'first name') * c.first_names)::integer
INNER JOIN seed_word AS l
    ON l.kind = 'last name'
    AND l.country_code = c.country_code
    AND l.number = floor(pg_temp.chance(t.product_id, 'last name') * c.last_names)::integer
INNER JOIN seed_word AS a
    ON a.kind = 'first word'
    AND a.number = floor(pg_temp.chance(t.product_id, 'band''s first word') * 30)::integer
INNER JOIN seed_word AS b
    ON b.kind = 'second word'
    AND b.number = floor(pg_temp.chance(t.product_id, 'band''s second word') * 30)::integer
INNER JOIN seed_word AS v
    ON v.kind = 'first word'
    AND v.number = floor(pg_temp.chance(t.product_id, 'title''s first word') * 30)::integer
INNER JOIN seed_word AS w
    ON w.kind = 'second word'
    AND w.number = floor(pg_temp.chance(t.product_id, 'title''s second word') * 30)::integer
INNER JOIN seed_word AS m
    ON m.kind = 'maker'
    AND m.number = floor(pg_temp.chance(t.product_id, 'maker') * 16)::integer
ORDER BY t.product_id;
