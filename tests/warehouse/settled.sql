-- What must hold besides once every task of a run has succeeded: one row for each breach, the rule and the culprit.

SELECT 'version is not the one valid when ordered', 'fact_order ' || f.order_id
FROM dwh.fact_order AS f
JOIN dwh.dim_customer AS c USING (customer_key)
JOIN dwh.dim_address AS a USING (address_key)
WHERE NOT f.is_deleted
    AND (
        f.ordered_at < c.valid_from
        OR f.ordered_at >= c.valid_to
        OR f.ordered_at < a.valid_from
        OR f.ordered_at >= a.valid_to
    )
UNION ALL
SELECT 'an order is not the sum of its lines', 'fact_order ' || o.order_id
FROM dwh.fact_order AS o
LEFT JOIN dwh.fact_order_line AS l ON l.order_id = o.order_id AND NOT l.is_deleted
GROUP BY o.order_id
HAVING (o.line_count, o.quantity, o.gross_amount)
    <> (count(l.line_number), coalesce(sum(l.quantity), 0), coalesce(sum(l.amount), 0))
UNION ALL
SELECT 'an object was not loaded', object
FROM etl.load_state
WHERE needs_reload
    OR loaded_batch_id IS DISTINCT FROM (SELECT max(batch_id) FROM etl.batch)
UNION ALL
SELECT 'a mirror lags behind', s.source_table
FROM etl.source_table AS s
LEFT JOIN etl.watermark AS w USING (source_table)
WHERE w.batch_id IS DISTINCT FROM (SELECT max(batch_id) FROM etl.batch)
UNION ALL
SELECT 'keys are left pending', 'dim_customer'
WHERE EXISTS (SELECT FROM work.dim_customer_key)
UNION ALL
SELECT 'keys are left pending', 'dim_product'
WHERE EXISTS (SELECT FROM work.dim_product_key)
UNION ALL
SELECT 'keys are left pending', 'fact_order'
WHERE EXISTS (SELECT FROM work.fact_order_key)
UNION ALL
SELECT 'keys are left pending', 'fact_order_line'
WHERE EXISTS (SELECT FROM work.fact_order_line_key)
UNION ALL
SELECT 'a queue entry is ready and was not tried', fact || ' ' || fact_key
FROM etl.reprocessing_queue
WHERE is_ready
