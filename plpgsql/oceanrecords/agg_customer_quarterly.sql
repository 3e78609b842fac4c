-- Who ordered in which quarter, by country. Counting customers is not additive, so the grain keeps the customer: a quarter's
-- customers are the rows that are left. Who ordered to two countries is two rows there, and one in the total.

CREATE OR REPLACE VIEW work.agg_customer_quarterly AS
SELECT
    f.order_id,
    d.quarter_start,
    coalesce(c.customer_id, -1) AS customer_id,
    a.country,
    1::bigint AS orders,
    (m.number = 1)::integer::bigint AS first_month_orders,
    (m.number = 2)::integer::bigint AS second_month_orders,
    (m.number = 3)::integer::bigint AS third_month_orders
FROM dwh.fact_order AS f
JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
JOIN dwh.dim_customer AS c ON c.customer_key = f.customer_key
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
CROSS JOIN LATERAL (SELECT 1 + (d.month_number - 1) % 3) AS m (number)
WHERE NOT f.is_deleted
    AND d.quarter_start IS NOT NULL;

COMMENT ON VIEW work.agg_customer_quarterly IS 'What each order contributes to dwh.agg_customer_quarterly and its total.';
COMMENT ON COLUMN work.agg_customer_quarterly.order_id IS 'Order: the contribution key.';
COMMENT ON COLUMN work.agg_customer_quarterly.quarter_start IS 'First day of the quarter of the order.';
COMMENT ON COLUMN work.agg_customer_quarterly.customer_id IS 'Customer; -1 while the customer is not known.';
COMMENT ON COLUMN work.agg_customer_quarterly.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.agg_customer_quarterly.orders IS 'Orders.';
COMMENT ON COLUMN work.agg_customer_quarterly.first_month_orders IS 'Orders of the first month of the quarter.';
COMMENT ON COLUMN work.agg_customer_quarterly.second_month_orders IS 'Orders of the second month of the quarter.';
COMMENT ON COLUMN work.agg_customer_quarterly.third_month_orders IS 'Orders of the third month of the quarter.';

SELECT etl.define_aggregate(
    'agg_customer_quarterly',
    p_group => '{country,quarter_start,customer_id}',
    p_measures => '{orders,first_month_orders,second_month_orders,third_month_orders}',
    p_contribution_key => '{order_id}',
    p_facts => ARRAY[etl.fed_by('fact_order', '{customer_key,address_key,ordered_date_key,is_deleted}')]
);
SELECT etl.define_aggregate(
    'agg_customer_total_quarterly',
    p_group => '{quarter_start,customer_id}',
    p_measures => '{orders}',
    p_contribution_key => '{order_id}',
    p_rollup_of => 'agg_customer_quarterly'
);
