{{ config(
    pre_hook="{{ delete_touched(ref('contribution_sale'), ['product_id', 'product_type']) }}",
    indexes=[
        {'columns': ['product_id', 'product_type'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('agg_product_total_quarterly'), ref('contribution_sale'), ['product_id', 'product_type'], ['quantity', 'sales']) }}
