{{ config(materialized='view') }}

select
    f.order_id,
    date_trunc('quarter', f.ordered_at at time zone 'UTC')::date as quarter_start,
    coalesce(c.customer_id, -1) as customer_id,
    a.country,
    1 as orders,
    true as counts,
    f.updated_at
from {{ ref('fact_order') }} as f
join {{ ref('dim_customer') }} as c using (customer_key)
join {{ ref('dim_address') }} as a using (address_key)
