{{ config(
    unique_key=['order_id', 'line_number'],
    indexes=[
        {'columns': ['order_id', 'line_number'], 'unique': True},
        {'columns': ['updated_at']},
    ],
) }}

select
    l.order_id,
    l.line_number,
    coalesce(p.product_key, -1) as product_key,
    coalesce(s.supplier_key, -1) as supplier_key,
    {{ date_key('o.ordered_at') }} as ordered_date_key,
    o.ordered_at,
    l.quantity,
    l.unit_price,
    (l.quantity * l.unit_price)::numeric(14, 2) as amount,
    false as is_deleted,
    l.updated_at
from {{ source('oceanrecords', 'order_lines') }} as l
join {{ source('oceanrecords', 'orders') }} as o using (order_id)
left join {{ ref('dim_product') }} as p
    on p.product_id = l.product_id
    and o.ordered_at >= p.valid_from
    and o.ordered_at < p.valid_to
left join {{ ref('dim_supplier') }} as s using (supplier_id)
{% if is_incremental() %}
where l.updated_at > {{ watermark() }}
{% endif %}
