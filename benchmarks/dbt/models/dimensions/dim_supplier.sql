{{ config(materialized='table') }}

select
    s.supplier_id::bigint as supplier_key,
    s.supplier_id,
    trim(s.name) as supplier_name,
    s.country_code,
    coalesce(n.country, s.country_code) as country
from {{ source('oceanrecords', 'suppliers') }} as s
left join {{ source('work', 'country') }} as n using (country_code)
union all
select -1, null, 'Unknown', '??', 'Unknown'
