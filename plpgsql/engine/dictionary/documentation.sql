-- The data dictionary: objects and columns of PostgreSQL's catalog with their comments. The operational schemas are those that the views of
-- the extraction contract read.

CREATE OR REPLACE VIEW etl.layer AS
WITH engine (position, schema_name) AS (
    VALUES (2, 'source'), (3, 'delta'), (4, 'stage'), (5, 'work'), (6, 'dwh'), (7, 'kpi'), (9, 'etl'), (10, 'compiled')
),
operational AS (
    SELECT DISTINCT t.relnamespace AS oid
    FROM pg_catalog.pg_class AS v
    JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid
    JOIN pg_catalog.pg_depend AS d
        ON d.classid = 'pg_catalog.pg_rewrite'::regclass
        AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid
    WHERE v.relnamespace::regnamespace::text = 'source'
)
SELECT
    n.nspname AS schema_name,
    CASE
        WHEN e.position IS NOT NULL THEN e.position
        WHEN o.oid IS NOT NULL THEN 1
        ELSE 8
    END AS position,
    e.position IS NULL AND o.oid IS NOT NULL AS is_operational,
    obj_description(n.oid, 'pg_namespace') AS comment
FROM pg_catalog.pg_namespace AS n
LEFT JOIN engine AS e ON e.schema_name = n.nspname
LEFT JOIN operational AS o ON o.oid = n.oid
WHERE n.nspname !~ '^pg_'
    AND n.nspname NOT IN ('information_schema', 'public', 'yoyo')
    AND NOT EXISTS (
        SELECT 1
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_namespace'::regclass
            AND d.objid = n.oid
            AND d.deptype = 'e'
    );
COMMENT ON VIEW etl.layer IS 'Schemas of this database in the order in which data flows: operational schemas, layers, others, engine. Schemas of extensions and of the migration log are left out.';
COMMENT ON COLUMN etl.layer.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.layer.position IS 'Order: 1 operational, 2 to 7 the layers from source to kpi, 8 others, 9 the engine, 10 its compiled routines.';
COMMENT ON COLUMN etl.layer.is_operational IS 'Whether the extraction contract reads it.';
COMMENT ON COLUMN etl.layer.comment IS 'Its comment.';

CREATE OR REPLACE VIEW etl.dictionary_object AS
WITH object AS (
    SELECT
        c.oid,
        c.tableoid,
        c.relnamespace AS namespace,
        c.relname AS object_name,
        CASE c.relkind
            WHEN 'v' THEN 'view'
            WHEN 'm' THEN 'materialized view'
            WHEN 'f' THEN 'foreign table'
            WHEN 'c' THEN 'type'
            ELSE 'table'
        END AS kind,
        '' AS signature,
        CASE WHEN c.relkind = 'c' THEN obj_description(c.reltype, 'pg_type') ELSE obj_description(c.oid, 'pg_class') END AS comment,
        CASE WHEN c.relkind IN ('r', 'p', 'm') AND c.reltuples >= 0 THEN c.reltuples::bigint END AS estimated_rows
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    UNION ALL
    SELECT
        p.oid,
        p.tableoid,
        p.pronamespace,
        p.proname,
        CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
        format('(%s)%s', pg_get_function_arguments(p.oid), ' RETURNS ' || pg_get_function_result(p.oid)),
        obj_description(p.oid, 'pg_proc'),
        NULL
    FROM pg_catalog.pg_proc AS p
)
SELECT
    l.position AS layer,
    l.schema_name,
    o.object_name,
    o.kind,
    coalesce(o.signature, '') AS signature,
    o.object_name !~ '^_' AS is_public,
    o.comment,
    o.estimated_rows
FROM object AS o
JOIN pg_catalog.pg_namespace AS n ON n.oid = o.namespace
JOIN etl.layer AS l ON l.schema_name = n.nspname
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e
    WHERE e.classid = o.tableoid AND e.objid = o.oid AND e.deptype = 'e');
