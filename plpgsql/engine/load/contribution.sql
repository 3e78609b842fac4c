-- What the planned rows of a fact contribute to aggregates, before and after they are written.

/*
Locks the aggregates of a fact until the end of the transaction, so that neither loads of facts that share one overlap, nor a load
of the aggregate itself that would not see what is changed meanwhile.
Parameters: p_fact, the fact.
Returns:    names of the aggregates that are maintained by difference: not those that will be refreshed anyway.
Locks:      their rows of etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._lock_aggregates(p_fact name)
RETURNS name[]
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_lock_aggregates$
    SELECT coalesce(array_agg(s.object), '{}')
    FROM (
        SELECT l.object
        FROM etl.load_state AS l
        WHERE l.object IN (SELECT a.aggregate FROM etl.aggregate_fact AS a WHERE a.fact = p_fact)
            AND NOT l.needs_reload
        ORDER BY l.object
        FOR UPDATE
    ) AS s
$_lock_aggregates$;
COMMENT ON FUNCTION etl._lock_aggregates(name) IS 'Locks the aggregates of a fact, and returns those that are maintained by difference.';

/*
The statements that note what the planned rows of a fact contribute to its aggregates.
Parameters: p_fact, the fact.
Returns:    SQL text; refers to p_sign and p_aggregates.
*/
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
                'sums', etl._list(a.measures, 'p_sign * coalesce(sum(c.%1$I), 0)')
            )
        ),
        E'\n' ORDER BY a.aggregate
    ), 'NULL;')
    FROM etl.aggregate AS a
    JOIN etl.aggregate_fact AS l USING (aggregate)
    WHERE l.fact = p_fact
$_contribution_sql$;
COMMENT ON FUNCTION etl._contribution_sql(name) IS 'The statements that note what the planned rows of a fact contribute to its aggregates.';
