{# A surrogate key is a hash of the business key and of the moment from which the version holds. As a number, not as text: smaller and faster. #}
{% macro surrogate_key(business_key, valid_from) -%}
    hashtextextended({{ business_key }}::text || '|' || ({{ valid_from }})::text, 0) & 9223372036854775807
{%- endmacro %}

{# The watermark of a model as a literal: the planner then knows how little is new, and takes the index. #}
{% macro watermark() -%}
    {%- if execute -%}
        {%- set found = run_query('select max(updated_at)::text from ' ~ this).columns[0].values()[0] -%}
        '{{ found or '-infinity' }}'::timestamptz
    {%- endif -%}
{%- endmacro %}

{% macro date_key(moment) -%}
    to_char({{ moment }} at time zone 'UTC', 'YYYYMMDD')::integer
{%- endmacro %}