COMMENT ON VIEW etl.dictionary_object IS 'Tables, views, types and routines of all layers with their comments.';
COMMENT ON COLUMN etl.dictionary_object.layer IS 'Position of the layer.';
COMMENT ON COLUMN etl.dictionary_object.object_name IS 'Name.';
COMMENT ON COLUMN etl.dictionary_object.kind IS 'table, view, materialized view, foreign table, type, function, procedure or aggregate.';
COMMENT ON COLUMN etl.dictionary_object.signature IS 'Parameters and result of a routine; empty otherwise.';
COMMENT ON COLUMN etl.dictionary_object.is_public IS 'Whether it is part of the interface; names of internal routines start with an underscore.';
COMMENT ON COLUMN etl.dictionary_object.comment IS 'Its comment; NULL for none.';
COMMENT ON COLUMN etl.dictionary_object.estimated_rows IS 'Rows of a table as the planner estimates them; NULL without statistics.';

CREATE OR REPLACE VIEW etl.dictionary_column AS
SELECT
    l.position AS layer,
    l.schema_name,
    c.relname AS object_name,
    a.attname AS column_name,
    a.attnum AS position,
    format_type(a.atttypid, a.atttypmod) AS data_type,
    NOT a.attnotnull AS is_nullable,
    k.is_primary_key,
    k.is_foreign_key,
    col_description(c.oid, a.attnum) AS comment
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN etl.layer AS l ON l.schema_name = n.nspname
JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = c.oid
    AND a.attnum > 0
    AND NOT a.attisdropped
CROSS JOIN LATERAL (
    SELECT
        coalesce(bool_or(k.contype = 'p'), false) AS is_primary_key,
        coalesce(bool_or(k.contype = 'f'), false) AS is_foreign_key
    FROM pg_catalog.pg_constraint AS k
    WHERE k.conrelid = c.oid
        AND ARRAY[a.attnum] <@ k.conkey
) AS k
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT EXISTS (
        SELECT 1
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = c.tableoid
            AND d.objid = c.oid
            AND d.deptype = 'e'
    );
COMMENT ON VIEW etl.dictionary_column IS 'Columns of the tables and views of all layers with their comments.';
COMMENT ON COLUMN etl.dictionary_column.layer IS 'Position of the layer.';
COMMENT ON COLUMN etl.dictionary_column.object_name IS 'Table or view.';
COMMENT ON COLUMN etl.dictionary_column.column_name IS 'Column.';
COMMENT ON COLUMN etl.dictionary_column.position IS 'Order of the columns.';
COMMENT ON COLUMN etl.dictionary_column.data_type IS 'SQL type.';
COMMENT ON COLUMN etl.dictionary_column.is_nullable IS 'Whether no constraint forbids NULL.';
COMMENT ON COLUMN etl.dictionary_column.is_primary_key IS 'Whether it is part of the primary key.';
COMMENT ON COLUMN etl.dictionary_column.is_foreign_key IS 'Whether it is part of a foreign key.';
COMMENT ON COLUMN etl.dictionary_column.comment IS 'Its comment; NULL for none.';

CREATE OR REPLACE VIEW etl.dictionary_reference AS
SELECT
    f.schema_name,
    t.relname AS object_name,
    array_agg(a.attname ORDER BY k.position) AS column_names,
    p.schema_name AS parent_schema_name,
    r.relname AS parent_name,
    array_agg(b.attname ORDER BY k.position) AS parent_column_names,
    bool_or(NOT a.attnotnull) AS is_optional,
    u.is_unique
FROM pg_catalog.pg_constraint AS c
JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
JOIN pg_catalog.pg_namespace AS m ON m.oid = t.relnamespace
JOIN etl.layer AS f ON f.schema_name = m.nspname
JOIN pg_catalog.pg_class AS r ON r.oid = c.confrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
JOIN etl.layer AS p ON p.schema_name = n.nspname
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (attnum, parent_attnum, position)
JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = c.conrelid
    AND a.attnum = k.attnum
JOIN pg_catalog.pg_attribute AS b
    ON b.attrelid = c.confrelid
    AND b.attnum = k.parent_attnum
