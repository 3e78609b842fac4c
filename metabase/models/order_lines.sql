SELECT
    ordered.full_date AS ordered_on,
    address.country,
    product.product_type,
    product.product_subtype,
    product.product_name,
    supplier.supplier_name,
    l.quantity,
    l.unit_price,
    CASE WHEN f.is_lost THEN 0 ELSE l.amount END AS sales,
    f.is_lost
FROM analysis.fact_order_line AS l
INNER JOIN analysis.fact_order AS f
    ON f.order_id = l.order_id
INNER JOIN analysis.dim_date AS ordered
    ON ordered.date_key = l.ordered_date_key
INNER JOIN analysis.dim_address AS address
    ON address.address_key = f.address_key
INNER JOIN analysis.dim_product AS product
    ON product.product_key = l.product_key
INNER JOIN analysis.dim_supplier AS supplier
    ON supplier.supplier_key = l.supplier_key
WHERE NOT l.is_deleted
