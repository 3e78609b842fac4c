{{ config(
    pre_hook="{{ delete_touched(ref('contribution_sale'), ['quarter_start', 'product_id', 'product_type']) }}",
    indexes=[
        {'columns': ['quarter_start', 'product_id', 'product_type'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('agg_product_total_monthly'), ref('contribution_sale'), ['quarter_start', 'product_id', 'product_type'], ['quantity', 'sales'], {'quarter_start': "date_trunc('quarter', c.month_start::timestamp)::date"}) }}
