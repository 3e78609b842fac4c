{{ config(materialized='table') }}

select
    s.order_status_id::bigint as status_key,
    s.order_status_id,
    s.code as status_code,
    s.name as status_name,
    s.is_lost
from {{ source('oceanrecords', 'order_statuses') }} as s
union all
select -1, null, 'unknown', 'Unknown', false
