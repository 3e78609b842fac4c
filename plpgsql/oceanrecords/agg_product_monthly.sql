-- What was sold by month, country and product. The lines tell product and amount, their order tells country and whether it is
-- lost, so changes of both facts count. Names of products are joined when queried: they are overwritten, the groups are not.
-- Five more sum it up further: the full grain is as large as the facts of a wide assortment, and what most rankings ask for is
-- much smaller.

CREATE OR REPLACE VIEW work.agg_product_monthly AS
SELECT
    f.order_id,
    d.month_start,
    d.quarter_start,
    a.country,
    p.product_type,
    p.product_subtype,
    coalesce(p.product_id, -1) AS product_id,
    l.quantity::bigint AS quantity,
    l.amount AS sales
FROM dwh.fact_order AS f
JOIN dwh.fact_order_line AS l ON l.order_id = f.order_id
JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
JOIN dwh.dim_product AS p ON p.product_key = l.product_key
WHERE NOT f.is_deleted
    AND NOT f.is_lost
    AND NOT l.is_deleted
    AND d.month_start IS NOT NULL;

COMMENT ON VIEW work.agg_product_monthly IS 'What each order contributes to dwh.agg_product_monthly and its totals, a row a line.';
COMMENT ON COLUMN work.agg_product_monthly.order_id IS 'Order: the contribution key.';
COMMENT ON COLUMN work.agg_product_monthly.month_start IS 'First day of the month of the order.';
COMMENT ON COLUMN work.agg_product_monthly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN work.agg_product_monthly.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_product_monthly.product_type IS 'Product type, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_product_monthly.product_subtype IS 'Product subtype, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN work.agg_product_monthly.quantity IS 'Pieces.';
COMMENT ON COLUMN work.agg_product_monthly.sales IS 'Quantity by unit price.';

SELECT etl.define_aggregate(
    'agg_product_monthly',
    p_group => '{country,month_start,product_id,product_type,product_subtype}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_facts => ARRAY[
        etl.fed_by('fact_order', '{address_key,ordered_date_key,is_lost,is_deleted}'),
        etl.fed_by('fact_order_line', '{product_key,quantity,amount,is_deleted}')
    ]
);
SELECT etl.define_aggregate(
    'agg_product_total_monthly',
    p_group => '{month_start,product_id,product_type}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_product_monthly'
);
SELECT etl.define_aggregate(
    'agg_product_total_quarterly',
    p_group => '{quarter_start,product_id,product_type}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_product_total_monthly',
    p_rollup_expressions => ARRAY['date_trunc(''quarter'', c.month_start::timestamp)::date', 'c.product_id', 'c.product_type']
);
SELECT etl.define_aggregate(
    'agg_product_total',
    p_group => '{product_id,product_type}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_product_total_quarterly'
);
SELECT etl.define_aggregate(
    'agg_product_country',
    p_group => '{country,product_id,product_type}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_product_monthly'
);
SELECT etl.define_aggregate(
    'agg_subtype_monthly',
    p_group => '{month_start,country,product_type,product_subtype}',
    p_measures => '{quantity,sales}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_product_monthly'
);
