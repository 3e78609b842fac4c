-- Customers. The number in the e-mail address keeps it unique. A few have been corrected since they registered.
INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment, created_at, updated_at)
SELECT
    h.customer_id,
    f.word,
    l.word,
    concat(
        f.variant, '.', l.variant, '.', h.customer_id, '@',
        CASE
            WHEN h.segment = 'business' THEN 'company.example'
            ELSE (ARRAY['example.com', 'example.net', 'example.org'])[
                1 + floor(3 * pg_temp.chance(h.customer_id, 'mail provider'))::integer
            ]
        END
    ),
    CASE
        WHEN pg_temp.chance(h.customer_id, 'gave a telephone number') < 0.7 THEN concat(
            c.calling_code, ' ', 20 + floor(80 * pg_temp.chance(h.customer_id, 'dialling code')), ' ',
            1000000 + floor(9000000 * pg_temp.chance(h.customer_id, 'telephone number'))
        )
    END,
    h.segment,
    h.created_at,
    CASE
        WHEN pg_temp.chance(h.customer_id, 'was corrected') < 0.04 THEN date_trunc(
            'second', h.created_at + pg_temp.chance(h.customer_id, 'corrected at') * (p.ends_at - h.created_at)
        )
        ELSE h.created_at
    END
FROM seed_customer AS h
CROSS JOIN seed_plan AS p
INNER JOIN seed_country AS c
    ON c.country_code = h.country_code
INNER JOIN seed_word AS f
    ON f.kind = 'first name'
    AND f.country_code = h.country_code
    AND f.number = floor(pg_temp.chance(h.customer_id, 'first name') * c.first_names)::integer
INNER JOIN seed_word AS l
    ON l.kind = 'last name'
    AND l.country_code = h.country_code
    AND l.number = floor(pg_temp.chance(h.household, 'last name') * c.last_names)::integer
ORDER BY h.customer_id;
