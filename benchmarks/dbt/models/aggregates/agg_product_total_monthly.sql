{{ config(
    pre_hook="{{ delete_touched(ref('contribution_sale'), ['month_start', 'product_id', 'product_type']) }}",
    indexes=[
        {'columns': ['month_start', 'product_id', 'product_type'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('agg_product_monthly'), ref('contribution_sale'), ['month_start', 'product_id', 'product_type'], ['quantity', 'sales']) }}
