-- What the changed orders contribute now. The aggregates take up the difference; groups that are left without an order go.
INSERT INTO difference_order
SELECT
    1,
    c.*
FROM changed_order
JOIN hand.contribution_order AS c USING (order_id);

INSERT INTO difference_loss
SELECT
    1,
    c.*
FROM changed_order
JOIN hand.contribution_loss AS c USING (order_id);

INSERT INTO difference_sale
SELECT
    1,
    c.*
FROM changed_order
JOIN hand.contribution_sale AS c USING (order_id);

INSERT INTO difference_customer
SELECT
    1,
    c.*
FROM changed_order
JOIN hand.contribution_customer AS c USING (order_id);

CREATE TEMPORARY TABLE change_order_daily ON COMMIT DROP AS
SELECT
    c.day,
    c.country,
    sum(c.sign * c.orders)::bigint AS orders,
    sum(c.sign * c.lost_orders)::bigint AS lost_orders,
    sum(c.sign * c.sales) AS sales,
    sum(c.sign * c.fulfilled_orders)::bigint AS fulfilled_orders,
    sum(c.sign * c.hours_to_fulfil) AS hours_to_fulfil
FROM difference_order AS c
GROUP BY 1, 2
HAVING sum(c.sign * c.orders) <> 0
    OR sum(c.sign * c.lost_orders) <> 0
    OR sum(c.sign * c.sales) <> 0
    OR sum(c.sign * c.fulfilled_orders) <> 0
    OR sum(c.sign * c.hours_to_fulfil) <> 0;

INSERT INTO hand.agg_order_daily AS a (day, country, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil)
SELECT day, country, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil
FROM change_order_daily
ON CONFLICT (day, country) DO UPDATE
SET orders = a.orders + excluded.orders,
    lost_orders = a.lost_orders + excluded.lost_orders,
    sales = a.sales + excluded.sales,
    fulfilled_orders = a.fulfilled_orders + excluded.fulfilled_orders,
    hours_to_fulfil = a.hours_to_fulfil + excluded.hours_to_fulfil;

DELETE FROM hand.agg_order_daily AS a
USING change_order_daily AS c
WHERE a.day = c.day
    AND a.country = c.country
    AND a.orders = 0
    AND a.fulfilled_orders = 0;

CREATE TEMPORARY TABLE change_order_lost_daily ON COMMIT DROP AS
SELECT
    c.day,
    c.lost_on,
    c.country,
    sum(c.sign * c.lost_orders)::bigint AS lost_orders,
    sum(c.sign * c.lost_amount) AS lost_amount
FROM difference_loss AS c
GROUP BY 1, 2, 3
HAVING sum(c.sign * c.lost_orders) <> 0
    OR sum(c.sign * c.lost_amount) <> 0;

INSERT INTO hand.agg_order_lost_daily AS a (day, lost_on, country, lost_orders, lost_amount)
SELECT day, lost_on, country, lost_orders, lost_amount
FROM change_order_lost_daily
ON CONFLICT (day, lost_on, country) DO UPDATE
SET lost_orders = a.lost_orders + excluded.lost_orders,
    lost_amount = a.lost_amount + excluded.lost_amount;

DELETE FROM hand.agg_order_lost_daily AS a
USING change_order_lost_daily AS c
WHERE a.day = c.day
    AND a.lost_on = c.lost_on
    AND a.country = c.country
    AND a.lost_orders = 0;

CREATE TEMPORARY TABLE change_product_monthly ON COMMIT DROP AS
SELECT
    c.country,
    c.month_start,
    c.product_id,
    c.product_type,
    c.product_subtype,
    sum(c.sign * c.quantity)::bigint AS quantity,
    sum(c.sign * c.sales) AS sales
FROM difference_sale AS c
GROUP BY 1, 2, 3, 4, 5
HAVING sum(c.sign * c.quantity) <> 0
    OR sum(c.sign * c.sales) <> 0;

INSERT INTO hand.agg_product_monthly AS a (country, month_start, product_id, product_type, product_subtype, quantity, sales)
SELECT country, month_start, product_id, product_type, product_subtype, quantity, sales
FROM change_product_monthly
ON CONFLICT (country, month_start, product_id, product_type, product_subtype) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_product_monthly AS a
USING change_product_monthly AS c
WHERE a.country = c.country
    AND a.month_start = c.month_start
    AND a.product_id = c.product_id
    AND a.product_type = c.product_type
    AND a.product_subtype = c.product_subtype
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_product_total_monthly ON COMMIT DROP AS
SELECT
    c.month_start,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM change_product_monthly AS c
GROUP BY 1, 2, 3
HAVING sum(c.quantity) <> 0
    OR sum(c.sales) <> 0;

