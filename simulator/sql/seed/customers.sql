-- Where customers live: homes are numbered first, second addresses after them.
CREATE TEMPORARY TABLE seed_customer ON COMMIT DROP AS
SELECT
    n.customer_id,
    n.household,
    n.created_at,
    n.segment,
    c.country_code,
    h.homes_so_far AS address_id,
    CASE n.second_address
        WHEN 'new' THEN n.homes + n.second_homes_so_far
        WHEN 'shared' THEN nullif(f.homes_so_far, h.homes_so_far)
    END AS second_address_id,
    n.second_address = 'new' AS is_second_address_new,
    date_trunc(
        'second', n.created_at + pg_temp.chance(n.customer_id, 'second address since') * (p.ends_at - n.created_at)
    ) AS second_address_since
FROM seed_arrival AS n
CROSS JOIN seed_plan AS p
INNER JOIN seed_arrival AS h
    ON h.customer_id = n.household
INNER JOIN seed_arrival AS friend
    ON friend.customer_id = n.friend
INNER JOIN seed_arrival AS f
    ON f.customer_id = friend.household
INNER JOIN seed_country AS c
    ON pg_temp.chance(n.household, 'country') >= c.lower_bound
    AND pg_temp.chance(n.household, 'country') < c.upper_bound
ORDER BY n.customer_id;
