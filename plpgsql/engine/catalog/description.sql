-- Facts about one object of the catalog: columns of a source table, the key of a finer aggregate.

-- Group key of a coarser aggregate, as the finer one (alias c) gives it.
CREATE OR REPLACE FUNCTION etl._finer_key(p_aggregate etl.aggregate)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_finer_key$
    SELECT string_agg(CASE WHEN e.expression IS NULL THEN format('c.%I', k.name) ELSE format('%s AS %I', e.expression, k.name) END, ', ' ORDER BY k.position)
    FROM unnest(p_aggregate.group_key) WITH ORDINALITY AS k (name, position)
    LEFT JOIN unnest(p_aggregate.finer_expressions) WITH ORDINALITY AS e (expression, position) USING (position)
$_finer_key$;

-- Columns of a source table that the mirror takes.
CREATE OR REPLACE FUNCTION etl._source_columns(p_source_table name)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_source_columns$
    -- Only extraction uses a transaction ID; the mirror does not store it.
    SELECT etl._without(
        etl._columns(to_regclass(format('source.%I', s.source_table))),
        CASE WHEN s.change_detection = 'snapshot' THEN ARRAY[s.change_column] ELSE '{}' END
    )
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table
$_source_columns$;
