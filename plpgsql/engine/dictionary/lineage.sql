-- Origin of each column. etl.lineage_step has the steps of the loads, from the catalog. etl.lineage_definition has the definitions of views and
-- SQL functions, which the program parses: pg_depend has the columns that a view reads, but not which of them a column is made of.

CREATE OR REPLACE VIEW etl.lineage_step AS
WITH step (relation, column_name, origin, origin_column, how) AS (
    -- stage mirrors source
    SELECT to_regclass(format('stage.%I', s.source_table)), c.name, to_regclass(format('source.%I', s.source_table)), c.name, 'mirrored'
    FROM etl.source_table AS s
    CROSS JOIN LATERAL unnest(etl._source_columns(s.source_table)) AS c (name)
    UNION ALL
    SELECT to_regclass(format('stage.%I', s.source_table)), 'deleted_at', to_regclass('source.tombstones'), 'deleted_at', 'mirrored'
    FROM etl.source_table AS s
    WHERE s.delete_detection = 'tombstone'
    UNION ALL
    SELECT to_regclass(format('stage.%I', s.source_table)), 'batch_id', 'etl.batch'::regclass, 'batch_id', 'stamped'
    FROM etl.source_table AS s
    -- a dimension takes the columns of its views
    UNION ALL
    SELECT d.dimension_table, c.name, v.relation, c.name, 'loaded'
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (VALUES (d.transform_view), (d.history_view)) AS v (relation)
    CROSS JOIN LATERAL (
        SELECT unnest(d.business_key)
        UNION
        SELECT a.attribute
        FROM etl.dimension_attribute AS a
        WHERE a.dimension = d.dimension
    ) AS c (name)
    WHERE etl._column_type(v.relation, c.name) IS NOT NULL
    UNION ALL
    SELECT d.dimension_table, d.surrogate_key, d.dimension_table, b.name, 'identified'
    FROM etl.dimension AS d
    CROSS JOIN LATERAL unnest(d.business_key) AS b (name)
    UNION ALL
    SELECT d.dimension_table, c.name, v.relation, v.moment, 'versioned'
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (VALUES (d.transform_view, 'effective_at'::name), (d.history_view, 'valid_from')) AS v (relation, moment)
    CROSS JOIN (VALUES ('valid_from'::name), ('valid_to'), ('is_current')) AS c (name)
    WHERE v.relation IS NOT NULL
    -- a fact takes the columns of its view, and looks up keys
    UNION ALL
    SELECT f.fact_table, c.name, f.transform_view, c.name, 'loaded'
    FROM etl.fact AS f
    CROSS JOIN LATERAL unnest(etl._columns(f.fact_table)) AS c (name)
    WHERE etl._column_type(f.transform_view, c.name) IS NOT NULL
    UNION ALL
    SELECT f.fact_table, 'is_deleted', f.transform_view, 'deleted_at', 'marked'
    FROM etl.fact AS f
    UNION ALL
    SELECT f.fact_table, k.key_column, d.dimension_table, d.surrogate_key, 'looked up'
    FROM etl.fact_dimension AS k
    JOIN etl.fact AS f USING (fact)
    JOIN etl.dimension AS d USING (dimension)
    UNION ALL
    SELECT f.fact_table, k.key_column, coalesce(p.dimension_table, f.transform_view), c.name, 'looked up'
    FROM etl.fact_dimension AS k
    JOIN etl.fact AS f USING (fact)
    LEFT JOIN etl.fact_dimension AS r ON r.fact = k.fact AND r.key_column = k.lookup_role
    LEFT JOIN etl.dimension AS p ON p.dimension = r.dimension
    CROSS JOIN LATERAL unnest(k.lookup_columns) AS c (name)
    UNION ALL
    SELECT f.fact_table, k.key_column, f.transform_view, k.as_of_column, 'looked up'
    FROM etl.fact_dimension AS k
    JOIN etl.fact AS f USING (fact)
    WHERE k.as_of_column IS NOT NULL
    -- an aggregate sums up what its view contributes
    UNION ALL
    SELECT a.aggregate_table, c.name, a.contribution_view, c.name, CASE WHEN ARRAY[c.name] <@ a.measures THEN 'summed' ELSE 'grouped' END
    FROM etl.aggregate AS a
    CROSS JOIN LATERAL unnest(a.group_key || a.measures) AS c (name)
    -- every row of the stars names the run that wrote it
    UNION ALL
    SELECT t.table_name, 'run_id', 'etl.run'::regclass, 'run_id', 'stamped'
    FROM etl.object AS t
    WHERE t.kind <> 'source'
        AND t.view_name IS NOT NULL
)
SELECT
    tn.nspname AS schema_name,
    t.relname AS object_name,
    s.column_name,
    o.nspname AS origin_schema_name,
    r.relname AS origin_name,
    s.origin_column AS origin_column_name,
    s.how
FROM step AS s
JOIN pg_catalog.pg_class AS t ON t.oid = s.relation
JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
JOIN pg_catalog.pg_class AS r ON r.oid = s.origin
JOIN pg_catalog.pg_namespace AS o ON o.oid = r.relnamespace;
COMMENT ON VIEW etl.lineage_step IS 'Columns from which the loads make each column.';
COMMENT ON COLUMN etl.lineage_step.schema_name IS 'Schema of the table that is loaded.';
COMMENT ON COLUMN etl.lineage_step.object_name IS 'Table that is loaded.';
COMMENT ON COLUMN etl.lineage_step.column_name IS 'Its column.';
COMMENT ON COLUMN etl.lineage_step.origin_schema_name IS 'Schema of the relation that it is loaded from.';
COMMENT ON COLUMN etl.lineage_step.origin_name IS 'That relation.';
COMMENT ON COLUMN etl.lineage_step.origin_column_name IS 'Its column.';
COMMENT ON COLUMN etl.lineage_step.how IS 'mirrored, loaded, identified (a surrogate key), versioned, looked up, marked, grouped, summed or stamped.';

CREATE OR REPLACE VIEW etl.lineage_definition AS
SELECT l.schema_name, c.relname AS object_name, 'view' AS kind, etl._columns(c.oid) AS column_names, pg_get_viewdef(c.oid) AS definition
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN etl.layer AS l ON l.schema_name = n.nspname
WHERE c.relkind IN ('v', 'm')
UNION ALL
SELECT
    l.schema_name,
    p.proname,
    'function',
    (
        SELECT array_agg(a.name ORDER BY a.position)
        FROM unnest(p.proargnames::name[], p.proargmodes::text[]) WITH ORDINALITY AS a (name, mode, position)
        WHERE a.mode IN ('t', 'o', 'b')
    ),
    coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_language AS g ON g.oid = p.prolang
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
JOIN etl.layer AS l ON l.schema_name = n.nspname
WHERE g.lanname = 'sql'
    AND p.proretset
    AND p.prokind = 'f';
COMMENT ON VIEW etl.lineage_definition IS 'Definitions of the views and of the SQL functions that return rows.';
COMMENT ON COLUMN etl.lineage_definition.object_name IS 'View or function.';
COMMENT ON COLUMN etl.lineage_definition.kind IS 'view or function.';
COMMENT ON COLUMN etl.lineage_definition.column_names IS 'Columns that it returns; NULL for a function that does not name them.';
COMMENT ON COLUMN etl.lineage_definition.definition IS 'The query.';
