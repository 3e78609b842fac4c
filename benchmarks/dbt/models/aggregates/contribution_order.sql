{{ config(materialized='view') }}

select
    f.order_id,
    e.day,
    a.country,
    e.orders,
    e.lost_orders,
    e.sales,
    e.fulfilled_orders,
    e.hours_to_fulfil,
    true as counts,
    f.updated_at
from {{ ref('fact_order') }} as f
join {{ ref('dim_address') }} as a using (address_key)
cross join lateral (
    values
        (
            (f.ordered_at at time zone 'UTC')::date, 1, f.is_lost::integer,
            case when f.is_lost then 0 else f.gross_amount end, 0, 0::numeric
        ),
        ((f.delivered_at at time zone 'UTC')::date, 0, 0, 0, 1, f.hours_to_fulfil)
) as e (day, orders, lost_orders, sales, fulfilled_orders, hours_to_fulfil)
where e.day is not null
