{{ config(
    unique_key='address_key',
    indexes=[
        {'columns': ['address_key'], 'unique': True},
        {'columns': ['address_id', 'valid_from']},
        {'columns': ['updated_at']},
    ],
) }}

with version as (
    select
        s.address_id,
        s.city,
        s.country_code,
        case when row_number() over moment = 1 then '-infinity' else s.dbt_valid_from end as valid_from,
        coalesce(s.dbt_valid_to, 'infinity') as valid_to
    from {{ ref('snapshot_address') }} as s
    {% if is_incremental() %}
    where s.address_id in (
        select a.address_id
        from {{ source('oceanrecords', 'addresses') }} as a
        where a.updated_at > {{ watermark() }}
    )
    {% endif %}
    window moment as (partition by s.address_id order by s.dbt_valid_from)
)

select
    {{ surrogate_key('v.address_id', 'v.valid_from') }} as address_key,
    v.address_id,
    trim(a.street) as street,
    upper(trim(a.postal_code)) as postal_code,
    trim(v.city) as city,
    v.country_code,
    coalesce(n.country, v.country_code) as country,
    v.valid_from,
    v.valid_to,
    v.valid_to = 'infinity' as is_current,
    a.updated_at
from version as v
join {{ source('oceanrecords', 'addresses') }} as a using (address_id)
left join {{ source('work', 'country') }} as n on n.country_code = v.country_code
{% if not is_incremental() %}
union all
select -1, null, 'Unknown', '', 'Unknown', '??', 'Unknown', '-infinity', 'infinity', true, '-infinity'
{% endif %}
