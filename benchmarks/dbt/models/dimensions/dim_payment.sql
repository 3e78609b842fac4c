{{ config(materialized='table') }}

select
    p.payment_method_id::bigint as payment_key,
    p.payment_method_id,
    p.code as payment_code,
    p.name as payment_name
from {{ source('oceanrecords', 'payment_methods') }} as p
union all
select -1, null, 'unknown', 'Unknown'
