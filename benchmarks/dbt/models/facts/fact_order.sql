{{ config(
    unique_key='order_id',
    indexes=[
        {'columns': ['order_id'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

{% set since = watermark() if is_incremental() else none %}

with
{% if since %}
changed as materialized (
    select o.order_id
    from {{ source('oceanrecords', 'orders') }} as o
    where o.updated_at > {{ since }}
    union
    select l.order_id
    from {{ source('oceanrecords', 'order_lines') }} as l
    where l.updated_at > {{ since }}
),
{% endif %}

line as (
    select
        l.order_id,
        count(*)::integer as line_count,
        sum(l.quantity) as quantity,
        sum(l.quantity * l.unit_price) as gross_amount,
        max(l.updated_at) as updated_at
    from {{ source('oceanrecords', 'order_lines') }} as l
    {% if since %}
    join changed as k using (order_id)
    {% endif %}
    group by l.order_id
)

select
    o.order_id,
    coalesce(c.customer_key, -1) as customer_key,
    coalesce(a.address_key, -1) as address_key,
    coalesce(p.payment_key, -1) as payment_key,
    coalesce(s.status_key, -1) as status_key,
    {{ date_key('o.ordered_at') }} as ordered_date_key,
    coalesce({{ date_key('o.shipped_at') }}, -2) as shipped_date_key,
    coalesce({{ date_key('o.delivered_at') }}, -2) as delivered_date_key,
    o.ordered_at,
    o.shipped_at,
    o.delivered_at,
    case when s.is_lost then coalesce(o.cancelled_at, o.refunded_at) end as lost_at,
    coalesce(l.line_count, 0) as line_count,
    coalesce(l.quantity, 0) as quantity,
    coalesce(l.gross_amount, 0)::numeric(14, 2) as gross_amount,
    round(extract(epoch from o.delivered_at - o.ordered_at) / 3600, 4)::numeric(12, 4) as hours_to_fulfil,
    coalesce(s.is_lost, false) as is_lost,
    false as is_deleted,
    greatest(o.updated_at, l.updated_at) as updated_at
from {{ source('oceanrecords', 'orders') }} as o
{% if since %}
join changed as k using (order_id)
{% endif %}
left join line as l using (order_id)
left join {{ ref('dim_customer') }} as c
    on c.customer_id = o.customer_id
    and o.ordered_at >= c.valid_from
    and o.ordered_at < c.valid_to
left join {{ ref('dim_address') }} as a
    on a.address_id = o.address_id
    and o.ordered_at >= a.valid_from
    and o.ordered_at < a.valid_to
left join {{ ref('dim_payment') }} as p using (payment_method_id)
left join {{ ref('dim_status') }} as s using (order_status_id)
