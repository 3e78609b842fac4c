-- A surrogate key stands for a version of a member: its business key and the moment from which it holds.
SELECT
    f.order_id,
    f.line_number,
    p.product_id,
    p.valid_from AS product_valid_from,
    s.supplier_id,
    f.ordered_date_key,
    f.ordered_at,
    f.quantity,
    f.unit_price,
    f.amount,
    f.is_deleted
FROM fact_order_line AS f
LEFT JOIN dim_product AS p USING (product_key)
LEFT JOIN dim_supplier AS s USING (supplier_key)
