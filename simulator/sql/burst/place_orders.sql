-- New orders with their lines: customers and products by lot, low product numbers more often.
WITH customer_keys AS (
    SELECT
        min(l.customer_id) AS first_key,
        max(l.customer_id) - min(l.customer_id) + 1 AS width
    FROM oceanrecords.customers_addresses AS l
),

product_keys AS (
    SELECT
        min(p.product_id) AS first_key,
        max(p.product_id) - min(p.product_id) + 1 AS width
    FROM oceanrecords.products AS p
),

placed AS (
    INSERT INTO oceanrecords.orders (customer_id, address_id, payment_method_id)
    SELECT
        l.customer_id,
        l.address_id,
        1 + floor(5 * pg_temp.chance(n.number, 'burst: payment method'))::smallint
    FROM customer_keys AS k
    CROSS JOIN generate_series(1, %(number)s) AS n (number)
    CROSS JOIN LATERAL (
        SELECT
            c.customer_id,
            c.address_id
        FROM oceanrecords.customers_addresses AS c
        WHERE c.customer_id >= k.first_key + floor(k.width * pg_temp.chance(n.number, 'burst: customer'))::bigint
        ORDER BY
            c.customer_id,
            c.address_id
        LIMIT 1
    ) AS l
    RETURNING order_id
),

chosen AS (
    SELECT DISTINCT ON (o.order_id, p.product_id)
        o.order_id,
        p.product_id,
        p.price
    FROM placed AS o
    CROSS JOIN product_keys AS k
    CROSS JOIN LATERAL generate_series(1, 1 + floor(5 * pg_temp.chance(o.order_id, 'burst: lines'))::integer) AS n (number)
    CROSS JOIN LATERAL (
        SELECT
            s.product_id,
            s.price
        FROM oceanrecords.products AS s
        WHERE s.product_id >= k.first_key
            + floor(k.width * power(pg_temp.chance(o.order_id * 8 + n.number, 'burst: product'), 2))::bigint
        ORDER BY s.product_id
        LIMIT 1
    ) AS p
    ORDER BY
        o.order_id,
        p.product_id
),

ordered AS (
    INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)
    SELECT
        c.order_id,
        row_number() OVER (PARTITION BY c.order_id ORDER BY c.product_id),
        c.product_id,
        1 + floor(3 * power(pg_temp.chance(c.order_id + c.product_id, 'burst: quantity'), 3))::integer,
        c.price
    FROM chosen AS c
    RETURNING order_id
)

SELECT
    (SELECT count(*) FROM placed) AS orders,
    (SELECT count(*) FROM ordered) AS order_lines;
