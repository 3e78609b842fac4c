SELECT
    product_id,
    sku,
    product_name,
    product_subtype,
    product_type,
    price,
    supplier_id,
    is_active,
    launched_on,
    valid_from,
    valid_to,
    is_current
FROM dim_product
