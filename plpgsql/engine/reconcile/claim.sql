-- The claims of entries in quarantine are tried: a comparison leaves out only rows that really cannot be read or written. An entry whose claim
-- does not hold is itself a difference, and hides nothing.

-- Condition that rows have a business key, as constants.
-- Parameters: p_key, key columns; p_row_key, their values; p_table, the table whose types count; p_alias, of the rows.
-- Returns:    text; a missing or null value matches NULL.
CREATE OR REPLACE FUNCTION etl._key_condition(p_key name[], p_row_key jsonb, p_table regclass, p_alias text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_key_condition$
    SELECT string_agg(
        CASE
            WHEN p_row_key ->> c.name::text IS NULL THEN format('(%s)', etl._no_key_condition(ARRAY[c.name], p_alias, p_table))
            -- postgres_fdw sends a constant to the source server, which matters for unreadable rows.
            WHEN t.typnamespace = 'pg_catalog'::regnamespace
                THEN format('%s.%I = %L::%s', p_alias, c.name, p_row_key ->> c.name::text, format_type(a.atttypid, a.atttypmod))
            ELSE format('%1$s.%2$I = (jsonb_populate_record(NULL::%3$s, %4$L)).%2$I', p_alias, c.name, p_table, p_row_key)
        END,
        ' AND ' ORDER BY c.position
    )
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_key_condition$;

-- Whether a row of a source table cannot be mirrored: it cannot be read, its key is shared or too long, or a column of its key is NULL.
-- Parameters: p_source_table, the table; p_row_key, its key, or the row where the key is not usable.
CREATE OR REPLACE FUNCTION etl._cannot_be_read(p_source_table name, p_row_key jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_cannot_be_read$
DECLARE
    v_source regclass := format('source.%I', p_source_table)::regclass;
    v_key name[] := (SELECT s.key_columns FROM etl.source_table AS s WHERE s.source_table = p_source_table);
    v_condition text := etl._key_condition(v_key, p_row_key, v_source, 's');
    v_rows bigint;
    v_is_long boolean;
BEGIN
    BEGIN
        EXECUTE format('SELECT count(*), bool_or(%s) FROM %s AS s WHERE %s', etl._long_key_condition(v_key, 's', v_source), v_source, v_condition)
        INTO v_rows, v_is_long;
    EXCEPTION
        WHEN data_exception THEN
            -- Not a key of this table.
            RETURN false;
    END;
    IF v_rows <> 1 OR v_is_long THEN
        RETURN v_rows > 0;
    END IF;
    EXECUTE format('SELECT count(to_jsonb(s.*)) FROM %s AS s WHERE %s', v_source, v_condition) INTO v_rows;
    RETURN EXISTS (SELECT FROM unnest(v_key) AS c (name) WHERE p_row_key ->> c.name::text IS NULL);
EXCEPTION
    WHEN data_exception THEN
        RETURN true;
END
$_cannot_be_read$;

-- The rows that a load would write for a key.
-- Parameters: p_object, the dimension or fact; p_row_key, the key, which is also in pg_temp.reconciled_key.
-- Returns:    a SELECT: planned_operation, and the columns that the load writes; of a dimension also the surrogate key.
CREATE OR REPLACE FUNCTION etl._written_rows_sql(p_object name, p_row_key jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_written_rows_sql$
    SELECT CASE o.kind
        WHEN 'dimension' THEN etl._expected_dimension_sql(
            p_object, 'pg_temp.reconciled_key',
            (SELECT jsonb_build_object('run_id', '0', 'now', quote_literal(l.now) || '::timestamptz', 'batch_at', quote_nullable(l.batch_at) || '::timestamptz') FROM etl._load_time() AS l)
        )
        ELSE format(
            'SELECT CASE WHEN EXISTS (SELECT FROM %s AS f WHERE %s) THEN ''update'' ELSE ''insert'' END AS planned_operation, x.*, 0 AS run_id FROM (%s) AS x WHERE %s AND NOT x.is_deleted',
            o.table_name, etl._match(o.business_key, 'f', 'x'),
            -- Without OFFSET 0, so that the condition enters the view.
            etl._resolved_fact_sql(p_object, etl._fact_values(p_object), o.view_name || ' AS v', p_is_load => false),
            etl._key_condition(o.business_key, p_row_key, o.table_name, 'x')
        )
    END
    FROM etl.object AS o
    WHERE o.object = p_object
$_written_rows_sql$;

-- Whether a row of a dimension or fact cannot be loaded. It is written, and the write is rolled back.
-- Parameters: p_object, the dimension or fact; p_row_key, the row's key; p_sqlstate, the error of the entry.
CREATE OR REPLACE FUNCTION etl._cannot_be_loaded(p_object name, p_row_key jsonb, p_sqlstate text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_cannot_be_loaded$
DECLARE
    v_rows text := etl._written_rows_sql(p_object, p_row_key);
    r_object record;
    v_condition text;
    v_columns name[];
    v_matched name[];
    v_final text := (
        SELECT string_agg(format('w.%I = -1', k.key_column), ' OR ')
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_object
            AND d.transform_view IS NULL
    );
    v_count bigint;
    v_is_final boolean;
BEGIN
    SELECT *
    INTO STRICT r_object
    FROM etl.object AS o
    WHERE o.object = p_object;
    v_condition := etl._key_condition(r_object.business_key, p_row_key, r_object.table_name, 'v');
    v_columns := CASE r_object.kind
        WHEN 'dimension' THEN r_object.business_key || ARRAY(SELECT a.attribute FROM etl.dimension_attribute AS a WHERE a.dimension = p_object)
            || '{valid_from,valid_to,is_current,run_id}'::name[]
        ELSE etl._writable_columns(r_object.table_name)
    END;
    v_matched := coalesce((SELECT ARRAY[d.surrogate_key] FROM etl.dimension AS d WHERE d.dimension = p_object), r_object.business_key);
    DROP TABLE IF EXISTS pg_temp.reconciled_key;
    BEGIN
        EXECUTE format(
            'CREATE TEMPORARY TABLE reconciled_key ON COMMIT DROP AS SELECT %s FROM (SELECT %L::jsonb) AS q (row_key)',
            etl._from_json(r_object.business_key, 'q.row_key', r_object.table_name), p_row_key
        );
    EXCEPTION
        WHEN data_exception THEN
            -- Not a key of this object.
            RETURN false;
    END;
    EXECUTE format('SELECT count(*) FROM %s AS v WHERE %s', r_object.view_name, v_condition) INTO v_count;
    IF v_count > 1 THEN
        RETURN true;
    END IF;
    EXECUTE format('SELECT count(to_jsonb(w.*)), coalesce(bool_or(%s), false) FROM (%s) AS w', coalesce(v_final, 'false'), v_rows) INTO v_count, v_is_final;
    IF v_is_final AND p_sqlstate = 'ET009' THEN
        RETURN true;
    END IF;
    EXECUTE format(
        'UPDATE %s AS d SET %s FROM (%s) AS w WHERE w.planned_operation = ''update'' AND %s',
        r_object.table_name, etl._list(etl._without(v_columns, v_matched), '%1$I = w.%1$I'), v_rows, etl._match(v_matched, 'd', 'w')
    );
    EXECUTE format(
        'INSERT INTO %s (%s) SELECT %s FROM (%s) AS w WHERE w.planned_operation = ''insert''',
        r_object.table_name, etl._list(v_columns), etl._list(v_columns, 'w.%1$I'), v_rows
    );
    RAISE EXCEPTION USING ERRCODE = 'ET051';
EXCEPTION
    -- As etl._load_isolating.
    WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
        RETURN true;
    WHEN SQLSTATE 'ET051' THEN
        RETURN false;
END
$_cannot_be_loaded$;

-- Whether the claim of an entry in quarantine holds: the row cannot be loaded.
CREATE OR REPLACE FUNCTION etl._claim_holds(p_entry etl.quarantine)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_claim_holds$
    SELECT coalesce(
        (
            SELECT CASE o.kind
                WHEN 'source' THEN etl._cannot_be_read(o.object, p_entry.row_key)
                WHEN 'aggregate' THEN false
                ELSE etl._cannot_be_loaded(o.object, p_entry.row_key, p_entry.sqlstate)
            END
            FROM etl.object AS o
            WHERE o.object = p_entry.object
                AND (o.view_name IS NOT NULL OR o.kind = 'source')
        ),
        false
    )
$_claim_holds$;

-- Leaves the rows out of a comparison that cannot be loaded; returns their number.
CREATE OR REPLACE FUNCTION etl._ignore_refused(p_object name, p_key name[], p_table regclass)
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_ignore_refused$
    SELECT etl._ignore(p_key, p_table, 'SELECT q.row_key FROM etl.quarantine AS q WHERE q.object = $1 AND etl._claim_holds(q)', p_object)
$_ignore_refused$;
