-- Contributions of planned fact rows to aggregates, before and after the rows are written.

-- Refuses a sum that no later difference could remove: numeric NaN and Infinity stay in a group for ever.
-- Parameters: p_sum, the sum; p_aggregate, p_measure, for the message.
-- Returns:    the sum.
-- Errors:     22003 (numeric_value_out_of_range) when it is not finite; the load of a fact isolates the row.
CREATE OR REPLACE FUNCTION etl._finite(p_sum numeric, p_aggregate name, p_measure name)
RETURNS numeric
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_finite$
BEGIN
    IF p_sum IN ('NaN', 'Infinity', '-Infinity') THEN
        RAISE EXCEPTION 'measure "%" of aggregate "%" is not finite', p_measure, p_aggregate
            USING ERRCODE = 'numeric_value_out_of_range', HINT = 'Correct the fact rows, or leave them out of the contribution view.';
    END IF;
    RETURN p_sum;
END
$_finite$;

-- Sums of an aggregate's measures over rows with the alias c.
-- Parameters: p_aggregate, the aggregate.
-- Returns:    columns of a SELECT; a sum that is numeric is checked to be finite.
CREATE OR REPLACE FUNCTION etl._sums_sql(p_aggregate etl.aggregate)
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_sums_sql$
    SELECT array_agg(
        format(
            CASE WHEN t.type_oid = 'numeric'::regtype THEN 'etl._finite(sum(c.%1$I), %2$L, %1$L)' ELSE 'sum(c.%1$I)' END,
            m.name, p_aggregate.aggregate
        )
        ORDER BY m.position
    )
    FROM unnest(p_aggregate.measures) WITH ORDINALITY AS m (name, position)
    CROSS JOIN LATERAL etl._base_type(p_aggregate.aggregate_table, m.name) AS t
$_sums_sql$;

-- The statements that note what the planned rows of a fact contribute to its aggregates.
-- Parameters: p_fact, the fact.
-- Returns:    SQL text; refers to p_sign and p_aggregates.
CREATE OR REPLACE FUNCTION etl._contribution_sql(p_fact name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_contribution_sql$
    SELECT coalesce(string_agg(
        etl._render(
            $template$IF {{name}} = ANY (p_aggregates) THEN
    INSERT INTO {{difference}} ({{group}}, {{measures}})
    SELECT {{c.group}}, {{sums}}
    FROM (
        SELECT DISTINCT {{w.key}}
        FROM {{decision}} AS w
        WHERE w.planned_operation <> 'unchanged'
            AND ({{name}} = ANY (w.touched_aggregates)) IS NOT FALSE
    ) AS k
    CROSS JOIN LATERAL (SELECT * FROM {{view}} AS r WHERE {{r.key = k.key}} OFFSET 0) AS c
    GROUP BY {{c.group}};
END IF;$template$,
            jsonb_build_object(
                'name', quote_literal(a.aggregate),
                'difference', format('work.%I', a.aggregate || '_difference'),
                'decision', format('work.%I', p_fact || '_decision'),
                'view', a.contribution_view::text,
                'key', to_jsonb(a.contribution_key),
                'group', to_jsonb(a.group_key),
                'measures', to_jsonb(a.measures),
                'sums', (SELECT string_agg(format('p_sign * coalesce(%s, 0)', m.sum), ', ' ORDER BY m.position) FROM unnest(etl._sums_sql(a)) WITH ORDINALITY AS m (sum, position))
            )
        ),
        E'\n' ORDER BY a.aggregate
    ), 'NULL;')
    FROM etl.aggregate AS a
    JOIN etl.aggregate_fact AS l USING (aggregate)
    WHERE l.fact = p_fact
$_contribution_sql$;
