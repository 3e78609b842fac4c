{{ config(
    unique_key='customer_key',
    indexes=[
        {'columns': ['customer_key'], 'unique': True},
        {'columns': ['customer_id', 'valid_from']},
        {'columns': ['updated_at']},
    ],
) }}

{% set changed %}
    {% if is_incremental() %}where c.updated_at > {{ watermark() }}{% endif %}
{% endset %}

with version as (
    select
        s.customer_id,
        s.segment,
        case when row_number() over moment = 1 then '-infinity' else s.dbt_valid_from end as valid_from,
        coalesce(s.dbt_valid_to, 'infinity') as valid_to,
        first_value(s.created_at) over moment as created_at
    from {{ ref('snapshot_customer') }} as s
    {% if is_incremental() %}
    where s.customer_id in (select c.customer_id from {{ source('oceanrecords', 'customers') }} as c {{ changed }})
    {% endif %}
    window moment as (partition by s.customer_id order by s.dbt_valid_from)
)

select
    {{ surrogate_key('v.customer_id', 'v.valid_from') }} as customer_key,
    v.customer_id,
    trim(c.first_name) as first_name,
    trim(c.last_name) as last_name,
    trim(c.first_name) || ' ' || trim(c.last_name) as full_name,
    lower(trim(c.email)) as email,
    nullif(trim(c.phone), '') as phone,
    v.segment,
    (v.created_at at time zone 'UTC')::date as customer_since,
    v.valid_from,
    v.valid_to,
    v.valid_to = 'infinity' as is_current,
    c.updated_at
from version as v
join {{ source('oceanrecords', 'customers') }} as c using (customer_id)
{% if not is_incremental() %}
union all
select -1, null, 'Unknown', 'Unknown', 'Unknown', '', null, 'unknown', null, '-infinity', 'infinity', true, '-infinity'
{% endif %}
