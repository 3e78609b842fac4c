-- What must hold in the warehouse of OceanRecords, one row a check. Those of every run look only at what the run has written
-- (the decision tables hold that) or at small tables, so that they cost what the change costs; those that read whole tables
-- are done once a day, those that sum up everything once a week.
--
-- What waits for a load is not wrong: keys that are pending, queued or in quarantine are left out, each is reported in its own place.

SELECT etl.define_check(
    'loaded_orders_equal_lines',
    'fail',
    'Each order that the run has written equals the sum of its lines.',
    $sql$SELECT o.order_id, o.line_count, o.quantity, o.gross_amount, l.line_count AS lines, l.quantity AS line_quantity, l.amount AS line_amount
FROM dwh.fact_order AS o
CROSS JOIN LATERAL (
    SELECT count(*) AS line_count, coalesce(sum(n.quantity), 0) AS quantity, coalesce(sum(n.amount), 0) AS amount
    FROM dwh.fact_order_line AS n
    WHERE n.order_id = o.order_id
        AND NOT n.is_deleted
) AS l
-- ANY: each order is found by its key, however many the planner expects.
WHERE o.order_id = ANY (ARRAY(
        SELECT d.order_id FROM work.fact_order_decision AS d WHERE d.run_id = (SELECT max(r.run_id) FROM etl.run AS r)
        UNION
        SELECT d.order_id FROM work.fact_order_line_decision AS d WHERE d.run_id = (SELECT max(r.run_id) FROM etl.run AS r)
        EXCEPT
        SELECT p.order_id FROM work.fact_order_key AS p
        EXCEPT
        SELECT p.order_id FROM work.fact_order_line_key AS p
        EXCEPT
        SELECT (q.row_key ->> 'order_id')::bigint FROM etl.quarantine AS q WHERE q.object IN ('fact_order', 'fact_order_line')
    ))
    AND (o.line_count, o.quantity, o.gross_amount) IS DISTINCT FROM (l.line_count, l.quantity, l.amount)$sql$,
    '0',
    '{fact_order,fact_order_line}'
);

SELECT etl.define_check(
    'loaded_orders_equal_stage',
    'fail',
    'Each order line that the run has written holds the quantity and the price that the source gave.',
    $sql$SELECT f.order_id, f.line_number, f.quantity, f.amount, s.quantity AS source_quantity, s.unit_price * s.quantity AS source_amount
FROM work.fact_order_line_decision AS d
JOIN dwh.fact_order_line AS f USING (order_id, line_number)
JOIN stage.order_lines AS s USING (order_id, line_number)
WHERE d.run_id = (SELECT max(r.run_id) FROM etl.run AS r)
    AND NOT f.is_deleted
    AND (f.quantity, f.amount) IS DISTINCT FROM (s.quantity, s.unit_price * s.quantity)
    AND NOT EXISTS (SELECT FROM work.fact_order_line_key AS p WHERE p.order_id = d.order_id AND p.line_number = d.line_number)
    AND jsonb_build_object('order_id', d.order_id, 'line_number', d.line_number) NOT IN (
        SELECT q.row_key
        FROM etl.quarantine AS q
        WHERE q.object = 'fact_order_line'
    )$sql$,
    '0',
    '{fact_order_line}'
);

