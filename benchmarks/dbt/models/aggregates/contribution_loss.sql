{{ config(materialized='view') }}

select
    f.order_id,
    (f.ordered_at at time zone 'UTC')::date as day,
    (coalesce(f.lost_at, f.ordered_at) at time zone 'UTC')::date as lost_on,
    a.country,
    1 as lost_orders,
    f.gross_amount as lost_amount,
    f.is_lost as counts,
    f.updated_at
from {{ ref('fact_order') }} as f
join {{ ref('dim_address') }} as a using (address_key)
