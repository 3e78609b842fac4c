-- A batch: what the watermark has not seen, found by the index on row_xid. The watermark comes as literals, so that the planner knows
-- how little that is. Deletions, and facts behind a version that is split afterwards, are left out: less work than the others do.
CREATE TEMPORARY TABLE changed_customer ON COMMIT DROP AS
SELECT
    c.customer_id,
    trim(c.first_name) AS first_name,
    trim(c.last_name) AS last_name,
    trim(c.first_name) || ' ' || trim(c.last_name) AS full_name,
    lower(trim(c.email)) AS email,
    nullif(trim(c.phone), '') AS phone,
    c.segment,
    c.created_at,
    c.updated_at
FROM oceanrecords.customers AS c
WHERE c.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(c.row_xid, %(snapshot)s::pg_snapshot);

UPDATE hand.dim_customer AS d
SET valid_to = c.updated_at,
    is_current = false
FROM changed_customer AS c
WHERE d.customer_id = c.customer_id
    AND d.is_current
    AND d.segment IS DISTINCT FROM c.segment;

UPDATE hand.dim_customer AS d
SET first_name = c.first_name,
    last_name = c.last_name,
    full_name = c.full_name,
    email = c.email,
    phone = c.phone
FROM changed_customer AS c
WHERE d.customer_id = c.customer_id
    AND (d.first_name, d.last_name, d.email, d.phone) IS DISTINCT FROM (c.first_name, c.last_name, c.email, c.phone);

INSERT INTO hand.dim_customer (
    customer_id, first_name, last_name, full_name, email, phone, segment, customer_since, valid_from, valid_to, is_current
)
SELECT
    c.customer_id,
    c.first_name,
    c.last_name,
    c.full_name,
    c.email,
    c.phone,
    c.segment,
    coalesce(k.customer_since, (c.created_at AT TIME ZONE 'UTC')::date),
    coalesce(k.valid_to, '-infinity'),
    'infinity',
    true
FROM changed_customer AS c
LEFT JOIN LATERAL (
    SELECT d.valid_to, d.customer_since
    FROM hand.dim_customer AS d
    WHERE d.customer_id = c.customer_id
    ORDER BY d.valid_from DESC
    LIMIT 1
) AS k ON true
WHERE k.valid_to IS DISTINCT FROM 'infinity';

CREATE TEMPORARY TABLE changed_address ON COMMIT DROP AS
SELECT
    a.address_id,
    trim(a.street) AS street,
    upper(trim(a.postal_code)) AS postal_code,
    trim(a.city) AS city,
    a.country_code,
    coalesce(n.country, a.country_code) AS country,
    a.updated_at
FROM oceanrecords.addresses AS a
LEFT JOIN work.country AS n USING (country_code)
WHERE a.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(a.row_xid, %(snapshot)s::pg_snapshot);

UPDATE hand.dim_address AS d
SET valid_to = CASE
        WHEN (d.city, d.country_code, d.country) IS DISTINCT FROM (a.city, a.country_code, a.country) AND d.is_current THEN a.updated_at
        ELSE d.valid_to
    END,
    is_current = d.is_current AND (d.city, d.country_code, d.country) IS NOT DISTINCT FROM (a.city, a.country_code, a.country),
    street = a.street,
    postal_code = a.postal_code
FROM changed_address AS a
WHERE d.address_id = a.address_id
    AND (
        (d.street, d.postal_code) IS DISTINCT FROM (a.street, a.postal_code)
        OR d.is_current AND (d.city, d.country_code, d.country) IS DISTINCT FROM (a.city, a.country_code, a.country)
    );

INSERT INTO hand.dim_address (
    address_id, street, postal_code, city, country_code, country, valid_from, valid_to, is_current
)
SELECT
    a.address_id,
    a.street,
    a.postal_code,
    a.city,
    a.country_code,
    a.country,
    coalesce(k.valid_to, '-infinity'),
    'infinity',
    true