SELECT etl.define_check(
    'orders_equal_lines',
    'fail',
    'Every order equals the sum of its lines.',
    $sql$WITH summed AS (
    -- Sums over a thousand orders first, also weighted by the order, lest two errors cancel out: a million groups less.
    SELECT
        f.order_id / 1000 AS bucket, sum(f.line_count) AS line_count, sum(f.quantity) AS quantity, sum(f.gross_amount) AS amount,
        sum(f.line_count * f.order_id) AS weighted_count, sum(f.quantity * f.order_id) AS weighted_quantity, sum(f.gross_amount * f.order_id) AS weighted_amount
    FROM dwh.fact_order AS f
    WHERE NOT f.is_deleted
    GROUP BY f.order_id / 1000
),
summed_lines AS (
    SELECT
        n.order_id / 1000 AS bucket, count(*) AS line_count, sum(n.quantity) AS quantity, sum(n.amount) AS amount,
        sum(n.order_id) AS weighted_count, sum(n.quantity * n.order_id) AS weighted_quantity, sum(n.amount * n.order_id) AS weighted_amount
    FROM dwh.fact_order_line AS n
    WHERE NOT n.is_deleted
    GROUP BY n.order_id / 1000
),
suspect AS (
    SELECT bucket
    FROM summed AS o
    FULL JOIN summed_lines AS l USING (bucket)
    WHERE (
        coalesce(o.line_count, 0), coalesce(o.quantity, 0), coalesce(o.amount, 0),
        coalesce(o.weighted_count, 0), coalesce(o.weighted_quantity, 0), coalesce(o.weighted_amount, 0)
    ) IS DISTINCT FROM (
        coalesce(l.line_count, 0), coalesce(l.quantity, 0), coalesce(l.amount, 0),
        coalesce(l.weighted_count, 0), coalesce(l.weighted_quantity, 0), coalesce(l.weighted_amount, 0)
    )
)
SELECT w.order_id, w.line_count, w.quantity, w.gross_amount, w.lines, w.line_quantity, w.line_amount
FROM suspect AS b
CROSS JOIN LATERAL (
    SELECT order_id, o.line_count, o.quantity, o.gross_amount, l.line_count AS lines, l.quantity AS line_quantity, l.amount AS line_amount
    FROM (
        SELECT f.order_id, f.line_count, f.quantity, f.gross_amount
        FROM dwh.fact_order AS f
        WHERE NOT f.is_deleted
            AND f.order_id >= b.bucket * 1000
            AND f.order_id < (b.bucket + 1) * 1000
    ) AS o
    FULL JOIN (
        SELECT n.order_id, count(*) AS line_count, sum(n.quantity) AS quantity, sum(n.amount) AS amount
        FROM dwh.fact_order_line AS n
        WHERE NOT n.is_deleted
            AND n.order_id >= b.bucket * 1000
            AND n.order_id < (b.bucket + 1) * 1000
        GROUP BY n.order_id
    ) AS l USING (order_id)
    WHERE (coalesce(o.line_count, 0), coalesce(o.quantity, 0), coalesce(o.gross_amount, 0))
        IS DISTINCT FROM (coalesce(l.line_count, 0), coalesce(l.quantity, 0), coalesce(l.amount, 0))
) AS w
WHERE w.order_id NOT IN (
    SELECT p.order_id FROM work.fact_order_key AS p
    UNION ALL
    SELECT p.order_id FROM work.fact_order_line_key AS p
    UNION ALL
    SELECT (q.row_key ->> 'order_id')::bigint FROM etl.quarantine AS q WHERE q.object IN ('fact_order', 'fact_order_line') AND jsonb_typeof(q.row_key -> 'order_id') = 'number'
)$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'totals_equal_source',
    'fail',
    'Lines, pieces and amount of all orders equal the operational system''s, as of the watermark.',
    $sql$WITH left_out AS MATERIALIZED (
    -- Changed over there since the watermark, or not loaded for a reason that is reported elsewhere.
    SELECT (k.row_key ->> 'order_id')::bigint AS order_id FROM etl.newer_keys('orders') AS k
    UNION
    SELECT (k.row_key ->> 'order_id')::bigint FROM etl.newer_keys('order_lines') AS k
    UNION
    SELECT p.order_id FROM work.fact_order_line_key AS p
    UNION
    SELECT (q.row_key ->> 'order_id')::bigint
    FROM etl.quarantine AS q
    WHERE q.object IN ('orders', 'order_lines', 'fact_order', 'fact_order_line')
        AND jsonb_typeof(q.row_key -> 'order_id') = 'number'
),
-- All, less what is left out: so the source sums up by itself, also on another server, and few orders are looked up.
expected AS (
    SELECT
        t.line_count - l.line_count AS line_count,
        coalesce(t.quantity, 0) - coalesce(l.quantity, 0) AS quantity,
        coalesce(t.amount, 0) - coalesce(l.amount, 0) AS amount
    FROM (
        SELECT count(*) AS line_count, sum(s.quantity) AS quantity, sum(s.quantity * s.unit_price) AS amount
        FROM source.order_lines AS s
    ) AS t
    CROSS JOIN (
        SELECT count(*) AS line_count, sum(s.quantity) AS quantity, sum(s.quantity * s.unit_price) AS amount
        FROM source.order_lines AS s
        WHERE s.order_id = ANY (ARRAY(SELECT o.order_id FROM left_out AS o))
    ) AS l
),
actual AS (
    SELECT
        t.line_count - l.line_count AS line_count,
        coalesce(t.quantity, 0) - coalesce(l.quantity, 0) AS quantity,
        coalesce(t.amount, 0) - coalesce(l.amount, 0) AS amount
    FROM (
        SELECT count(*) AS line_count, sum(f.quantity) AS quantity, sum(f.amount) AS amount
        FROM dwh.fact_order_line AS f
        WHERE NOT f.is_deleted
    ) AS t
    CROSS JOIN (
        SELECT count(*) AS line_count, sum(f.quantity) AS quantity, sum(f.amount) AS amount
        FROM dwh.fact_order_line AS f
        WHERE NOT f.is_deleted
            AND f.order_id = ANY (ARRAY(SELECT o.order_id FROM left_out AS o))
    ) AS l
)
SELECT m.measure, m.source_total, m.warehouse_total
FROM expected AS e
CROSS JOIN actual AS a
CROSS JOIN LATERAL (
    VALUES
        ('lines', e.line_count::numeric, a.line_count::numeric),
        ('quantity', e.quantity::numeric, a.quantity::numeric),
        ('amount', e.amount, a.amount)
) AS m (measure, source_total, warehouse_total)
WHERE m.source_total <> m.warehouse_total$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'no_orphan_keys',
    'fail',
    'Every key of a fact has its row in the dimension.',
    $sql$SELECT 'fact_order' AS fact, 'customer_key' AS key_column, f.customer_key AS missing_key, count(*) AS row_count
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_customer AS d WHERE d.customer_key = f.customer_key)
GROUP BY f.customer_key
UNION ALL
SELECT 'fact_order', 'address_key', f.address_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_address AS d WHERE d.address_key = f.address_key)
GROUP BY f.address_key
UNION ALL
SELECT 'fact_order', 'payment_key', f.payment_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_payment AS d WHERE d.payment_key = f.payment_key)
GROUP BY f.payment_key
UNION ALL
SELECT 'fact_order', 'status_key', f.status_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_status AS d WHERE d.status_key = f.status_key)
GROUP BY f.status_key
UNION ALL
SELECT 'fact_order', 'ordered_date_key', f.ordered_date_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS d WHERE d.date_key = f.ordered_date_key)
GROUP BY f.ordered_date_key
UNION ALL
SELECT 'fact_order', 'shipped_date_key', f.shipped_date_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS d WHERE d.date_key = f.shipped_date_key)
GROUP BY f.shipped_date_key
UNION ALL
SELECT 'fact_order', 'delivered_date_key', f.delivered_date_key, count(*)
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS d WHERE d.date_key = f.delivered_date_key)
GROUP BY f.delivered_date_key
UNION ALL
SELECT 'fact_order_line', 'order_id', f.order_id, count(*)
FROM dwh.fact_order_line AS f
WHERE NOT EXISTS (SELECT FROM dwh.fact_order AS d WHERE d.order_id = f.order_id)
GROUP BY f.order_id
UNION ALL
SELECT 'fact_order_line', 'product_key', f.product_key, count(*)
FROM dwh.fact_order_line AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_product AS d WHERE d.product_key = f.product_key)
GROUP BY f.product_key
UNION ALL
SELECT 'fact_order_line', 'supplier_key', f.supplier_key, count(*)
FROM dwh.fact_order_line AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_supplier AS d WHERE d.supplier_key = f.supplier_key)
GROUP BY f.supplier_key
UNION ALL
SELECT 'fact_order_line', 'ordered_date_key', f.ordered_date_key, count(*)
FROM dwh.fact_order_line AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS d WHERE d.date_key = f.ordered_date_key)
GROUP BY f.ordered_date_key$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'deleted_rows_count_nothing',
    'fail',
    'A deleted order or line is out of every measure.',
    $sql$SELECT 'fact_order' AS fact, f.order_id, NULL::smallint AS line_number
