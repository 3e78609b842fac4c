-- What a declaration derives: keys from constraints, dependencies and target tables from views.

-- Columns of a table's primary key; NULL where there is none.
CREATE OR REPLACE FUNCTION etl._primary_key(p_table regclass)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_primary_key$
    SELECT array_agg(a.attname ORDER BY k.position)
    FROM pg_constraint AS c
    CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (attnum, position)
    JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
    WHERE c.conrelid = p_table
        AND c.contype = 'p'
$_primary_key$;

-- Primary key of the table that a contract view reads. NULL unless exactly one of the tables that it reads has a primary key whose columns all are
-- columns of the view.
CREATE OR REPLACE FUNCTION etl._primary_key_behind(p_view regclass)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_primary_key_behind$
    SELECT k.columns
    FROM (
        SELECT etl._primary_key(t.oid::regclass), count(*) OVER ()
        FROM (
            SELECT DISTINCT d.refobjid
            FROM pg_rewrite AS w
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
            WHERE w.ev_class = p_view
                AND d.refobjid <> p_view
        ) AS t (oid)
        WHERE etl._primary_key(t.oid::regclass) <@ etl._columns(p_view)
    ) AS k (columns, candidates)
    WHERE k.candidates = 1
$_primary_key_behind$;

/*
Whether a row of a view comes from the mirror's row of the same key and from no other row of that mirror, so that the key of a changed row is the
only key that the change touches. The planner proves it: a condition on the view's key then reaches every scan of the mirror. It does not through a
window function, LIMIT, an aggregate over other keys, or a join on other columns.
Parameters: p_view, the view; p_key, its key, and that of the mirror; p_source_table, the mirror.
*/
CREATE OR REPLACE FUNCTION etl._is_read_by_key(p_view regclass, p_key name[], p_source_table name)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A custom plan would replace the parameters by their values.
SET plan_cache_mode = force_generic_plan
SET quote_all_identifiers = off
AS $_is_read_by_key$
DECLARE
    v_plan jsonb;
BEGIN
    EXECUTE format(
        'PREPARE _etl_read_by_key (%s) AS SELECT * FROM %s AS v WHERE %s',
        (SELECT string_agg(etl._column_type(p_view, k.name), ', ' ORDER BY k.position) FROM unnest(p_key) WITH ORDINALITY AS k (name, position)),
        p_view,
        (SELECT string_agg(format('v.%I = $%s', k.name, k.position), ' AND ') FROM unnest(p_key) WITH ORDINALITY AS k (name, position))
    );
    EXECUTE format(
        'EXPLAIN (FORMAT json, VERBOSE, COSTS off) EXECUTE _etl_read_by_key (%s)', array_to_string(array_fill('NULL'::text, ARRAY[cardinality(p_key)]), ', ')
    )
    INTO v_plan;
    DEALLOCATE _etl_read_by_key;
    RETURN NOT EXISTS (
        SELECT
        FROM jsonb_path_query(v_plan, 'strict $.** ? (@."Schema" == "stage" && @."Relation Name" == $name)', jsonb_build_object('name', p_source_table)) AS s (scan)
        CROSS JOIN unnest(p_key) WITH ORDINALITY AS k (name, position)
        WHERE concat_ws(' ', s.scan ->> 'Index Cond', s.scan ->> 'Recheck Cond', s.scan ->> 'Filter')
            -- As in "((e.thing_id)::text = $1)". A function of the key, as in "(btrim(e.thing_id) = $1)", is not the key.
            !~ format(
                '(?<![\w"])\(\(?("[^"]+"|\w+)\.%s\)?(::[^=]*)? (=|OPERATOR\([^)]*=\)) \(*\$%s\M',
                regexp_replace(quote_ident(k.name), '(\W)', '\\\1', 'g'), k.position
            )
    );
END
$_is_read_by_key$;

-- Definitions of the columns of a new table: those of a view, in the types in which they are held.
CREATE OR REPLACE FUNCTION etl._column_definitions(p_view regclass, p_columns name[], p_constraint text DEFAULT '')
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_column_definitions$
    SELECT string_agg(format(E'%I %s%s,\n', c.name, etl._held_type(p_view, c.name), p_constraint), '' ORDER BY c.position)
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
$_column_definitions$;

