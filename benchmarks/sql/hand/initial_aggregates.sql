-- What each order contributes to the aggregates, and the aggregates: each is one GROUP BY, the totals over the aggregate below them.
CREATE VIEW hand.contribution_order AS
SELECT
    f.order_id,
    e.day,
    a.country,
    e.orders,
    e.lost_orders,
    e.sales,
    e.fulfilled_orders,
    e.hours_to_fulfil
FROM hand.fact_order AS f
JOIN hand.dim_address AS a USING (address_key)
CROSS JOIN LATERAL (
    VALUES
        (
            (f.ordered_at AT TIME ZONE 'UTC')::date, 1, f.is_lost::integer,
            CASE WHEN f.is_lost THEN 0 ELSE f.gross_amount END, 0, 0::numeric
        ),
        ((f.delivered_at AT TIME ZONE 'UTC')::date, 0, 0, 0, 1, f.hours_to_fulfil)
) AS e (day, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil)
WHERE e.day IS NOT NULL;

CREATE VIEW hand.contribution_loss AS
SELECT
    f.order_id,
    (f.ordered_at AT TIME ZONE 'UTC')::date AS day,
    (coalesce(f.lost_at, f.ordered_at) AT TIME ZONE 'UTC')::date AS lost_on,
    a.country,
    1 AS lost_orders,
    f.gross_amount AS lost_amount
FROM hand.fact_order AS f
JOIN hand.dim_address AS a USING (address_key)
WHERE f.is_lost;

CREATE VIEW hand.contribution_sale AS
SELECT
    f.order_id,
    date_trunc('month', f.ordered_at AT TIME ZONE 'UTC')::date AS month_start,
    a.country,
    p.product_type,
    p.product_subtype,
    coalesce(p.product_id, -1) AS product_id,
    l.quantity,
    l.amount AS sales
FROM hand.fact_order AS f
JOIN hand.fact_order_line AS l USING (order_id)
JOIN hand.dim_address AS a USING (address_key)
JOIN hand.dim_product AS p USING (product_key)
WHERE NOT f.is_lost;

CREATE VIEW hand.contribution_customer AS
SELECT
    f.order_id,
    date_trunc('quarter', f.ordered_at AT TIME ZONE 'UTC')::date AS quarter_start,
    coalesce(c.customer_id, -1) AS customer_id,
    a.country,
    1 AS orders
FROM hand.fact_order AS f
JOIN hand.dim_customer AS c USING (customer_key)
JOIN hand.dim_address AS a USING (address_key);

CREATE TABLE hand.agg_order_daily AS
SELECT
    c.day,
    c.country,
    sum(c.orders)::bigint AS orders,
    sum(c.lost_orders)::bigint AS lost_orders,
    sum(c.sales) AS sales,
    sum(c.fulfilled_orders)::bigint AS fulfilled_orders,
    sum(c.hours_to_fulfil) AS hours_to_fulfil
FROM hand.contribution_order AS c
GROUP BY 1, 2;
ALTER TABLE hand.agg_order_daily ADD PRIMARY KEY (day, country);

CREATE TABLE hand.agg_order_lost_daily AS
SELECT
    c.day,
    c.lost_on,
    c.country,
    sum(c.lost_orders)::bigint AS lost_orders,
    sum(c.lost_amount) AS lost_amount
FROM hand.contribution_loss AS c
GROUP BY 1, 2, 3;
ALTER TABLE hand.agg_order_lost_daily ADD PRIMARY KEY (day, lost_on, country);

CREATE TABLE hand.agg_product_monthly AS
SELECT
    c.country,
    c.month_start,
    c.product_id,
    c.product_type,
    c.product_subtype,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.contribution_sale AS c
GROUP BY 1, 2, 3, 4, 5;
ALTER TABLE hand.agg_product_monthly ADD PRIMARY KEY (country, month_start, product_id, product_type, product_subtype);

CREATE TABLE hand.agg_product_total_monthly AS
SELECT
    c.month_start,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.agg_product_monthly AS c
GROUP BY 1, 2, 3;
ALTER TABLE hand.agg_product_total_monthly ADD PRIMARY KEY (month_start, product_id, product_type);

CREATE TABLE hand.agg_product_total_quarterly AS
SELECT
    date_trunc('quarter', c.month_start::timestamp)::date AS quarter_start,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.agg_product_total_monthly AS c
GROUP BY 1, 2, 3;
ALTER TABLE hand.agg_product_total_quarterly ADD PRIMARY KEY (quarter_start, product_id, product_type);

CREATE TABLE hand.agg_product_total AS
SELECT
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.agg_product_total_quarterly AS c
GROUP BY 1, 2;
ALTER TABLE hand.agg_product_total ADD PRIMARY KEY (product_id, product_type);

CREATE TABLE hand.agg_product_country AS
SELECT
    c.country,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.agg_product_monthly AS c
GROUP BY 1, 2, 3;
ALTER TABLE hand.agg_product_country ADD PRIMARY KEY (country, product_id, product_type);

CREATE TABLE hand.agg_subtype_monthly AS
SELECT
    c.month_start,
    c.country,
    c.product_type,
    c.product_subtype,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM hand.agg_product_monthly AS c
GROUP BY 1, 2, 3, 4;
ALTER TABLE hand.agg_subtype_monthly ADD PRIMARY KEY (month_start, country, product_type, product_subtype);

CREATE TABLE hand.agg_customer_quarterly AS
SELECT
    c.country,
    c.quarter_start,
    c.customer_id,
    sum(c.orders)::bigint AS orders
FROM hand.contribution_customer AS c
GROUP BY 1, 2, 3;
ALTER TABLE hand.agg_customer_quarterly ADD PRIMARY KEY (country, quarter_start, customer_id);

CREATE TABLE hand.agg_customer_total_quarterly AS
SELECT
    c.quarter_start,
    c.customer_id,
    sum(c.orders)::bigint AS orders
FROM hand.agg_customer_quarterly AS c
GROUP BY 1, 2;
ALTER TABLE hand.agg_customer_total_quarterly ADD PRIMARY KEY (quarter_start, customer_id);

ANALYZE hand.agg_order_daily, hand.agg_order_lost_daily, hand.agg_product_monthly, hand.agg_product_total_monthly, hand.agg_product_total_quarterly,
    hand.agg_product_total, hand.agg_product_country, hand.agg_subtype_monthly, hand.agg_customer_quarterly, hand.agg_customer_total_quarterly;
