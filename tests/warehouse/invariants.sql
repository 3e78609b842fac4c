-- What must hold after any run, however it went: one row for each breach, the rule and the culprit.

SELECT 'versions overlap' AS rule, 'dim_customer ' || a.customer_id AS culprit
FROM dwh.dim_customer AS a
JOIN dwh.dim_customer AS b USING (customer_id)
WHERE a.customer_key < b.customer_key
    AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
UNION ALL
SELECT 'versions overlap', 'dim_address ' || a.address_id
FROM dwh.dim_address AS a
JOIN dwh.dim_address AS b USING (address_id)
WHERE a.address_key < b.address_key
    AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
UNION ALL
SELECT 'versions overlap', 'dim_product ' || a.product_id
FROM dwh.dim_product AS a
JOIN dwh.dim_product AS b USING (product_id)
WHERE a.product_key < b.product_key
    AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)
UNION ALL
SELECT 'more than one current version', 'dim_customer ' || customer_id
FROM dwh.dim_customer
WHERE is_current
GROUP BY customer_id
HAVING count(*) > 1
UNION ALL
SELECT 'more than one current version', 'dim_address ' || address_id
FROM dwh.dim_address
WHERE is_current
GROUP BY address_id
HAVING count(*) > 1
UNION ALL
SELECT 'more than one current version', 'dim_product ' || product_id
FROM dwh.dim_product
WHERE is_current
GROUP BY product_id
HAVING count(*) > 1
UNION ALL
SELECT 'customer of a fact does not exist', 'fact_order ' || order_id
FROM dwh.fact_order AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_customer AS d WHERE d.customer_key = f.customer_key)
UNION ALL
SELECT 'product of a fact does not exist', 'fact_order_line ' || order_id || '/' || line_number
FROM dwh.fact_order_line AS f
WHERE NOT EXISTS (SELECT FROM dwh.dim_product AS d WHERE d.product_key = f.product_key)
UNION ALL
SELECT 'order of a line does not exist', 'fact_order_line ' || order_id || '/' || line_number
FROM dwh.fact_order_line AS f
WHERE NOT f.is_deleted
    AND NOT EXISTS (SELECT FROM dwh.fact_order AS o WHERE o.order_id = f.order_id)
    -- Until its order is loaded, or while that is in quarantine.
    AND NOT EXISTS (SELECT FROM etl.load_state AS s WHERE s.object = 'fact_order' AND s.needs_reload)
    AND NOT EXISTS (SELECT FROM work.fact_order_key AS k WHERE k.order_id = f.order_id)
    AND NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = 'fact_order' AND q.row_key = jsonb_build_object('order_id', f.order_id))
UNION ALL
SELECT 'a deleted row still counts', 'fact_order ' || order_id
FROM dwh.fact_order
WHERE is_deleted
    AND (line_count, quantity, gross_amount, is_lost) <> (0, 0, 0, false)
UNION ALL
SELECT 'a deleted row still counts', 'fact_order_line ' || order_id || '/' || line_number
FROM dwh.fact_order_line
WHERE is_deleted
    AND (quantity, amount) <> (0, 0)
