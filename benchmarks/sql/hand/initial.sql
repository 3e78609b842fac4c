-- The first load: everything read once, indexes after the rows. CREATE TABLE AS for the facts, as it may use parallel workers.
INSERT INTO hand.watermark (snapshot)
VALUES (pg_current_snapshot());

INSERT INTO hand.dim_payment (payment_method_id, payment_code, payment_name)
SELECT payment_method_id, code, name
FROM oceanrecords.payment_methods;

INSERT INTO hand.dim_status (order_status_id, status_code, status_name, is_lost)
SELECT order_status_id, code, name, is_lost
FROM oceanrecords.order_statuses;

INSERT INTO hand.dim_supplier (supplier_id, supplier_name, country_code, country)
SELECT s.supplier_id, trim(s.name), s.country_code, coalesce(n.country, s.country_code)
FROM oceanrecords.suppliers AS s
LEFT JOIN work.country AS n USING (country_code);

INSERT INTO hand.dim_customer (
    customer_id, first_name, last_name, full_name, email, phone, segment, customer_since, valid_from, valid_to, is_current
)
SELECT
    c.customer_id,
    trim(c.first_name),
    trim(c.last_name),
    trim(c.first_name) || ' ' || trim(c.last_name),
    lower(trim(c.email)),
    nullif(trim(c.phone), ''),
    c.segment,
    (c.created_at AT TIME ZONE 'UTC')::date,
    '-infinity',
    'infinity',
    true
FROM oceanrecords.customers AS c;

INSERT INTO hand.dim_address (
    address_id, street, postal_code, city, country_code, country, valid_from, valid_to, is_current
)
SELECT
    a.address_id,
    trim(a.street),
    upper(trim(a.postal_code)),
    trim(a.city),
    a.country_code,
    coalesce(n.country, a.country_code),
    '-infinity',
    'infinity',
    true
FROM oceanrecords.addresses AS a
LEFT JOIN work.country AS n USING (country_code);

-- A version a price of the log; a price that is logged twice in a row is one version.
INSERT INTO hand.dim_product (
    product_id, sku, product_name, product_subtype, product_type, price, supplier_id, is_active, launched_on,
    valid_from, valid_to, is_current
)
SELECT
    p.product_id,
    p.sku,
    trim(p.name),
    s.name,
    t.name,
    v.price,
    p.supplier_id,
    p.is_active,
    (p.created_at AT TIME ZONE 'UTC')::date,
    CASE WHEN row_number() OVER moment = 1 THEN '-infinity' ELSE v.valid_from END,
    coalesce(lead(v.valid_from) OVER moment, 'infinity'),
    lead(v.valid_from) OVER moment IS NULL
FROM (
    SELECT
        r.product_id,
        r.valid_from,
        r.price,
        lag(r.price) OVER (PARTITION BY r.product_id ORDER BY r.valid_from) IS DISTINCT FROM r.price AS is_new
    FROM oceanrecords.product_prices AS r
) AS v
JOIN oceanrecords.products AS p USING (product_id)
JOIN oceanrecords.product_subtypes AS s USING (product_subtype_id)
JOIN oceanrecords.product_types AS t USING (product_type_id)
WHERE v.is_new
WINDOW moment AS (PARTITION BY v.product_id ORDER BY v.valid_from);

ALTER TABLE hand.dim_customer ADD PRIMARY KEY (customer_key);
ALTER TABLE hand.dim_address ADD PRIMARY KEY (address_key);
ALTER TABLE hand.dim_product ADD PRIMARY KEY (product_key);
CREATE INDEX ON hand.dim_customer (customer_id, valid_from);
CREATE INDEX ON hand.dim_address (address_id, valid_from);
CREATE INDEX ON hand.dim_product (product_id, valid_from);
ANALYZE hand.dim_customer, hand.dim_address, hand.dim_product, hand.dim_supplier, hand.dim_payment, hand.dim_status;

CREATE TABLE hand.fact_order AS
SELECT
    o.order_id,
    coalesce(c.customer_key, -1) AS customer_key,
    coalesce(a.address_key, -1) AS address_key,
    coalesce(p.payment_key, -1) AS payment_key,
    coalesce(s.status_key, -1) AS status_key,
    to_char(o.ordered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer AS ordered_date_key,
    coalesce(to_char(o.shipped_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer, -2) AS shipped_date_key,
    coalesce(to_char(o.delivered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer, -2) AS delivered_date_key,
    o.ordered_at,
    o.shipped_at,
    o.delivered_at,
    CASE WHEN s.is_lost THEN coalesce(o.cancelled_at, o.refunded_at) END AS lost_at,
    coalesce(l.line_count, 0) AS line_count,
    coalesce(l.quantity, 0) AS quantity,
    coalesce(l.gross_amount, 0)::numeric(14, 2) AS gross_amount,
    round(extract(epoch FROM o.delivered_at - o.ordered_at) / 3600, 4)::numeric(12, 4) AS hours_to_fulfil,
    coalesce(s.is_lost, false) AS is_lost,
    false AS is_deleted
FROM oceanrecords.orders AS o
LEFT JOIN (
    SELECT
        n.order_id,
        count(*)::integer AS line_count,
        sum(n.quantity) AS quantity,
        sum(n.quantity * n.unit_price) AS gross_amount
    FROM oceanrecords.order_lines AS n
    GROUP BY n.order_id
) AS l USING (order_id)
LEFT JOIN hand.dim_customer AS c
    ON c.customer_id = o.customer_id
    AND o.ordered_at >= c.valid_from
    AND o.ordered_at < c.valid_to
LEFT JOIN hand.dim_address AS a
    ON a.address_id = o.address_id
    AND o.ordered_at >= a.valid_from
    AND o.ordered_at < a.valid_to
LEFT JOIN hand.dim_payment AS p USING (payment_method_id)
LEFT JOIN hand.dim_status AS s USING (order_status_id);

CREATE TABLE hand.fact_order_line AS
SELECT
    l.order_id,
    l.line_number,
    coalesce(p.product_key, -1) AS product_key,
    coalesce(s.supplier_key, -1) AS supplier_key,
    to_char(o.ordered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer AS ordered_date_key,
    o.ordered_at,
    l.quantity,
    l.unit_price,
    (l.quantity * l.unit_price)::numeric(14, 2) AS amount,
    false AS is_deleted
FROM oceanrecords.order_lines AS l
JOIN oceanrecords.orders AS o USING (order_id)
LEFT JOIN hand.dim_product AS p
    ON p.product_id = l.product_id
    AND o.ordered_at >= p.valid_from
    AND o.ordered_at < p.valid_to
LEFT JOIN hand.dim_supplier AS s USING (supplier_id);

ALTER TABLE hand.fact_order ADD PRIMARY KEY (order_id);
ALTER TABLE hand.fact_order_line ADD PRIMARY KEY (order_id, line_number);
