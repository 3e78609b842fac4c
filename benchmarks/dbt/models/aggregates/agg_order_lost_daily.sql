{{ config(
    pre_hook="{{ delete_touched(ref('contribution_loss'), ['day', 'lost_on', 'country']) }}",
    indexes=[
        {'columns': ['day', 'lost_on', 'country'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{{ aggregate(ref('contribution_loss'), ref('contribution_loss'), ['day', 'lost_on', 'country'], ['lost_orders', 'lost_amount']) }}
