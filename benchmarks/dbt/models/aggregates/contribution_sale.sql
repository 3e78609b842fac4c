{{ config(materialized='view') }}

select
    f.order_id,
    date_trunc('month', f.ordered_at at time zone 'UTC')::date as month_start,
    date_trunc('quarter', f.ordered_at at time zone 'UTC')::date as quarter_start,
    a.country,
    p.product_type,
    p.product_subtype,
    coalesce(p.product_id, -1) as product_id,
    l.quantity,
    l.amount as sales,
    not f.is_lost as counts,
    f.updated_at
from {{ ref('fact_order') }} as f
join {{ ref('fact_order_line') }} as l using (order_id)
join {{ ref('dim_address') }} as a using (address_key)
join {{ ref('dim_product') }} as p using (product_key)
