{{ config(
    pre_hook="{{ delete_touched(ref('contribution_sale'), ['country', 'month_start', 'product_id', 'product_type', 'product_subtype']) }}",
    indexes=[
        {'columns': ['country', 'month_start', 'product_id', 'product_type', 'product_subtype'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('contribution_sale'), ref('contribution_sale'), ['country', 'month_start', 'product_id', 'product_type', 'product_subtype'], ['quantity', 'sales']) }}