CROSS JOIN LATERAL (
    SELECT count(*) > 0 AS is_unique
    FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = c.conrelid
        AND i.indisunique
        AND i.indpred IS NULL
        AND string_to_array(i.indkey::text, ' ')::smallint[] <@ c.conkey
) AS u
WHERE c.contype = 'f'
GROUP BY c.oid, f.schema_name, t.relname, p.schema_name, r.relname, u.is_unique;
COMMENT ON VIEW etl.dictionary_reference IS 'Foreign keys of all layers: the lines of the diagrams.';
COMMENT ON COLUMN etl.dictionary_reference.schema_name IS 'Schema of the table that refers.';
COMMENT ON COLUMN etl.dictionary_reference.object_name IS 'Table that refers.';
COMMENT ON COLUMN etl.dictionary_reference.column_names IS 'Its columns.';
COMMENT ON COLUMN etl.dictionary_reference.parent_schema_name IS 'Schema of the table referred to.';
COMMENT ON COLUMN etl.dictionary_reference.parent_name IS 'Table referred to.';
COMMENT ON COLUMN etl.dictionary_reference.parent_column_names IS 'Its columns.';
COMMENT ON COLUMN etl.dictionary_reference.is_optional IS 'Whether a row may refer to nothing.';
COMMENT ON COLUMN etl.dictionary_reference.is_unique IS 'Whether at most one row refers to each.';

CREATE OR REPLACE VIEW etl.dictionary_gap AS
SELECT 'schema' AS kind, l.schema_name::text AS object
FROM etl.layer AS l
WHERE l.comment IS NULL
UNION ALL
SELECT o.kind, format('%I.%I', o.schema_name, o.object_name)
FROM etl.dictionary_object AS o
WHERE o.comment IS NULL
    -- Internal routines are documented in their files.
    AND (o.is_public OR o.kind NOT IN ('function', 'procedure', 'aggregate'))
UNION ALL
SELECT 'column', format('%I.%I.%I', c.schema_name, c.object_name, c.column_name)
FROM etl.dictionary_column AS c
WHERE c.comment IS NULL;
COMMENT ON VIEW etl.dictionary_gap IS 'Objects and columns without a comment; internal routines need none.';
COMMENT ON COLUMN etl.dictionary_gap.kind IS 'schema, column, or the kind of the object.';
COMMENT ON COLUMN etl.dictionary_gap.object IS 'Its name.';

-- The stars and the task graph for diagrams: names instead of object identifiers, one row per object.

CREATE OR REPLACE VIEW etl.star_dimension AS
SELECT
    d.dimension,
    n.nspname AS schema_name,
    c.relname AS table_name,
    d.surrogate_key,
    d.business_key,
    d.transform_view IS NOT NULL AS is_loaded,
    coalesce(a.attributes, '{}') AS attributes
FROM etl.dimension AS d
JOIN pg_catalog.pg_class AS c ON c.oid = d.dimension_table
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(t.attribute, t.scd_type) AS attributes
    FROM etl.dimension_attribute AS t
    WHERE t.dimension = d.dimension
) AS a;
COMMENT ON VIEW etl.star_dimension IS 'Dimensions with their attributes.';
COMMENT ON COLUMN etl.star_dimension.dimension IS 'Dimension.';
COMMENT ON COLUMN etl.star_dimension.schema_name IS 'Schema of its table.';
COMMENT ON COLUMN etl.star_dimension.table_name IS 'Its table.';
COMMENT ON COLUMN etl.star_dimension.is_loaded IS 'Whether the engine loads it; false for a static one.';
COMMENT ON COLUMN etl.star_dimension.attributes IS 'Slowly changing dimension type of each attribute.';

CREATE OR REPLACE VIEW etl.star_fact AS
SELECT
    f.fact,
    n.nspname AS schema_name,
    c.relname AS table_name,
    f.business_key,
    f.measures,
    coalesce(k.roles, '{}') AS roles
FROM etl.fact AS f
JOIN pg_catalog.pg_class AS c ON c.oid = f.fact_table
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(d.key_column, d.dimension) AS roles
    FROM etl.fact_dimension AS d
    WHERE d.fact = f.fact
) AS k;
COMMENT ON VIEW etl.star_fact IS 'Facts with the dimensions that they look up.';
COMMENT ON COLUMN etl.star_fact.fact IS 'Fact.';
COMMENT ON COLUMN etl.star_fact.schema_name IS 'Schema of its table.';
COMMENT ON COLUMN etl.star_fact.table_name IS 'Its table.';
COMMENT ON COLUMN etl.star_fact.measures IS 'Measures.';
COMMENT ON COLUMN etl.star_fact.roles IS 'Dimension of each key column.';
