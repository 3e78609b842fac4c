{{ config(
    pre_hook="{{ delete_touched(ref('contribution_customer'), ['quarter_start', 'customer_id']) }}",
    indexes=[
        {'columns': ['quarter_start', 'customer_id'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('agg_customer_quarterly'), ref('contribution_customer'), ['quarter_start', 'customer_id'], ['orders']) }}
