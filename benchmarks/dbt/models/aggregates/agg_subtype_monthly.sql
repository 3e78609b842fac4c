{{ config(
    pre_hook="{{ delete_touched(ref('contribution_sale'), ['month_start', 'country', 'product_type', 'product_subtype']) }}",
    indexes=[
        {'columns': ['month_start', 'country', 'product_type', 'product_subtype'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('agg_product_monthly'), ref('contribution_sale'), ['month_start', 'country', 'product_type', 'product_subtype'], ['quantity', 'sales']) }}
