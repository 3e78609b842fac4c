{{ config(
    unique_key='product_key',
    indexes=[
        {'columns': ['product_key'], 'unique': True},
        {'columns': ['product_id', 'valid_from']},
        {'columns': ['updated_at']},
    ],
) }}

-- The price has its history from the log of the source, subtype and supplier from the snapshot: a version is where both overlap.
with changed as (
    select p.*
    from {{ source('oceanrecords', 'products') }} as p
    {% if is_incremental() %}
    where p.updated_at > {{ watermark() }}
    {% endif %}
),

logged as (
    select
        r.product_id,
        r.valid_from,
        r.price,
        lag(r.price) over (partition by r.product_id order by r.valid_from) is distinct from r.price as is_new
    from {{ source('oceanrecords', 'product_prices') }} as r
    {% if is_incremental() %}
    where r.product_id in (select c.product_id from changed as c)
    {% endif %}
),

price as (
    select
        l.product_id,
        l.price,
        case when row_number() over moment = 1 then '-infinity' else l.valid_from end as valid_from,
        coalesce(lead(l.valid_from) over moment, 'infinity') as valid_to
    from logged as l
    where l.is_new
    window moment as (partition by l.product_id order by l.valid_from)
),

place as (
    select
        s.product_id,
        s.product_subtype_id,
        s.supplier_id,
        case when row_number() over moment = 1 then '-infinity' else s.dbt_valid_from end as valid_from,
        coalesce(s.dbt_valid_to, 'infinity') as valid_to
    from {{ ref('snapshot_product') }} as s
    {% if is_incremental() %}
    where s.product_id in (select c.product_id from changed as c)
    {% endif %}
    window moment as (partition by s.product_id order by s.dbt_valid_from)
),

version as (
    select
        r.product_id,
        r.price,
        a.product_subtype_id,
        a.supplier_id,
        greatest(r.valid_from, a.valid_from) as valid_from,
        least(r.valid_to, a.valid_to) as valid_to
    from price as r
    join place as a
        on a.product_id = r.product_id
        and a.valid_from < r.valid_to
        and r.valid_from < a.valid_to
)

select
    {{ surrogate_key('v.product_id', 'v.valid_from') }} as product_key,
    v.product_id,
    c.sku,
    trim(c.name) as product_name,
    s.name as product_subtype,
    t.name as product_type,
    v.price,
    v.supplier_id,
    c.is_active,
    (c.created_at at time zone 'UTC')::date as launched_on,
    v.valid_from,
    v.valid_to,
    v.valid_to = 'infinity' as is_current,
    c.updated_at
from version as v
join changed as c using (product_id)
join {{ source('oceanrecords', 'product_subtypes') }} as s on s.product_subtype_id = v.product_subtype_id
join {{ source('oceanrecords', 'product_types') }} as t using (product_type_id)
{% if not is_incremental() %}
union all
select -1, null, '', 'Unknown', 'Unknown', 'Unknown', null, null, false, null, '-infinity', 'infinity', true, '-infinity'
{% endif %}