FROM changed_address AS a
LEFT JOIN LATERAL (
    SELECT d.valid_to
    FROM hand.dim_address AS d
    WHERE d.address_id = a.address_id
    ORDER BY d.valid_from DESC
    LIMIT 1
) AS k ON true
WHERE k.valid_to IS DISTINCT FROM 'infinity';

CREATE TEMPORARY TABLE changed_product ON COMMIT DROP AS
SELECT
    p.product_id,
    p.sku,
    trim(p.name) AS product_name,
    s.name AS product_subtype,
    t.name AS product_type,
    p.price,
    p.supplier_id,
    p.is_active,
    p.created_at,
    p.updated_at
FROM oceanrecords.products AS p
JOIN oceanrecords.product_subtypes AS s USING (product_subtype_id)
JOIN oceanrecords.product_types AS t USING (product_type_id)
WHERE p.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(p.row_xid, %(snapshot)s::pg_snapshot);

-- Moments at which versions begin: those of the price log, and, for changes of other attributes, that of the product.
CREATE TEMPORARY TABLE product_moment ON COMMIT DROP AS
SELECT
    r.product_id,
    r.valid_from AS at,
    r.price
FROM oceanrecords.product_prices AS r
LEFT JOIN hand.dim_product AS d
    ON d.product_id = r.product_id
    AND d.is_current
WHERE r.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(r.row_xid, %(snapshot)s::pg_snapshot)
    AND r.price IS DISTINCT FROM d.price
UNION
SELECT
    c.product_id,
    c.updated_at,
    c.price
FROM changed_product AS c
JOIN hand.dim_product AS d
    ON d.product_id = c.product_id
    AND d.is_current
WHERE (d.product_subtype, d.product_type, d.supplier_id) IS DISTINCT FROM (c.product_subtype, c.product_type, c.supplier_id);

UPDATE hand.dim_product AS d
SET valid_to = m.at,
    is_current = false
FROM (
    SELECT product_id, min(at) AS at
    FROM product_moment
    GROUP BY product_id
) AS m
WHERE d.product_id = m.product_id
    AND d.is_current;

UPDATE hand.dim_product AS d
SET sku = c.sku,
    product_name = c.product_name,
    is_active = c.is_active
FROM changed_product AS c
WHERE d.product_id = c.product_id
    AND (d.sku, d.product_name, d.is_active) IS DISTINCT FROM (c.sku, c.product_name, c.is_active);

INSERT INTO hand.dim_product (
    product_id, sku, product_name, product_subtype, product_type, price, supplier_id, is_active, launched_on,
    valid_from, valid_to, is_current
)
SELECT
    c.product_id,
    c.sku,
    c.product_name,
    c.product_subtype,
    c.product_type,
    m.price,
    c.supplier_id,
    c.is_active,
    coalesce(k.launched_on, (c.created_at AT TIME ZONE 'UTC')::date),
    CASE WHEN k.launched_on IS NULL AND row_number() OVER moment = 1 THEN '-infinity' ELSE m.at END,
    coalesce(lead(m.at) OVER moment, 'infinity'),
    lead(m.at) OVER moment IS NULL
FROM product_moment AS m
JOIN changed_product AS c USING (product_id)
LEFT JOIN LATERAL (
    SELECT d.launched_on
    FROM hand.dim_product AS d
    WHERE d.product_id = m.product_id
    LIMIT 1
) AS k ON true
WINDOW moment AS (PARTITION BY m.product_id ORDER BY m.at);

CREATE TEMPORARY TABLE changed_line ON COMMIT DROP AS
SELECT
    l.order_id,
    l.line_number,
    l.product_id,
    l.quantity,
    l.unit_price
FROM oceanrecords.order_lines AS l
WHERE l.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(l.row_xid, %(snapshot)s::pg_snapshot);

CREATE TEMPORARY TABLE changed_order ON COMMIT DROP AS
SELECT o.order_id
FROM oceanrecords.orders AS o
WHERE o.row_xid >= %(xmin)s::xid8
    AND NOT pg_visible_in_snapshot(o.row_xid, %(snapshot)s::pg_snapshot)
UNION
SELECT l.order_id
FROM changed_line AS l;

ANALYZE changed_line, changed_order;
