-- What must hold at every moment, besides what constraints say. Each row is a violation.
SELECT
    'an order without lines' AS violation,
    o.order_id AS id
FROM oceanrecords.orders AS o
WHERE NOT EXISTS (
        SELECT
        FROM oceanrecords.order_lines AS l
        WHERE l.order_id = o.order_id
    )
UNION ALL
SELECT
    'an order line without the price of its moment',
    l.order_id
FROM oceanrecords.order_lines AS l
INNER JOIN oceanrecords.orders AS o
    ON o.order_id = l.order_id
LEFT JOIN LATERAL (
    SELECT p.price
    FROM oceanrecords.product_prices AS p
    WHERE p.product_id = l.product_id
        AND p.valid_from <= o.ordered_at
    ORDER BY p.valid_from DESC
    LIMIT 1
) AS p
    ON true
WHERE p.price IS DISTINCT FROM l.unit_price
UNION ALL
SELECT
    'a product whose price is not the last of its log',
    p.product_id
FROM oceanrecords.products AS p
LEFT JOIN LATERAL (
    SELECT r.price
    FROM oceanrecords.product_prices AS r
    WHERE r.product_id = p.product_id
    ORDER BY r.valid_from DESC
    LIMIT 1
) AS r
    ON true
WHERE r.price IS DISTINCT FROM p.price
UNION ALL
SELECT
    'a price that is no change',
    r.product_id
FROM (
    SELECT
        s.product_id,
        s.price,
        lag(s.price) OVER (PARTITION BY s.product_id ORDER BY s.valid_from) AS price_before
    FROM oceanrecords.product_prices AS s
) AS r
WHERE r.price = r.price_before
UNION ALL
SELECT
    'an address that is nobody''s',
    a.address_id
FROM oceanrecords.addresses AS a
WHERE NOT EXISTS (
        SELECT
        FROM oceanrecords.customers_addresses AS l
        WHERE l.address_id = a.address_id
    )
UNION ALL
SELECT
    'a customer without an address',
    c.customer_id
FROM oceanrecords.customers AS c
WHERE NOT EXISTS (
        SELECT
        FROM oceanrecords.customers_addresses AS l
        WHERE l.customer_id = c.customer_id
    )
UNION ALL
SELECT
    'an order before its customer',
    o.order_id
FROM oceanrecords.orders AS o
INNER JOIN oceanrecords.customers AS c
    ON c.customer_id = o.customer_id
WHERE o.ordered_at < c.created_at
UNION ALL
SELECT
    'an order before the customer had its address',
    o.order_id
FROM oceanrecords.orders AS o
INNER JOIN oceanrecords.customers_addresses AS l
    ON l.customer_id = o.customer_id
    AND l.address_id = o.address_id
WHERE o.ordered_at < l.created_at
UNION ALL
SELECT
    'an order line before its product was launched',
    l.order_id
FROM oceanrecords.order_lines AS l
INNER JOIN oceanrecords.orders AS o
    ON o.order_id = l.order_id
INNER JOIN oceanrecords.products AS p
    ON p.product_id = l.product_id
WHERE o.ordered_at < p.created_at
UNION ALL
SELECT
    'an order with a last change before the last moment of its life',
    o.order_id
FROM oceanrecords.orders AS o
WHERE o.updated_at
    < greatest(o.ordered_at, o.paid_at, o.shipped_at, o.delivered_at, o.cancelled_at, o.refunded_at);
