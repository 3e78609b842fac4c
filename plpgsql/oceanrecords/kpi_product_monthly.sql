-- What was sold by month: by country and product, and the totals of that. A name is overwritten in all versions of its product,
-- so any one of them tells it.

CREATE OR REPLACE VIEW kpi.product AS
SELECT
    d.product_id,
    min(d.product_name) AS product_name
FROM dwh.dim_product AS d
WHERE d.product_id IS NOT NULL
GROUP BY d.product_id;

COMMENT ON VIEW kpi.product IS 'Products with their names as they are now. Source: dwh.dim_product.';
COMMENT ON COLUMN kpi.product.product_id IS 'Product.';
COMMENT ON COLUMN kpi.product.product_name IS 'Name.';

CREATE OR REPLACE VIEW kpi.product_monthly AS
SELECT
    a.month_start,
    a.country,
    a.product_type,
    a.product_subtype,
    a.product_id,
    coalesce(p.product_name, 'Unknown') AS product_name,
    a.quantity,
    a.sales
FROM dwh.agg_product_monthly AS a
LEFT JOIN kpi.product AS p USING (product_id);

COMMENT ON VIEW kpi.product_monthly IS 'What was sold by month, country and product; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.product_monthly.country IS 'Country that the orders went to.';
COMMENT ON COLUMN kpi.product_monthly.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.product_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN kpi.product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_monthly.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_monthly.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_total_monthly AS
SELECT
    a.month_start,
    a.product_type,
    a.product_subtype,
    a.product_id,
    coalesce(p.product_name, 'Unknown') AS product_name,
    a.quantity,
    a.sales
FROM dwh.agg_product_total_monthly AS a
LEFT JOIN kpi.product AS p USING (product_id);

COMMENT ON VIEW kpi.product_total_monthly IS 'What was sold by month and product, over all countries; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_total_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.product_total_monthly.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.product_total_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN kpi.product_total_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_total_monthly.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_total_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_total_monthly.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_total AS
SELECT
    a.product_id,
    a.product_type,
    coalesce(p.product_name, 'Unknown') AS product_name,
    a.quantity,
    a.sales
FROM dwh.agg_product_total AS a
LEFT JOIN kpi.product AS p USING (product_id);

COMMENT ON VIEW kpi.product_total IS 'What was sold by product, over all countries and months; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_total.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_total.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.product_total.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_total.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_total.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_country AS
SELECT
    a.country,
    a.product_id,
    a.product_type,
    coalesce(p.product_name, 'Unknown') AS product_name,
    a.quantity,
    a.sales
FROM dwh.agg_product_country AS a
LEFT JOIN kpi.product AS p USING (product_id);

COMMENT ON VIEW kpi.product_country IS 'What was sold by country and product, over all months; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_country.country IS 'Country that the orders went to.';
COMMENT ON COLUMN kpi.product_country.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_country.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.product_country.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_country.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_country.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.subtype_monthly AS
SELECT
    a.month_start,
    a.country,
    a.product_type,
    a.product_subtype,
    a.quantity,
    a.sales
FROM dwh.agg_subtype_monthly AS a;

COMMENT ON VIEW kpi.subtype_monthly IS 'What was sold by month, country and product subtype; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.subtype_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.subtype_monthly.country IS 'Country that the orders went to.';
COMMENT ON COLUMN kpi.subtype_monthly.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.subtype_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN kpi.subtype_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.subtype_monthly.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_type AS
SELECT DISTINCT a.product_type
FROM dwh.agg_subtype_monthly AS a;
COMMENT ON VIEW kpi.product_type IS 'Product types of which something was sold: the values of a filter. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_type.product_type IS 'Product type.';
