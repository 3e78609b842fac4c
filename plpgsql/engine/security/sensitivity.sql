-- Sensitivity of each column: declared, or inherited from the columns that it may be derived from.

-- Declared sensitivity of a column; NULL for none.
CREATE OR REPLACE FUNCTION etl._declared_sensitivity(p_schema name, p_object name, p_column name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_declared_sensitivity$
    SELECT s.sensitivity
    FROM etl.column_sensitivity AS s
    WHERE s.schema_name = p_schema
        AND s.object_name IN (p_object, '*')
        AND s.column_name = p_column
    ORDER BY s.object_name = '*'
    LIMIT 1
$_declared_sensitivity$;

-- Inherited sensitivity of the columns of the stars that have no declared one: personal or secret, NULL for neither.
CREATE OR REPLACE FUNCTION etl._inherited_sensitivity()
RETURNS TABLE (relation oid, column_name name, sensitivity text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_inherited_sensitivity$
    WITH RECURSIVE view_read AS MATERIALIZED (
        -- PostgreSQL records the columns that a view reads, not which of them a column is made of. So it may be made of any of them.
        SELECT DISTINCT w.ev_class AS relation, d.refobjid AS origin, a.attname AS origin_column
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refclassid = 'pg_class'::regclass
            AND d.refobjsubid > 0
            AND d.refobjid <> w.ev_class
    ),
    step AS MATERIALIZED (
        SELECT
            format('%I.%I', l.schema_name, l.object_name)::regclass::oid AS relation,
            l.column_name,
            format('%I.%I', l.origin_schema_name, l.origin_name)::regclass::oid AS origin,
            l.origin_column_name AS origin_column
        FROM etl.lineage_step AS l
        -- A looked-up key, and the stamp of a run, do not show the columns that they were found by.
        WHERE l.how IN ('mirrored', 'loaded', 'grouped', 'summed', 'marked')
    ),
    origin (relation, column_name, origin, origin_column) AS (
        SELECT s.relation, s.column_name, s.origin, s.origin_column
        FROM step AS s
        JOIN pg_class AS c ON c.oid = s.relation AND c.relnamespace = 'dwh'::regnamespace
        WHERE etl._declared_sensitivity('dwh', c.relname, s.column_name) IS NULL
        UNION
        SELECT o.relation, o.column_name, n.origin, n.origin_column
        FROM origin AS o
        JOIN pg_class AS c ON c.oid = o.origin
        CROSS JOIN LATERAL (
            SELECT s.origin, s.origin_column
            FROM step AS s
            WHERE s.relation = o.origin
                AND s.column_name = o.origin_column
            UNION ALL
            SELECT v.origin, v.origin_column
            FROM view_read AS v
            WHERE v.relation = o.origin
        ) AS n
        -- Lineage ends at the contract.
        WHERE c.relnamespace <> 'source'::regnamespace
    )
    SELECT
        o.relation,
        o.column_name,
        CASE WHEN bool_or(d.sensitivity = 'secret') THEN 'secret' WHEN bool_or(d.sensitivity = 'personal') THEN 'personal' END
    FROM origin AS o
    JOIN pg_class AS c ON c.oid = o.origin
    CROSS JOIN LATERAL etl._declared_sensitivity(c.relnamespace::regnamespace::name, c.relname, o.origin_column) AS d (sensitivity)
    GROUP BY o.relation, o.column_name
$_inherited_sensitivity$;

CREATE OR REPLACE VIEW etl.column_status AS
SELECT
    n.nspname AS schema_name,
    c.relname AS object_name,
    a.attnum::integer AS position,
    a.attname AS column_name,
    d.declared,
    i.sensitivity AS inherited,
    coalesce(d.declared, i.sensitivity) AS sensitivity
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL etl._declared_sensitivity(n.nspname, c.relname, a.attname) AS d (declared)
LEFT JOIN etl._inherited_sensitivity() AS i ON d.declared IS NULL AND i.relation = c.oid AND i.column_name = a.attname
WHERE n.nspname IN ('dwh', 'source')
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
COMMENT ON VIEW etl.column_status IS 'Sensitivity of each column of the contract and of the stars: declared, or else inherited.';
COMMENT ON COLUMN etl.column_status.schema_name IS 'source or dwh.';
COMMENT ON COLUMN etl.column_status.object_name IS 'Relation.';
COMMENT ON COLUMN etl.column_status.position IS 'Position of the column in the relation.';
COMMENT ON COLUMN etl.column_status.column_name IS 'Column.';
COMMENT ON COLUMN etl.column_status.declared IS 'Sensitivity that etl.column_sensitivity declares; NULL for none.';
COMMENT ON COLUMN etl.column_status.inherited IS 'personal or secret if a column without a declaration may be derived from such a column; NULL otherwise.';
COMMENT ON COLUMN etl.column_status.sensitivity IS 'Sensitivity in force; a column with NULL is not published.';