INSERT INTO hand.agg_product_total_monthly AS a (month_start, product_id, product_type, quantity, sales)
SELECT month_start, product_id, product_type, quantity, sales
FROM change_product_total_monthly
ON CONFLICT (month_start, product_id, product_type) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_product_total_monthly AS a
USING change_product_total_monthly AS c
WHERE a.month_start = c.month_start
    AND a.product_id = c.product_id
    AND a.product_type = c.product_type
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_product_total_quarterly ON COMMIT DROP AS
SELECT
    date_trunc('quarter', c.month_start::timestamp)::date AS quarter_start,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM change_product_total_monthly AS c
GROUP BY 1, 2, 3
HAVING sum(c.quantity) <> 0
    OR sum(c.sales) <> 0;

INSERT INTO hand.agg_product_total_quarterly AS a (quarter_start, product_id, product_type, quantity, sales)
SELECT quarter_start, product_id, product_type, quantity, sales
FROM change_product_total_quarterly
ON CONFLICT (quarter_start, product_id, product_type) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_product_total_quarterly AS a
USING change_product_total_quarterly AS c
WHERE a.quarter_start = c.quarter_start
    AND a.product_id = c.product_id
    AND a.product_type = c.product_type
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_product_total ON COMMIT DROP AS
SELECT
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM change_product_total_quarterly AS c
GROUP BY 1, 2
HAVING sum(c.quantity) <> 0
    OR sum(c.sales) <> 0;

INSERT INTO hand.agg_product_total AS a (product_id, product_type, quantity, sales)
SELECT product_id, product_type, quantity, sales
FROM change_product_total
ON CONFLICT (product_id, product_type) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_product_total AS a
USING change_product_total AS c
WHERE a.product_id = c.product_id
    AND a.product_type = c.product_type
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_product_country ON COMMIT DROP AS
SELECT
    c.country,
    c.product_id,
    c.product_type,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM change_product_monthly AS c
GROUP BY 1, 2, 3
HAVING sum(c.quantity) <> 0
    OR sum(c.sales) <> 0;

INSERT INTO hand.agg_product_country AS a (country, product_id, product_type, quantity, sales)
SELECT country, product_id, product_type, quantity, sales
FROM change_product_country
ON CONFLICT (country, product_id, product_type) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_product_country AS a
USING change_product_country AS c
WHERE a.country = c.country
    AND a.product_id = c.product_id
    AND a.product_type = c.product_type
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_subtype_monthly ON COMMIT DROP AS
SELECT
    c.month_start,
    c.country,
    c.product_type,
    c.product_subtype,
    sum(c.quantity)::bigint AS quantity,
    sum(c.sales) AS sales
FROM change_product_monthly AS c
GROUP BY 1, 2, 3, 4
HAVING sum(c.quantity) <> 0
    OR sum(c.sales) <> 0;

INSERT INTO hand.agg_subtype_monthly AS a (month_start, country, product_type, product_subtype, quantity, sales)
SELECT month_start, country, product_type, product_subtype, quantity, sales
FROM change_subtype_monthly
ON CONFLICT (month_start, country, product_type, product_subtype) DO UPDATE
SET quantity = a.quantity + excluded.quantity,
    sales = a.sales + excluded.sales;

DELETE FROM hand.agg_subtype_monthly AS a
USING change_subtype_monthly AS c
WHERE a.month_start = c.month_start
    AND a.country = c.country
    AND a.product_type = c.product_type
    AND a.product_subtype = c.product_subtype
    AND a.quantity = 0;

CREATE TEMPORARY TABLE change_customer_quarterly ON COMMIT DROP AS
SELECT
    c.country,
    c.quarter_start,
    c.customer_id,
    sum(c.sign * c.orders)::bigint AS orders
FROM difference_customer AS c
GROUP BY 1, 2, 3
HAVING sum(c.sign * c.orders) <> 0;

INSERT INTO hand.agg_customer_quarterly AS a (country, quarter_start, customer_id, orders)
SELECT country, quarter_start, customer_id, orders
FROM change_customer_quarterly
ON CONFLICT (country, quarter_start, customer_id) DO UPDATE
SET orders = a.orders + excluded.orders;

DELETE FROM hand.agg_customer_quarterly AS a
USING change_customer_quarterly AS c
WHERE a.country = c.country
    AND a.quarter_start = c.quarter_start
    AND a.customer_id = c.customer_id
    AND a.orders = 0;

CREATE TEMPORARY TABLE change_customer_total_quarterly ON COMMIT DROP AS
SELECT
    c.quarter_start,
    c.customer_id,
    sum(c.orders)::bigint AS orders
FROM change_customer_quarterly AS c
GROUP BY 1, 2
HAVING sum(c.orders) <> 0;

INSERT INTO hand.agg_customer_total_quarterly AS a (quarter_start, customer_id, orders)
SELECT quarter_start, customer_id, orders
FROM change_customer_total_quarterly
ON CONFLICT (quarter_start, customer_id) DO UPDATE
SET orders = a.orders + excluded.orders;

DELETE FROM hand.agg_customer_total_quarterly AS a
USING change_customer_total_quarterly AS c
WHERE a.quarter_start = c.quarter_start
    AND a.customer_id = c.customer_id
    AND a.orders = 0;
