-- Who ordered in which quarter, by country. Counting customers is not additive, so the grain keeps the customer: a quarter's
-- customers are the rows that are left. Who ordered to two countries is two rows there, and one in the total.

CREATE OR REPLACE VIEW work.agg_customer_quarterly AS
SELECT
    f.order_id,
    d.quarter_start,
    coalesce(c.customer_id, -1) AS customer_id,
    a.country,
    1::bigint AS orders
FROM dwh.fact_order AS f
JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
JOIN dwh.dim_customer AS c ON c.customer_key = f.customer_key
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
WHERE NOT f.is_deleted
    AND d.quarter_start IS NOT NULL;

COMMENT ON VIEW work.agg_customer_quarterly IS 'What each order contributes to dwh.agg_customer_quarterly and its total.';
COMMENT ON COLUMN work.agg_customer_quarterly.order_id IS 'Order: the contribution key.';
COMMENT ON COLUMN work.agg_customer_quarterly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN work.agg_customer_quarterly.customer_id IS 'Customer; -1 while the customer is not known.';
COMMENT ON COLUMN work.agg_customer_quarterly.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_customer_quarterly.orders IS 'Orders.';

INSERT INTO etl.aggregate (aggregate, aggregate_table, contribution_view, contribution_key, group_key, measures, finer_aggregate)
VALUES
    (
        'agg_customer_quarterly', 'dwh.agg_customer_quarterly', 'work.agg_customer_quarterly', '{order_id}',
        '{country,quarter_start,customer_id}', '{orders}', NULL
    ),
    (
        'agg_customer_total_quarterly', 'dwh.agg_customer_total_quarterly', 'work.agg_customer_quarterly', '{order_id}',
        '{quarter_start,customer_id}', '{orders}', 'agg_customer_quarterly'
    )
ON CONFLICT (aggregate) DO UPDATE
SET aggregate_table = excluded.aggregate_table,
    contribution_view = excluded.contribution_view,
    contribution_key = excluded.contribution_key,
    group_key = excluded.group_key,
    measures = excluded.measures,
    finer_aggregate = excluded.finer_aggregate;

INSERT INTO etl.aggregate_fact (aggregate, fact, watched_columns)
VALUES ('agg_customer_quarterly', 'fact_order', '{customer_key,address_key,ordered_date_key,is_deleted}')
ON CONFLICT (aggregate, fact) DO UPDATE
SET watched_columns = excluded.watched_columns;