-- Creates a table dwh.<name> in the shape of a view, with the comments of the view. p_template has its columns and constraints, as in CREATE TABLE;
-- p_own has column and comment of the columns that the view does not have.
CREATE OR REPLACE FUNCTION etl._create_target(p_name name, p_view regclass, p_template text, p_values jsonb, p_own text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_target$
DECLARE
    v_table text := format('dwh.%I', p_name);
BEGIN
    EXECUTE format(E'CREATE TABLE %s (\n%s\n)', v_table, etl._render(p_template, p_values));
    EXECUTE format('COMMENT ON TABLE %s IS %L', v_table, coalesce(obj_description(p_view, 'pg_class'), format('Rows of %s.', p_view)));
    PERFORM etl._execute(ARRAY(
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', v_table, c.attname, coalesce(o.comment, col_description(p_view, v.attnum)))
        FROM pg_attribute AS c
        LEFT JOIN (SELECT p_own[i][1], p_own[i][2] FROM generate_subscripts(p_own, 1) AS i) AS o (name, comment) ON o.name = c.attname
        LEFT JOIN pg_attribute AS v ON v.attrelid = p_view AND v.attname = c.attname
        WHERE c.attrelid = v_table::regclass
            AND c.attnum > 0
    ));
END
$_create_target$;

-- Creates the table of a dimension, with the member -1.
CREATE OR REPLACE FUNCTION etl._create_dimension_table(p_name name, p_key name[], p_view regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_dimension_table$
DECLARE
    v_surrogate_key name := regexp_replace(p_name, '^dim_', '') || '_key';
    -- Columns of the view that are called as those of a version are refused by the build.
    v_attributes name[] := etl._without(
        etl._columns(p_view), p_key || v_surrogate_key || '{effective_at,deleted_at,valid_from,valid_to,is_current,run_id}'::name[]
    );
BEGIN
    PERFORM etl._create_target(
        p_name,
        p_view,
        $template${{surrogate_key}} bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
{{columns}}valid_from timestamptz NOT NULL,
valid_to timestamptz NOT NULL,
is_current boolean NOT NULL,
run_id bigint NOT NULL,
CHECK (({{key_is_null}}) = ({{surrogate_key}} < 0)),
CHECK (valid_from < valid_to),
CHECK (is_current = (valid_to = 'infinity'))$template$,
        jsonb_build_object(
            'surrogate_key', quote_ident(v_surrogate_key),
            'columns', etl._column_definitions(p_view, p_key || v_attributes),
            'key_is_null', etl._list(p_key, '%1$I IS NULL', ' AND ')
        ),
        ARRAY[
            [v_surrogate_key::text, 'Surrogate key of the version; -1 is Unknown.'],
            ['valid_from', 'From when on the version is valid.'],
            ['valid_to', 'Until when the version is valid; infinity for the current one.'],
            ['is_current', 'Whether this is the current version.'],
            ['run_id', 'Run that last wrote the row.']
        ]
    );
    EXECUTE format(
        'CREATE INDEX %I ON dwh.%I (%s, valid_from) INCLUDE (%I, valid_to)', p_name || '_version', p_name, etl._list(p_key), v_surrogate_key
    );
    EXECUTE format('INSERT INTO dwh.%I (%I, valid_from, valid_to, is_current, run_id) VALUES (-1, ''-infinity'', ''infinity'', true, 0)', p_name, v_surrogate_key);
END
$_create_dimension_table$;

-- Creates the table of a fact: business key, one key per dimension, and all other columns of the view except lookup columns.
CREATE OR REPLACE FUNCTION etl._create_fact_table(p_name name, p_key name[], p_view regclass, p_dimensions etl.fact_dimension[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_fact_table$
DECLARE
    v_keys name[] := ARRAY(SELECT k.key_column FROM unnest(p_dimensions) AS k);
    v_lookup name[] := ARRAY(SELECT DISTINCT c.name FROM unnest(p_dimensions) AS k CROSS JOIN LATERAL unnest(k.lookup_columns) AS c (name));
    v_event name := (SELECT k.as_of_column FROM unnest(p_dimensions) AS k WHERE k.as_of_column IS NOT NULL LIMIT 1);
BEGIN
    PERFORM etl._create_target(
        p_name,
        p_view,
        '{{columns}}is_deleted boolean NOT NULL, run_id bigint NOT NULL, PRIMARY KEY ({{key}})',
        jsonb_build_object('key', to_jsonb(p_key), 'columns', concat(
            etl._column_definitions(p_view, p_key, ' NOT NULL'),
            etl._list(v_keys, E'%1$I bigint NOT NULL,\n', ''),
            etl._column_definitions(p_view, etl._without(etl._columns(p_view), p_key || v_keys || v_lookup || '{deleted_at,is_deleted,run_id}'::name[]))
        )),
        ARRAY[['is_deleted', 'Whether the row was deleted in the source; its measures are 0 then.'], ['run_id', 'Run that last wrote the row.']]
        || coalesce((SELECT array_agg(ARRAY[k.key_column::text, format('Key in %s.', k.dimension)]) FROM unnest(p_dimensions) AS k), '{}')
    );
    -- A retroactive change splits a version; this index finds its facts without a sequential scan.
    IF v_event IS NOT NULL THEN
        EXECUTE format('CREATE INDEX %I ON dwh.%I USING brin (%I)', p_name || '_event', p_name, v_event);
    END IF;
END
$_create_fact_table$;
