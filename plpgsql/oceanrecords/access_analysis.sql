-- The stars as analysts see them: schema analysis has the tables of schema dwh under the same names.
--
--   * Personal data are masked. What is left to count people by is customer_key, a version, and customer_id, a pseudonym: a number that
--     stays the same for a customer, made with a secret (etl.pseudonym_secret), so that nobody makes it from a list of customer numbers.
--   * Rows are those of the login's countries (etl.country_access); a login without an entry sees none. The country of a fact is
--     that of the address it went to. A customer is seen by who may see one of his addresses. Totals over all countries are totals
--     over the countries that one sees. A supplier elsewhere is there without his name, lest a join with him loses sales.
--
-- Views rather than row security on the tables: a subquery of a policy is executed row by row when it does not fit into memory, one
-- of a view is joined, whatever its size; and the loads, which own the tables, have nothing to do with it. As security barriers they let no
-- function of a reader see a row before it is decided that he may see it.

CREATE OR REPLACE VIEW work.visible_country AS
SELECT a.country_code, coalesce(c.country, CASE a.country_code WHEN '??' THEN 'Unknown' ELSE a.country_code END) AS country
FROM etl.country_access AS a
LEFT JOIN work.country AS c USING (country_code)
WHERE a.login = current_user;
COMMENT ON VIEW work.visible_country IS 'Countries that the present login may see; * for everything.';
COMMENT ON COLUMN work.visible_country.country_code IS 'Country, ISO 3166-1 alpha-2; ?? for what has no known country; * for everything.';
COMMENT ON COLUMN work.visible_country.country IS 'Its name, as in the stars.';

CREATE OR REPLACE VIEW work.visible_address AS
SELECT a.address_key, a.address_id
FROM dwh.dim_address AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country_code IN (SELECT v.country_code FROM work.visible_country AS v);
COMMENT ON VIEW work.visible_address IS 'Addresses in the countries of the present login.';
COMMENT ON COLUMN work.visible_address.address_key IS 'Version of the address.';
COMMENT ON COLUMN work.visible_address.address_id IS 'Address.';

CREATE OR REPLACE VIEW work.known_country AS
SELECT c.country_code
FROM work.country AS c
UNION
SELECT a.country_code
FROM dwh.dim_address AS a;
COMMENT ON VIEW work.known_country IS 'Countries that can be given to a login, beside * for everything.';
COMMENT ON COLUMN work.known_country.country_code IS 'Country, ISO 3166-1 alpha-2; ?? for what has no known country.';

CREATE OR REPLACE VIEW analysis.dim_address WITH (security_barrier = true) AS
SELECT
    a.address_key,
    a.address_id,
    CASE WHEN a.address_key < 0 THEN a.street ELSE 'masked' END AS street,
    a.postal_code,
    a.city,
    a.country_code,
    a.country,
    a.valid_from,
    a.valid_to,
    a.is_current,
    a.run_id
FROM dwh.dim_address AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country_code IN (SELECT v.country_code FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.dim_customer WITH (security_barrier = true) AS
SELECT
    c.customer_key,
    ('x' || substr(encode(sha256(convert_to(k.secret || c.customer_id, 'UTF8')), 'hex'), 1, 15))::bit(60)::bigint AS customer_id,
    CASE WHEN c.customer_key < 0 THEN c.first_name ELSE 'masked' END AS first_name,
    CASE WHEN c.customer_key < 0 THEN c.last_name ELSE 'masked' END AS last_name,
    CASE WHEN c.customer_key < 0 THEN c.full_name ELSE 'masked' END AS full_name,
    CASE WHEN c.customer_key < 0 THEN c.email ELSE 'masked' END AS email,
    CASE WHEN c.phone IS NOT NULL THEN 'masked' END AS phone,
    c.segment,
    c.customer_since,
    c.valid_from,
    c.valid_to,
    c.is_current,
    c.run_id
FROM (
    SELECT n.*
    FROM dwh.dim_customer AS n
    WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    UNION ALL
    SELECT n.*
    FROM dwh.dim_customer AS n
    WHERE (SELECT NOT bool_or(v.country_code = '*') FROM work.visible_country AS v)
        AND n.customer_id IN (
            -- The mirror keeps the links that were deleted in the source: customers of old orders are seen like others.
            SELECT l.customer_id
            FROM stage.customers_addresses AS l
            JOIN work.visible_address AS a USING (address_id)
        )
    UNION ALL
    SELECT n.*
    FROM dwh.dim_customer AS n
    WHERE n.customer_key = -1
        AND (SELECT NOT bool_or(v.country_code = '*') FROM work.visible_country AS v)
) AS c
CROSS JOIN etl.pseudonym_secret AS k;

CREATE OR REPLACE VIEW analysis.dim_supplier WITH (security_barrier = true) AS
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
) AS s;

CREATE OR REPLACE VIEW analysis.dim_date WITH (security_barrier = true) AS
SELECT * FROM dwh.dim_date;

CREATE OR REPLACE VIEW analysis.dim_payment WITH (security_barrier = true) AS
SELECT * FROM dwh.dim_payment;

CREATE OR REPLACE VIEW analysis.dim_product WITH (security_barrier = true) AS
SELECT * FROM dwh.dim_product;

