{{ config(
    pre_hook="{{ delete_touched(ref('contribution_customer'), ['country', 'quarter_start', 'customer_id']) }}",
    indexes=[
        {'columns': ['country', 'quarter_start', 'customer_id'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('contribution_customer'), ref('contribution_customer'), ['country', 'quarter_start', 'customer_id'], ['orders']) }}