FROM dwh.fact_order AS f
WHERE f.is_deleted
    AND (f.line_count, f.quantity, f.gross_amount, f.is_lost) IS DISTINCT FROM (0, 0, 0, false)
UNION ALL
SELECT 'fact_order_line', f.order_id, f.line_number
FROM dwh.fact_order_line AS f
WHERE f.is_deleted
    AND (f.quantity, f.amount) IS DISTINCT FROM (0, 0)$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'one_current_version',
    'fail',
    'A member has one current version at most.',
    $sql$SELECT 'dim_customer' AS dimension, d.customer_id AS member, count(*) AS current_versions
FROM dwh.dim_customer AS d
WHERE d.is_current AND d.customer_key > 0
GROUP BY d.customer_id
HAVING count(*) > 1
UNION ALL
SELECT 'dim_address', d.address_id, count(*)
FROM dwh.dim_address AS d
WHERE d.is_current AND d.address_key > 0
GROUP BY d.address_id
HAVING count(*) > 1
UNION ALL
SELECT 'dim_payment', d.payment_method_id, count(*)
FROM dwh.dim_payment AS d
WHERE d.is_current AND d.payment_key > 0
GROUP BY d.payment_method_id
HAVING count(*) > 1
UNION ALL
SELECT 'dim_status', d.order_status_id, count(*)
FROM dwh.dim_status AS d
WHERE d.is_current AND d.status_key > 0
GROUP BY d.order_status_id
HAVING count(*) > 1
UNION ALL
SELECT 'dim_supplier', d.supplier_id, count(*)
FROM dwh.dim_supplier AS d
WHERE d.is_current AND d.supplier_key > 0
GROUP BY d.supplier_id
HAVING count(*) > 1
UNION ALL
SELECT 'dim_product', d.product_id, count(*)
FROM dwh.dim_product AS d
WHERE d.is_current AND d.product_key > 0
GROUP BY d.product_id
HAVING count(*) > 1$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'no_overlap',
    'fail',
    'Versions of a member do not overlap.',
    $sql$SELECT v.dimension, v.member, v.valid_from, v.previous_valid_to
