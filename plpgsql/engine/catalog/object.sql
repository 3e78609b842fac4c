-- All declared objects, whatever their kind.

-- A relation by its name, NULL if there is none. Unlike to_regclass it needs no privilege on the schema, so a view may call it for every reader.
CREATE OR REPLACE FUNCTION etl._relation_in(p_schema name, p_name name)
RETURNS regclass
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_relation_in$
    SELECT c.oid::regclass
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = p_schema
        AND c.relname = p_name
$_relation_in$;

CREATE OR REPLACE VIEW etl.object AS
SELECT o.kind, o.object, o.business_key, o.table_name, o.view_name, d.business, l.needs_reload AS needs_full_refresh, l.loaded_at
FROM (
    SELECT
        'source' AS kind,
        s.source_table AS object,
        s.key_columns AS business_key,
        etl._relation_in('stage', s.source_table) AS table_name,
        etl._relation_in('source', s.source_table) AS view_name
    FROM etl.source_table AS s
    UNION ALL
    SELECT 'dimension', m.dimension, m.business_key, m.dimension_table, m.transform_view
    FROM etl.dimension AS m
    UNION ALL
    SELECT 'fact', f.fact, f.business_key, f.fact_table, f.transform_view
    FROM etl.fact AS f
    UNION ALL
    SELECT 'aggregate', a.aggregate, a.group_key, a.aggregate_table, a.contribution_view
    FROM etl.aggregate AS a
) AS o
LEFT JOIN etl.declaration AS d
    ON d.kind = o.kind
    AND d.object = o.object
LEFT JOIN etl.load_state AS l
    ON l.object = o.object
    AND o.kind <> 'source';
COMMENT ON VIEW etl.object IS 'All declared source tables, dimensions, facts and aggregates.';
COMMENT ON COLUMN etl.object.kind IS 'source, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.object.object IS 'Name.';
COMMENT ON COLUMN etl.object.business_key IS 'Columns that identify a row.';
COMMENT ON COLUMN etl.object.table_name IS 'Table that holds its rows.';
COMMENT ON COLUMN etl.object.view_name IS 'View that returns them.';
COMMENT ON COLUMN etl.object.needs_full_refresh IS 'True if a full refresh is requested; NULL for a source table, and for a dimension that nothing loads.';
