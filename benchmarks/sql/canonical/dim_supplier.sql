SELECT
    supplier_id,
    supplier_name,
    country_code,
    country
FROM dim_supplier
