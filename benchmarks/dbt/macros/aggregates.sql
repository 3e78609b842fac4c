{# The groups that changed orders contribute to now. Groups that an order has left are not looked for. #}
{% macro touched_groups(contributions, group, expressions={}) -%}
    select distinct
        {%- for name in group %}
        {{ expressions.get(name, 'c.' ~ name) }} as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ contributions }} as c
    where c.updated_at > {{ watermark() }}
{%- endmacro %}

{# Deletes the touched groups, which the model then appends as they are now: a group may be left without an order. #}
{% macro delete_touched(contributions, group, expressions={}) -%}
{% if is_incremental() %}
delete from {{ this }} as t
using ({{ touched_groups(contributions, group, expressions) }}) as k
where {% for name in group %}t.{{ name }} = k.{{ name }}{{ ' and ' if not loop.last }}{% endfor %}
{% endif %}
{%- endmacro %}

{# The sums of an aggregate over its source: of all groups, or of the touched ones. #}
{% macro aggregate(source, contributions, group, measures, expressions={}) -%}
select
    {%- for name in group %}
    {{ expressions.get(name, 'c.' ~ name) }} as {{ name }},
    {%- endfor %}
    {%- for name in measures %}
    sum(c.{{ name }}) as {{ name }},
    {%- endfor %}
    max(c.updated_at) as updated_at
from {{ source }} as c
where {{ 'c.counts' if source == contributions else 'true' }}
{% if is_incremental() %}
    and ({% for name in group %}{{ expressions.get(name, 'c.' ~ name) }}{{ ', ' if not loop.last }}{% endfor %}) in (
        {{ touched_groups(contributions, group, expressions) }}
    )
{% endif %}
group by {{ range(1, group | length + 1) | join(', ') }}
{%- endmacro %}
