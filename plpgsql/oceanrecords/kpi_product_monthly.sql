CREATE OR REPLACE VIEW kpi.product_monthly AS
SELECT
    a.month_start,
    a.country,
    a.product_type,
    a.product_subtype,
    a.product_id,
    p.product_name,
    a.quantity,
    a.sales
FROM dwh.agg_product_monthly AS a
-- A name is overwritten in all versions of its product, so any one of them tells it.
LEFT JOIN (
    SELECT
        coalesce(d.product_id, -1) AS product_id,
        min(d.product_name) AS product_name
    FROM dwh.dim_product AS d
    GROUP BY 1
) AS p USING (product_id);

COMMENT ON VIEW kpi.product_monthly IS 'What was sold by month, country and product; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.product_monthly.country IS 'Country that the orders went to.';
COMMENT ON COLUMN kpi.product_monthly.product_type IS 'Product type at the time of the order.';
COMMENT ON COLUMN kpi.product_monthly.product_subtype IS 'Product subtype at the time of the order.';
COMMENT ON COLUMN kpi.product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_monthly.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_monthly.sales IS 'Sales: quantity by price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_type AS
SELECT DISTINCT d.product_type
FROM dwh.dim_product AS d
WHERE d.product_key <> -1
    OR EXISTS (
        SELECT
        FROM dwh.agg_product_monthly AS a
        WHERE a.product_id = -1
    );
COMMENT ON VIEW kpi.product_type IS 'Product types that products are or were sold under: the values of a filter. Source: dwh.dim_product.';
COMMENT ON COLUMN kpi.product_type.product_type IS 'Product type.';
