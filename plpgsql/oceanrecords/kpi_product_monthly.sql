-- What was sold by month, country and product, and what sold for most. A name is overwritten in all versions of its product,
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
COMMENT ON COLUMN kpi.product_monthly.country IS 'Country that the orders went to, as it was when sold.';
COMMENT ON COLUMN kpi.product_monthly.product_type IS 'Product type as it was when sold.';
COMMENT ON COLUMN kpi.product_monthly.product_subtype IS 'Product subtype as it was when sold.';
COMMENT ON COLUMN kpi.product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_monthly.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_monthly.sales IS 'Sales: quantity times price at the time of the order, in the business currency.';

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
COMMENT ON COLUMN kpi.subtype_monthly.country IS 'Country that the orders went to, as it was when sold.';
COMMENT ON COLUMN kpi.subtype_monthly.product_type IS 'Product type as it was when sold.';
COMMENT ON COLUMN kpi.subtype_monthly.product_subtype IS 'Product subtype as it was when sold.';
COMMENT ON COLUMN kpi.subtype_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.subtype_monthly.sales IS 'Sales: quantity times price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_type AS
SELECT DISTINCT a.product_type
FROM dwh.agg_subtype_monthly AS a;
COMMENT ON VIEW kpi.product_type IS 'Product types of which something was sold: the values of a filter. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_type.product_type IS 'Product type.';
