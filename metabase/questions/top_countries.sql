SELECT
    member,
    quantity,
    sales,
    share_percent
FROM kpi.ranking_of(
    'country'
    [[, p_from => {{from}}::date]]
    [[, p_to => {{to}}::date]]
    [[, p_countries => ARRAY[{{country}}] ]]
    [[, p_product_types => ARRAY[{{product_type}}] ]]
    [[, p_product_subtypes => ARRAY[{{product_subtype}}] ]]
    [[, p_products => ARRAY[{{product_name}}] ]]
)
