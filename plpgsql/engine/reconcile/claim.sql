-- The claims of entries in quarantine are tried: a comparison leaves out only rows that really cannot be read or written. An entry whose claim
-- does not hold is itself a difference, and hides nothing.

/*
Condition that rows have a business key, as constants.
Parameters: p_key, key columns; p_row_key, their values; p_table, the table whose types count; p_alias, of the rows.
Returns:    text; a missing or null value matches NULL.
*/
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

/*
Whether a row of a source table cannot be mirrored: it cannot be read, its key is shared or too long, or a column of its key is NULL.
Parameters: p_source_table, the table; p_row_key, its key, or the row where the key is not usable.
*/
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

/*
Makes the tables in which the versions of members are planned.
Parameters: p_dimension, the dimension.
Writes:     pg_temp.reconciled_key, pg_temp.reconciled_plan.
*/
CREATE OR REPLACE FUNCTION etl._begin_planning(p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_begin_planning$
BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_key, pg_temp.reconciled_plan;
    EXECUTE format('CREATE TEMPORARY TABLE reconciled_key ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA', etl._list(p_dimension.business_key), p_dimension.dimension_table);
    EXECUTE format(
        'CREATE TEMPORARY TABLE reconciled_plan ON COMMIT DROP AS SELECT NULL::text AS planned_operation, d.* FROM %s AS d WITH NO DATA', p_dimension.dimension_table
    );
END
$_begin_planning$;

/*
Whether a member cannot be loaded. It is written, and the write is rolled back.
Parameters: p_dimension, the dimension; p_row_key, the member.
*/
CREATE OR REPLACE FUNCTION etl._member_is_refused(p_dimension etl.dimension, p_row_key jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_member_is_refused$
DECLARE
    v_bk text := etl._list(p_dimension.business_key);
    v_values name[] := p_dimension.business_key || ARRAY(SELECT a.attribute FROM etl.dimension_attribute AS a WHERE a.dimension = p_dimension.dimension)
        || '{valid_from,valid_to,is_current}'::name[];
    v_rows bigint;
BEGIN
    PERFORM etl._begin_planning(p_dimension);
    BEGIN
        EXECUTE format(
            'INSERT INTO pg_temp.reconciled_key (%s) SELECT %s FROM (SELECT $1) AS q (row_key)',
            v_bk, etl._from_json(p_dimension.business_key, 'q.row_key', p_dimension.dimension_table)
        )
        USING p_row_key;
    EXCEPTION
        WHEN data_exception THEN
            RETURN false;
    END;
    EXECUTE format(
        'SELECT count(*) FROM %s AS v WHERE %s', p_dimension.transform_view,
        etl._key_condition(p_dimension.business_key, p_row_key, p_dimension.dimension_table, 'v')
    )
    INTO v_rows;
    IF v_rows > 1 THEN
        RETURN true;
    END IF;
    EXECUTE format('SELECT compiled.%I(0, l.now, l.batch_at) FROM etl._load_time() AS l', 'verify_' || p_dimension.dimension);
    EXECUTE format(
        'UPDATE %s AS d SET %s FROM pg_temp.reconciled_plan AS w WHERE w.planned_operation = ''update'' AND d.%I = w.%4$I',
        p_dimension.dimension_table, etl._list(v_values, '%1$I = w.%1$I'), p_dimension.surrogate_key, p_dimension.surrogate_key
    );
    EXECUTE format(
        'INSERT INTO %s (%s, run_id) SELECT %s, 0 FROM pg_temp.reconciled_plan AS w WHERE w.planned_operation = ''insert''',
        p_dimension.dimension_table, etl._list(v_values), etl._list(v_values, 'w.%1$I')
    );
    RAISE EXCEPTION USING ERRCODE = 'ET051';
EXCEPTION
    -- As etl._load_isolating.
    WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
        RETURN true;
    WHEN SQLSTATE 'ET051' THEN
        RETURN false;
END
$_member_is_refused$;

/*
Whether a row of a fact cannot be loaded. It is written, and the write is rolled back.
Parameters: p_fact, the fact; p_row_key, the row's key; p_sqlstate, the error of the entry.
*/
CREATE OR REPLACE FUNCTION etl._fact_is_refused(p_fact etl.fact, p_row_key jsonb, p_sqlstate text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fact_is_refused$
DECLARE
    v_columns name[] := etl._without(etl._writable_columns(p_fact.fact_table), p_fact.business_key || 'run_id'::name);
    v_expected text := format(
        '(SELECT * FROM (%s) AS x WHERE %s) AS e',
        -- Without OFFSET 0, so that the condition enters the view.
        etl._resolved_fact_sql(p_fact.fact, etl._fact_values(p_fact.fact), p_fact.transform_view || ' AS v', p_is_load => false), etl._key_condition(p_fact.business_key, p_row_key, p_fact.fact_table, 'x')
    );
    v_without_member text := (
        SELECT string_agg(format('e.%I = -1', k.key_column), ' OR ' ORDER BY k.key_column)
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact.fact
            AND d.transform_view IS NULL
    );
    v_rows bigint;
    v_is_without_member boolean;
BEGIN
    BEGIN
        EXECUTE format('SELECT count(*) FROM %s AS f WHERE %s', p_fact.fact_table, etl._key_condition(p_fact.business_key, p_row_key, p_fact.fact_table, 'f')) INTO v_rows;
    EXCEPTION
        WHEN data_exception THEN
            RETURN false;
    END;
    EXECUTE format('SELECT count(to_jsonb(e.*)), coalesce(bool_or(%s), false) FROM %s WHERE NOT e.is_deleted', coalesce(v_without_member, 'false'), v_expected)
    INTO v_rows, v_is_without_member;
    IF v_rows <> 1 THEN
        RETURN v_rows > 1;
    ELSIF p_sqlstate = 'ET009' AND v_is_without_member THEN
        RETURN true;
    END IF;
    EXECUTE format(
        'UPDATE %s AS f SET %s FROM %s WHERE %s', p_fact.fact_table, etl._list(v_columns, '%1$I = e.%1$I'), v_expected, etl._match(p_fact.business_key, 'f', 'e')
    );
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    IF v_rows = 0 THEN
        EXECUTE format(
            'INSERT INTO %s (%s, run_id) SELECT %s, 0 FROM %s',
            p_fact.fact_table, etl._list(p_fact.business_key || v_columns), etl._list(p_fact.business_key || v_columns, 'e.%1$I'), v_expected
        );
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'ET051';
EXCEPTION
    -- As etl._load_isolating.
    WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
        RETURN true;
    WHEN SQLSTATE 'ET051' THEN
        RETURN false;
END
$_fact_is_refused$;

-- Whether the claim of an entry in quarantine holds: the row cannot be loaded.
CREATE OR REPLACE FUNCTION etl._claim_holds(p_entry etl.quarantine)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_claim_holds$
    SELECT coalesce(
        (SELECT etl._cannot_be_read(s.source_table, p_entry.row_key) FROM etl.source_table AS s WHERE s.source_table = p_entry.object),
        (SELECT etl._member_is_refused(d, p_entry.row_key) FROM etl.dimension AS d WHERE d.dimension = p_entry.object AND d.transform_view IS NOT NULL),
        (SELECT etl._fact_is_refused(f, p_entry.row_key, p_entry.sqlstate) FROM etl.fact AS f WHERE f.fact = p_entry.object),
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
