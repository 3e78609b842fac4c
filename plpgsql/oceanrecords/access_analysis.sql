-- The stars for analysts. etl.publish() creates a view in schema analysis for each row of etl.published_view below.
--
--   * etl.column_sensitivity declares how columns are shown: personal data masked, technical keys as pseudonyms. A column without a
--     declaration is not published.
--   * Rows are those of the login's countries (etl.visible_value). The country of a fact is that of the delivery address. A login sees the
--     customers with an address in its countries, and totals over its countries. A supplier elsewhere has no name; its row stays, so that joins
--     lose no sales.
--
-- Views, not row-level security: PostgreSQL evaluates a policy's subquery per row once its hash exceeds memory, but joins a view's.

CREATE OR REPLACE VIEW work.visible_country AS
SELECT v.value AS country_code, coalesce(c.country, CASE v.value WHEN '??' THEN 'Unknown' ELSE v.value END) AS country
FROM etl.visible_value AS v
LEFT JOIN work.country AS c ON c.country_code = v.value;
COMMENT ON VIEW work.visible_country IS 'Countries that the current login may see; * for all.';
COMMENT ON COLUMN work.visible_country.country_code IS 'Country, ISO 3166-1 alpha-2; ?? for rows without a known country; * for all.';
COMMENT ON COLUMN work.visible_country.country IS 'Its name in the stars.';

CREATE OR REPLACE VIEW work.visible_address AS
SELECT a.address_key, a.address_id
FROM dwh.dim_address AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country_code IN (SELECT v.country_code FROM work.visible_country AS v);
COMMENT ON VIEW work.visible_address IS 'Addresses in the countries of the current login.';
COMMENT ON COLUMN work.visible_address.address_key IS 'Version of the address.';
COMMENT ON COLUMN work.visible_address.address_id IS 'Address.';

CREATE OR REPLACE VIEW work.known_country AS
SELECT c.country_code
FROM work.country AS c
UNION
SELECT a.country_code
FROM dwh.dim_address AS a;
COMMENT ON VIEW work.known_country IS 'Countries that a login can get.';
COMMENT ON COLUMN work.known_country.country_code IS 'Country, ISO 3166-1 alpha-2; ?? for rows without a known country.';

SELECT etl.define_row_filter('country', 'work.known_country', 'country_code');

-- Which rows of each table the login sees -----------------------------------------------------------------------------

