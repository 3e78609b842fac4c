-- Schema drift: columns of the source that no longer match those of the mirrors are reported by name before anything is
-- loaded. An added column stops nothing. A dropped or retyped column stops its table, until the contract
-- (source.<table>) and the views over stage.<table> are changed and etl.build() is called.

-- Relations that a view of the contract reads, names and oids; NULL when it is no view.
CREATE OR REPLACE FUNCTION etl._read_relations(p_source_table name)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_read_relations$
    SELECT jsonb_object_agg(d.refobjid::regclass::text, d.refobjid::bigint)
    FROM pg_rewrite AS r
    JOIN pg_depend AS d
        ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    WHERE r.ev_class = to_regclass(format('source.%I', p_source_table))
$_read_relations$;

-- Source tables whose contract reads a table under another name than in the last build, while another table has that name; the clause names them. A
-- view follows a table that is renamed, and never reads the table that takes its name.
CREATE OR REPLACE FUNCTION etl._swapped_relations()
RETURNS TABLE (source_table name, clause text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_swapped_relations$
    SELECT
        s.source_table,
        string_agg(
            DISTINCT format('source.%I reads %s instead of %s', s.source_table, d.refobjid::regclass, e.key), '; '
            ORDER BY format('source.%I reads %s instead of %s', s.source_table, d.refobjid::regclass, e.key)
        )
    FROM etl.source_table AS s
    JOIN pg_rewrite AS r ON r.ev_class = to_regclass(format('source.%I', s.source_table))
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
    JOIN jsonb_each_text(s.read_relations) AS e ON e.value = d.refobjid::text
    WHERE e.key <> d.refobjid::regclass::text
        -- Not by to_regclass, which needs the privilege USAGE on the schema.
        AND EXISTS (
            SELECT
            FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE format('%I.%I', n.nspname, c.relname) = e.key
            -- Otherwise the names of all relations are formatted, whether or not one is asked for.
            OFFSET 0
        )
    GROUP BY s.source_table
$_swapped_relations$;

/*
Compares the columns of the source with those of the mirrors: those of the contract's relations, which may have been
created again, and those of the tables behind them, if the contract has the view source.columns. Without it, a column
that such a table has lost shows when it is read.
Writes:     etl.schema_drift.
*/
CREATE OR REPLACE FUNCTION etl._note_drift()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_note_drift$
DECLARE
    v_behind jsonb := '[]'::jsonb;
BEGIN
    IF to_regclass('source.columns') IS NOT NULL THEN
        SELECT coalesce(jsonb_agg(c), '[]')
        INTO v_behind
        FROM source.columns AS c
        JOIN etl.source_table AS s ON s.source_table = c.table_name;
    END IF;
    WITH found AS (
        SELECT true AS is_behind, c.table_name AS source_table, c.column_name, c.data_type
        FROM jsonb_to_recordset(v_behind) AS c (table_name name, column_name name, data_type text)
        UNION ALL
        SELECT false, s.source_table, a.attname,
            CASE WHEN t.typtype = 'd' THEN etl._held_type(a.attrelid, a.attname) ELSE format_type(a.atttypid, a.atttypmod) END
        FROM etl.source_table AS s
        JOIN pg_attribute AS a ON a.attrelid = to_regclass(format('source.%I', s.source_table)) AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type AS t ON t.oid = a.atttypid
    ),
    expected AS (
        SELECT t.is_behind, t.source_table, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS data_type
        FROM (SELECT DISTINCT f.is_behind, f.source_table FROM found AS f) AS t
        JOIN pg_attribute AS a ON a.attrelid = to_regclass(format('stage.%I', t.source_table)) AND a.attnum > 0 AND NOT a.attisdropped
        WHERE a.attname NOT IN ('batch_id', 'deleted_at')
        UNION ALL
        SELECT t.is_behind, t.source_table, s.change_column, 'xid8'
        FROM (SELECT DISTINCT f.is_behind, f.source_table FROM found AS f) AS t
        JOIN etl.source_table AS s USING (source_table)
        WHERE s.change_detection = 'snapshot'
    ),
    drift AS (
        SELECT DISTINCT ON (source_table, column_name)
            source_table,
            column_name,
            CASE
                WHEN e.data_type IS NULL THEN 'added'
                WHEN f.data_type IS NULL THEN 'dropped'
                ELSE 'retyped'
            END AS drift,
            e.data_type AS expected_type,
            f.data_type AS found_type
        FROM expected AS e
        FULL JOIN found AS f USING (is_behind, source_table, column_name)
        -- A source with quote_all_identifiers quotes the names of types.
        WHERE replace(e.data_type, '"', '') IS DISTINCT FROM replace(f.data_type, '"', '')
            AND CASE WHEN is_behind AND e.data_type IS NOT NULL THEN e.data_type IS DISTINCT FROM etl._plain_type(f.data_type) ELSE true END
        ORDER BY source_table, column_name, e.data_type IS NULL, is_behind DESC
    ),
    healed AS (
        DELETE FROM etl.schema_drift AS o
        WHERE NOT EXISTS (
            SELECT
            FROM drift AS d
            WHERE d.source_table = o.source_table
                AND d.column_name = o.column_name
        )
    )
    INSERT INTO etl.schema_drift AS o (source_table, column_name, drift, expected_type, found_type)
    SELECT d.source_table, d.column_name, d.drift, d.expected_type, d.found_type
    FROM drift AS d
    ON CONFLICT (source_table, column_name) DO UPDATE
    SET drift = excluded.drift,
        expected_type = excluded.expected_type,
        found_type = excluded.found_type
    WHERE (o.drift, o.expected_type, o.found_type) IS DISTINCT FROM (excluded.drift, excluded.expected_type, excluded.found_type);
END
$_note_drift$;

/*
Refuses to extract a table after one of its columns was dropped or retyped, or a table that the contract reads was
renamed.
Parameters: p_source_table, the table.
Errors:     ET007; the message names the columns or tables.
*/
CREATE OR REPLACE FUNCTION etl._check_drift(p_source_table name)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_drift$
DECLARE
    v_columns text;
    v_swapped text := (SELECT w.clause FROM etl._swapped_relations() AS w WHERE w.source_table = p_source_table);
BEGIN
    IF v_swapped IS NOT NULL THEN
        RAISE EXCEPTION 'source table "%" has changed: %', p_source_table, v_swapped
            USING ERRCODE = 'ET007',
                DETAIL = 'A view follows a table that is renamed, and not the table that takes its name.',
                HINT = format('Create view source.%I again over the table that it should read, then call the procedure etl.build.', p_source_table);
    END IF;
    SELECT string_agg(
        CASE d.drift
            WHEN 'dropped' THEN format('column "%s" (%s) is gone', d.column_name, d.expected_type)
            ELSE format('column "%s" is %s instead of %s', d.column_name, d.found_type, d.expected_type)
        END,
        '; ' ORDER BY d.column_name
    )
    INTO v_columns
    FROM etl.schema_drift AS d
    WHERE d.source_table = p_source_table
        AND d.drift <> 'added';
    IF v_columns IS NOT NULL THEN
        RAISE EXCEPTION 'source table "%" has changed: %', p_source_table, v_columns
            USING ERRCODE = 'ET007',
                HINT = format('Change source.%1$I and the views over stage.%1$I, then call the procedure etl.build. Until then the table is not loaded.', p_source_table);
    END IF;
END
$_check_drift$;
