SELECT
    member,
    change,
    sales,
    sales_before,
    period
FROM kpi.movement_of(
    'product_subtype'
    [[, p_from => {{from}}::date]]
    [[, p_to => {{to}}::date]]
    [[, p_countries => ARRAY[{{country}}] ]]
    [[, p_product_types => ARRAY[{{product_type}}] ]]
    [[, p_product_subtypes => ARRAY[{{product_subtype}}] ]]
    [[, p_products => ARRAY[{{product_name}}] ]]
)