DELETE FROM etl.published_view
WHERE origin = 'oceanrecords';
INSERT INTO etl.published_view (view_name, rows_query, origin)
VALUES
    (
        'dim_address',
        $rows$
SELECT a.*
FROM dwh.dim_address AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country_code IN (SELECT v.country_code FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'dim_customer',
        $rows$
SELECT n.*
FROM dwh.dim_customer AS n
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
UNION ALL
SELECT n.*
FROM dwh.dim_customer AS n
WHERE (SELECT NOT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    AND n.customer_id IN (
        -- The mirror keeps links that were deleted in the source, so customers of old orders are visible.
        SELECT l.customer_id
        FROM stage.customers_addresses AS l
        JOIN work.visible_address AS a USING (address_id)
    )
UNION ALL
SELECT n.*
FROM dwh.dim_customer AS n
WHERE n.customer_key = -1
    AND (SELECT NOT bool_or(v.country_code = '*') FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'dim_payment',
        $rows$
SELECT d.*
FROM dwh.dim_payment AS d
$rows$,
        'oceanrecords'
    ),
    (
        'dim_product',
        $rows$
SELECT d.*
FROM dwh.dim_product AS d
$rows$,
        'oceanrecords'
    ),
    (
        'dim_status',
        $rows$
SELECT d.*
FROM dwh.dim_status AS d
$rows$,
        'oceanrecords'
    ),
    (
        'dim_supplier',
        $rows$
SELECT
    s.supplier_key,
    CASE WHEN s.is_visible THEN s.supplier_id END AS supplier_id,
    CASE WHEN s.is_visible THEN s.supplier_name ELSE 'Supplier elsewhere' END AS supplier_name,
    CASE WHEN s.is_visible THEN s.country_code ELSE '--' END AS country_code,
    CASE WHEN s.is_visible THEN s.country ELSE 'Elsewhere' END AS country,
    s.valid_from,
    s.valid_to,
    s.is_current,
    s.run_id
FROM (
    SELECT
        n.*,
        n.supplier_key < 0
        OR coalesce((SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v), false)
        OR n.country_code IN (SELECT v.country_code FROM work.visible_country AS v) AS is_visible
    FROM dwh.dim_supplier AS n
    WHERE EXISTS (SELECT FROM work.visible_country)
) AS s
$rows$,
        'oceanrecords'
    ),
    (
        'fact_order',
        $rows$
SELECT f.*
FROM dwh.fact_order AS f
WHERE f.address_key IN (SELECT a.address_key FROM work.visible_address AS a)
$rows$,
        'oceanrecords'
    ),
    (
        'fact_order_line',
        $rows$
SELECT l.*
FROM dwh.fact_order_line AS l
WHERE l.order_id IN (
    SELECT f.order_id
    FROM dwh.fact_order AS f
    JOIN work.visible_address AS a USING (address_key)
)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_order_daily',
        $rows$
SELECT a.*
FROM dwh.agg_order_daily AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_order_lost_daily',
        $rows$
SELECT a.*
FROM dwh.agg_order_lost_daily AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_product_monthly',
        $rows$
SELECT a.*
FROM dwh.agg_product_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_subtype_monthly',
        $rows$
SELECT a.*
FROM dwh.agg_subtype_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_product_country',
        $rows$
SELECT a.*
FROM dwh.agg_product_country AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_customer_quarterly',
        $rows$
SELECT a.*
FROM dwh.agg_customer_quarterly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
$rows$,
        'oceanrecords'
    ),
    (
        'agg_product_total_monthly',
        $rows$
SELECT
    a.month_start,
    a.product_id,
    a.product_type,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales,
    max(a.run_id) AS run_id
FROM dwh.agg_product_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
GROUP BY a.month_start, a.product_id, a.product_type
$rows$,
        'oceanrecords'
    ),
    (
        'agg_product_total_quarterly',
        $rows$
SELECT
    date_trunc('quarter', a.month_start::timestamp)::date AS quarter_start,
    a.product_id,
    a.product_type,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales,
    max(a.run_id) AS run_id
FROM dwh.agg_product_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
GROUP BY 1, a.product_id, a.product_type
$rows$,
        'oceanrecords'
    ),
    (
        'agg_product_total',
        $rows$
SELECT
    a.product_id,
    a.product_type,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales,
    max(a.run_id) AS run_id
FROM dwh.agg_product_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
GROUP BY a.product_id, a.product_type
$rows$,
        'oceanrecords'
    ),
    (
        'agg_customer_total_quarterly',
        $rows$
SELECT
    a.quarter_start,
    a.customer_id,
    sum(a.orders)::bigint AS orders,
    max(a.run_id) AS run_id
FROM dwh.agg_customer_quarterly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v)
GROUP BY a.quarter_start, a.customer_id
$rows$,
        'oceanrecords'
    );

-- Sensitivity of each column ------------------------------------------------------------------------------------------

DELETE FROM etl.column_sensitivity
WHERE origin = 'oceanrecords';
INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity, origin)
SELECT d.schema_name, o.name, c.name, d.sensitivity, 'oceanrecords'
FROM (
    VALUES
        -- The contract with the operational system.
        ('source', '{*}', 'public', '{created_at,updated_at,deleted_at}'),
        ('source', '{*}', 'internal', '{row_xid}'),
        ('source', '{customers}', 'internal', '{customer_id}'),
        ('source', '{customers}', 'personal', '{first_name,last_name,email,phone}'),
        ('source', '{customers}', 'public', '{segment}'),
        ('source', '{addresses}', 'internal', '{address_id}'),
        ('source', '{addresses}', 'personal', '{street}'),
        ('source', '{addresses}', 'public', '{postal_code,city,country_code}'),
        ('source', '{customers_addresses}', 'internal', '{customer_id,address_id}'),
        ('source', '{orders}', 'internal', '{order_id,customer_id,address_id,order_status_id,payment_method_id}'),
        ('source', '{orders}', 'public', '{ordered_at,paid_at,shipped_at,delivered_at,cancelled_at,refunded_at}'),
        ('source', '{order_lines}', 'internal', '{order_id,product_id}'),
        ('source', '{order_lines}', 'public', '{line_number,quantity,unit_price}'),
        ('source', '{order_statuses}', 'internal', '{order_status_id}'),
        ('source', '{order_statuses}', 'public', '{code,name,is_lost}'),
        ('source', '{payment_methods}', 'internal', '{payment_method_id}'),
        ('source', '{payment_methods}', 'public', '{code,name}'),
        ('source', '{product_prices}', 'internal', '{product_id}'),
        ('source', '{product_prices}', 'public', '{valid_from,price}'),
        ('source', '{product_subtypes}', 'internal', '{product_subtype_id,product_type_id}'),
        ('source', '{product_subtypes,product_types}', 'public', '{name}'),
        ('source', '{product_types}', 'internal', '{product_type_id}'),
        ('source', '{products}', 'internal', '{product_id,product_subtype_id,supplier_id}'),
        ('source', '{products}', 'public', '{sku,name,price,is_active}'),
        ('source', '{suppliers}', 'internal', '{supplier_id}'),
        ('source', '{suppliers}', 'public', '{name,country_code}'),
        -- The stars. Surrogate keys are assigned in the order of the business keys, so they reveal them.
        ('dwh', '{dim_customer}', 'internal', '{customer_key,customer_id}'),
        ('dwh', '{dim_customer}', 'personal', '{first_name,last_name,full_name,email,phone}'),
        ('dwh', '{dim_customer}', 'public', '{segment,customer_since}'),
        ('dwh', '{dim_address}', 'internal', '{address_key,address_id}'),
        ('dwh', '{dim_address}', 'personal', '{street}'),
        ('dwh', '{dim_address}', 'public', '{postal_code,city,country_code,country}'),
        ('dwh', '{dim_payment}', 'internal', '{payment_key,payment_method_id}'),
        ('dwh', '{dim_payment}', 'public', '{payment_code,payment_name}'),
        ('dwh', '{dim_status}', 'internal', '{status_key,order_status_id}'),
        ('dwh', '{dim_status}', 'public', '{status_code,status_name,is_lost}'),
        ('dwh', '{dim_supplier}', 'internal', '{supplier_key,supplier_id}'),
        ('dwh', '{dim_supplier}', 'public', '{supplier_name,country_code,country}'),
        ('dwh', '{dim_product}', 'internal', '{product_key,product_id,supplier_id}'),
        ('dwh', '{dim_product}', 'public', '{sku,product_name,product_subtype,product_type,price,is_active,launched_on}'),
        ('dwh', '{fact_order}', 'internal', '{order_id,customer_key,address_key,payment_key,status_key}'),
        (
            'dwh', '{fact_order}', 'public',
            '{ordered_date_key,shipped_date_key,delivered_date_key,ordered_at,shipped_at,delivered_at,lost_at,line_count,quantity,gross_amount,'
            || 'hours_to_fulfil,is_lost}'
        ),
        ('dwh', '{fact_order_line}', 'internal', '{order_id,product_key,supplier_key}'),
        ('dwh', '{fact_order_line}', 'public', '{line_number,ordered_date_key,ordered_at,quantity,unit_price,amount}'),
        ('dwh', '{agg_order_daily}', 'public', '{day,country,orders,lost_orders,sales,fulfilled_orders,hours_to_fulfil}'),
        ('dwh', '{agg_order_lost_daily}', 'public', '{day,lost_on,country,lost_orders,lost_amount}'),
        (
            'dwh', '{agg_product_country,agg_product_monthly,agg_product_total,agg_product_total_monthly,agg_product_total_quarterly}',
            'internal', '{product_id}'
        ),
        ('dwh', '{agg_customer_quarterly,agg_customer_total_quarterly}', 'internal', '{customer_id}'),
        (
            'dwh',
            '{agg_customer_quarterly,agg_customer_total_quarterly,agg_product_country,agg_product_monthly,agg_product_total,'
            || 'agg_product_total_monthly,agg_product_total_quarterly,agg_subtype_monthly}',
            'public',
            '{country,month_start,quarter_start,product_type,product_subtype,orders,first_month_orders,second_month_orders,'
            || 'third_month_orders,quantity,sales}'
        )
) AS d (schema_name, object_names, sensitivity, column_names)
CROSS JOIN LATERAL unnest(d.object_names::text[]) AS o (name)
CROSS JOIN LATERAL unnest(d.column_names::name[]) AS c (name);
