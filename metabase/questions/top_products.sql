SELECT
    product_name,
    quantity,
    sales,
    share_percent
FROM kpi.top_products_of(
    p_limit => 10
    [[, p_from => {{from}}::date]]
    [[, p_to => {{to}}::date]]
    [[, p_countries => ARRAY[{{country}}] ]]
    [[, p_product_types => ARRAY[{{product_type}}] ]]
)