CREATE OR REPLACE VIEW analysis.dim_status WITH (security_barrier = true) AS
SELECT * FROM dwh.dim_status;

CREATE OR REPLACE VIEW analysis.fact_order WITH (security_barrier = true) AS
SELECT f.*
FROM dwh.fact_order AS f
WHERE f.address_key IN (SELECT a.address_key FROM work.visible_address AS a);

CREATE OR REPLACE VIEW analysis.fact_order_line WITH (security_barrier = true) AS
SELECT l.*
FROM dwh.fact_order_line AS l
WHERE l.order_id IN (
    SELECT f.order_id
    FROM dwh.fact_order AS f
    JOIN work.visible_address AS a USING (address_key)
);

CREATE OR REPLACE VIEW analysis.agg_order_daily WITH (security_barrier = true) AS
SELECT a.*
FROM dwh.agg_order_daily AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_order_lost_daily WITH (security_barrier = true) AS
SELECT a.*
FROM dwh.agg_order_lost_daily AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_product_monthly WITH (security_barrier = true) AS
SELECT a.*
FROM dwh.agg_product_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_subtype_monthly WITH (security_barrier = true) AS
SELECT a.*
FROM dwh.agg_subtype_monthly AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_product_total_monthly WITH (security_barrier = true) AS
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
GROUP BY a.month_start, a.product_id, a.product_type;

CREATE OR REPLACE VIEW analysis.agg_product_total_quarterly WITH (security_barrier = true) AS
SELECT
    date_trunc('quarter', a.month_start::timestamp)::date AS quarter_start,
    a.product_id,
    a.product_type,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales,
    max(a.run_id) AS run_id
FROM analysis.agg_product_total_monthly AS a
GROUP BY 1, a.product_id, a.product_type;

CREATE OR REPLACE VIEW analysis.agg_product_country WITH (security_barrier = true) AS
SELECT
    a.country,
    a.product_id,
    a.product_type,
    a.quantity,
    a.sales,
    a.run_id
FROM dwh.agg_product_country AS a
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_product_total WITH (security_barrier = true) AS
SELECT
    a.product_id,
    a.product_type,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales,
    max(a.run_id) AS run_id
FROM analysis.agg_product_total_monthly AS a
GROUP BY a.product_id, a.product_type;

CREATE OR REPLACE VIEW analysis.agg_customer_quarterly WITH (security_barrier = true) AS
SELECT
    a.country,
    a.quarter_start,
    CASE
        WHEN a.customer_id < 0 THEN a.customer_id
        ELSE ('x' || substr(encode(sha256(convert_to(k.secret || a.customer_id, 'UTF8')), 'hex'), 1, 15))::bit(60)::bigint
    END AS customer_id,
    a.orders,
    a.run_id
FROM dwh.agg_customer_quarterly AS a
CROSS JOIN etl.pseudonym_secret AS k
WHERE (SELECT bool_or(v.country_code = '*') FROM work.visible_country AS v)
    OR a.country IN (SELECT v.country FROM work.visible_country AS v);

CREATE OR REPLACE VIEW analysis.agg_customer_total_quarterly WITH (security_barrier = true) AS
SELECT
    a.quarter_start,
    a.customer_id,
    sum(a.orders)::bigint AS orders,
    max(a.run_id) AS run_id
FROM analysis.agg_customer_quarterly AS a
GROUP BY a.quarter_start, a.customer_id;

-- What the tables say of themselves holds for the views; what differs is said here.
DO $comment_analysis$
DECLARE
    r_column record;
    v_comment text;
BEGIN
    FOR r_column IN
        SELECT c.relname, a.attnum, a.attname, obj_description(t.oid, 'pg_class') AS table_comment, col_description(t.oid, o.attnum) AS column_comment
        FROM pg_class AS c
        JOIN pg_class AS t ON t.relname = c.relname AND t.relnamespace = 'dwh'::regnamespace
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN pg_attribute AS o ON o.attrelid = t.oid AND o.attname = a.attname
        WHERE c.relnamespace = 'analysis'::regnamespace
    LOOP
        IF r_column.attnum = 1 THEN
            v_comment := r_column.table_comment || CASE
                WHEN r_column.relname LIKE '%\_total\_%' THEN ' For analysts: over the countries of the login.'
                WHEN r_column.relname = 'dim_supplier' THEN ' For analysts: suppliers in other countries than the login''s without their names.'
                WHEN r_column.relname IN ('dim_date', 'dim_payment', 'dim_product', 'dim_status') THEN ' For analysts.'
                ELSE ' For analysts: the countries of the login.'
            END;
            EXECUTE format('COMMENT ON VIEW analysis.%I IS %L', r_column.relname, v_comment);
        END IF;
        v_comment := CASE
            WHEN r_column.attname IN ('first_name', 'last_name', 'full_name', 'email', 'phone', 'street') THEN r_column.column_comment || ' Masked.'
            WHEN r_column.attname = 'customer_id' THEN 'Pseudonym of the customer: always the same number for the same customer.'
            ELSE r_column.column_comment
        END;
        EXECUTE format('COMMENT ON COLUMN analysis.%I.%I IS %L', r_column.relname, r_column.attname, v_comment);
    END LOOP;
END
$comment_analysis$;
