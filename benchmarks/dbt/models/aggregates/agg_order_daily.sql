{{ config(
    pre_hook="{{ delete_touched(ref('contribution_order'), ['day', 'country']) }}",
    indexes=[
        {'columns': ['day', 'country'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('contribution_order'), ref('contribution_order'), ['day', 'country'], ['orders', 'lost_orders', 'sales', 'fulfilled_orders', 'hours_to_fulfil']) }}