FROM (
    SELECT 'dim_customer' AS dimension, d.customer_id AS member, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.customer_id ORDER BY d.valid_from) AS previous_valid_to
    FROM dwh.dim_customer AS d
    WHERE d.customer_key > 0
    UNION ALL
    SELECT 'dim_address', d.address_id, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.address_id ORDER BY d.valid_from)
    FROM dwh.dim_address AS d
    WHERE d.address_key > 0
    UNION ALL
    SELECT 'dim_payment', d.payment_method_id, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.payment_method_id ORDER BY d.valid_from)
    FROM dwh.dim_payment AS d
    WHERE d.payment_key > 0
    UNION ALL
    SELECT 'dim_status', d.order_status_id, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.order_status_id ORDER BY d.valid_from)
    FROM dwh.dim_status AS d
    WHERE d.status_key > 0
    UNION ALL
    SELECT 'dim_supplier', d.supplier_id, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.supplier_id ORDER BY d.valid_from)
    FROM dwh.dim_supplier AS d
    WHERE d.supplier_key > 0
    UNION ALL
    SELECT 'dim_product', d.product_id, d.valid_from, lag(d.valid_to) OVER (PARTITION BY d.product_id ORDER BY d.valid_from)
    FROM dwh.dim_product AS d
    WHERE d.product_key > 0
) AS v
WHERE v.valid_from < v.previous_valid_to$sql$,
    '1 day',
    NULL
);
