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

/*
Primary key of a table that a contract view reads.
Parameters: p_view, the view.
Returns:    columns of the view; NULL unless exactly one of the tables that it reads has a primary key whose columns all are columns of the view.
*/
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
    v_types name[] := ARRAY(SELECT etl._column_type(p_view, k.name) FROM unnest(p_key) WITH ORDINALITY AS k (name, position) ORDER BY k.position);
    v_query text := format('SELECT * FROM %s AS v WHERE ', p_view);
    v_value text := '\$%s';
    v_plan jsonb;
BEGIN
    IF (SELECT bool_or(etl._is_distributed(format('stage.%I', m.source_table)::regclass)) FROM etl._mirrors_of(p_view) AS m) THEN
        -- Citus plans no parameters. There, a subquery stands for the value.
        v_value := '(\$\d+|\(InitPlan \d+\)\.col1)';
        EXECUTE 'EXPLAIN (FORMAT json, VERBOSE, COSTS off) ' || v_query || (
            SELECT string_agg(format('v.%I = (SELECT NULL::%s)', k.name, k.type), ' AND ') FROM unnest(p_key, v_types) AS k (name, type)
        )
        INTO v_plan;
        -- EXPLAIN has set it to off for the rest of the transaction.
        PERFORM set_config('citus.enable_local_execution', 'on', true);
    ELSE
        EXECUTE format('PREPARE _etl_read_by_key (%s) AS ', array_to_string(v_types, ', ')) || v_query || (
            SELECT string_agg(format('v.%I = $%s', k.name, k.position), ' AND ') FROM unnest(p_key) WITH ORDINALITY AS k (name, position)
        );
        EXECUTE format(
            'EXPLAIN (FORMAT json, VERBOSE, COSTS off) EXECUTE _etl_read_by_key (%s)',
            array_to_string(array_fill('NULL'::text, ARRAY[cardinality(p_key)]), ', ')
        )
        INTO v_plan;
        DEALLOCATE _etl_read_by_key;
    END IF;
    RETURN NOT EXISTS (
        SELECT
        -- On the nodes of a cluster, the name of a table goes on with the number of its part.
        FROM jsonb_path_query(v_plan, 'strict $.** ? (@."Schema" == "stage")') AS s (scan)
        CROSS JOIN unnest(p_key) WITH ORDINALITY AS k (name, position)
        WHERE regexp_replace(s.scan ->> 'Relation Name', CASE WHEN v_value ~ 'InitPlan' THEN '_\d+$' ELSE '$' END, '') = p_source_table
            AND concat_ws(' ', s.scan ->> 'Index Cond', s.scan ->> 'Recheck Cond', s.scan ->> 'Filter')
            -- As in "((e.thing_id)::text = $1)". A function of the key, as in "(btrim(e.thing_id) = $1)", is not the key.
            !~ format(
                '(?<![\w"])\(\(?("[^"]+"|\w+)\.%s\)?(::[^=]*)? (=|OPERATOR\([^)]*=\)) \(*' || v_value || '(\M|\))',
                regexp_replace(quote_ident(k.name), '(\W)', '\\\1', 'g'), k.position
            )
    );
END
$_is_read_by_key$;

/*
Creates the table of a dimension in the shape of its view, with the member -1.
Parameters: p_name, the dimension; p_key, its business key; p_view, its transformation view.
Writes:     dwh.<name>.
*/
CREATE OR REPLACE FUNCTION etl._create_dimension_table(p_name name, p_key name[], p_view regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_dimension_table$
DECLARE
    v_attributes name[] := etl._without(etl._columns(p_view), p_key || '{effective_at,deleted_at}'::name[]);
    v_values jsonb := jsonb_build_object(
        'table', format('dwh.%I', p_name),
        'surrogate_key', quote_ident(regexp_replace(p_name, '^dim_', '') || '_key'),
        'index', quote_ident(p_name || '_version'),
        'key', to_jsonb(p_key),
        'columns', (SELECT string_agg(format(E'%I %s,\n', c.name, etl._held_type(p_view, c.name)), '' ORDER BY c.position) FROM unnest(p_key || v_attributes) WITH ORDINALITY AS c (name, position)),
        'key_is_null', etl._list(p_key, '%1$I IS NULL', ' AND ')
    );
BEGIN
    EXECUTE etl._render(
        $template$CREATE TABLE {{table}} (
    {{surrogate_key}} bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    {{columns}}valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL,
    is_current boolean NOT NULL,
    run_id bigint NOT NULL,
    CHECK (({{key_is_null}}) = ({{surrogate_key}} < 0)),
    CHECK (valid_from < valid_to),
    CHECK (is_current = (valid_to = 'infinity'))
);
CREATE INDEX {{index}} ON {{table}} ({{key}}, valid_from) INCLUDE ({{surrogate_key}}, valid_to);
INSERT INTO {{table}} ({{surrogate_key}}, valid_from, valid_to, is_current, run_id) VALUES (-1, '-infinity', 'infinity', true, 0)$template$,
        v_values
    );
    PERFORM etl._comment_target(format('dwh.%I', p_name)::regclass, p_view, ARRAY[
        [regexp_replace(p_name, '^dim_', '') || '_key', 'Surrogate key of the version; -1 is Unknown.'],
        ['valid_from', 'From when on the version is valid.'],
        ['valid_to', 'Until when the version is valid; infinity for the current one.'],
        ['is_current', 'Whether this is the current version.'],
        ['run_id', 'Run that last wrote the row.']
    ]);
END
$_create_dimension_table$;

/*
Creates the table of a fact in the shape of its view: business key, one key per dimension, and all other columns except lookup columns.
Parameters: p_name, the fact; p_key, its business key; p_view, its transformation view; p_dimensions, its keys.
Writes:     dwh.<name>.
*/
CREATE OR REPLACE FUNCTION etl._create_fact_table(p_name name, p_key name[], p_view regclass, p_dimensions etl.fact_dimension[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_fact_table$
DECLARE
    v_plain name[] := etl._without(
        etl._columns(p_view),
        p_key || 'deleted_at'::name || ARRAY(SELECT DISTINCT c.name FROM unnest(p_dimensions) AS k CROSS JOIN LATERAL unnest(k.lookup_columns) AS c (name))
    );
    v_event name := (SELECT k.as_of_column FROM unnest(p_dimensions) AS k WHERE k.as_of_column IS NOT NULL LIMIT 1);
BEGIN
    EXECUTE etl._render(
        $template$CREATE TABLE {{table}} (
    {{columns}}is_deleted boolean NOT NULL,
    run_id bigint NOT NULL,
    PRIMARY KEY ({{key}})
)$template$,
        jsonb_build_object('table', format('dwh.%I', p_name), 'key', to_jsonb(p_key), 'columns', concat(
            (SELECT string_agg(format(E'%I %s NOT NULL,\n', c.name, etl._held_type(p_view, c.name)), '' ORDER BY c.position) FROM unnest(p_key) WITH ORDINALITY AS c (name, position)),
            (SELECT string_agg(format(E'%I bigint NOT NULL,\n', k.key_column), '' ORDER BY k.position) FROM unnest(p_dimensions) WITH ORDINALITY AS k (fact, key_column, d, l, a, n, r, position)),
            (SELECT string_agg(format(E'%I %s,\n', c.name, etl._held_type(p_view, c.name)), '' ORDER BY c.position) FROM unnest(v_plain) WITH ORDINALITY AS c (name, position))
        ))
    );
    -- A retroactive change splits a version; this index finds its facts without a sequential scan.
    IF v_event IS NOT NULL THEN
        EXECUTE format('CREATE INDEX %I ON dwh.%I USING brin (%I)', p_name || '_event', p_name, v_event);
    END IF;
    PERFORM etl._comment_target(
        format('dwh.%I', p_name)::regclass, p_view,
        ARRAY[['is_deleted', 'Whether the row was deleted in the source; its measures are 0 then.'], ['run_id', 'Run that last wrote the row.']]
        || coalesce((SELECT array_agg(ARRAY[k.key_column::text, format('Key in %s.', k.dimension)]) FROM unnest(p_dimensions) AS k), '{}')
    );
END
$_create_fact_table$;

/*
Creates the table of an aggregate in the shape of its contribution view.
Parameters: p_name, the aggregate; p_group, columns that identify a row; p_measures, additive measures; p_view, the contribution view.
Writes:     dwh.<name>.
*/
CREATE OR REPLACE FUNCTION etl._create_aggregate_table(p_name name, p_group name[], p_measures name[], p_view regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_aggregate_table$
BEGIN
    EXECUTE etl._render(
        $template$CREATE TABLE {{table}} (
    {{columns}}run_id bigint NOT NULL,
    PRIMARY KEY ({{group}})
)$template$,
        jsonb_build_object('table', format('dwh.%I', p_name), 'group', to_jsonb(p_group), 'columns', (
            SELECT string_agg(format(E'%I %s NOT NULL,\n', c.name, c.type), '' ORDER BY c.position)
            FROM (
                SELECT g.name, etl._held_type(p_view, g.name), g.position
                FROM unnest(p_group) WITH ORDINALITY AS g (name, position)
                UNION ALL
                -- A sum has the type that sum() returns.
                SELECT m.name, CASE etl._held_type(p_view, m.name) WHEN 'smallint' THEN 'bigint' WHEN 'integer' THEN 'bigint' ELSE 'numeric' END,
                    cardinality(p_group) + m.position
                FROM unnest(p_measures) WITH ORDINALITY AS m (name, position)
            ) AS c (name, type, position)
        ))
    );
    PERFORM etl._comment_target(format('dwh.%I', p_name)::regclass, p_view, ARRAY[['run_id', 'Run that last wrote the row.']]);
END
$_create_aggregate_table$;

/*
Comments a table that was created in the shape of a view.
Parameters: p_table, the table; p_view, the view whose comments it takes over; p_own, column and comment of those that the view does not have.
Writes:     comments of the table.
*/
CREATE OR REPLACE FUNCTION etl._comment_target(p_table regclass, p_view regclass, p_own text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_comment_target$
DECLARE
    r_column record;
BEGIN
    EXECUTE format('COMMENT ON TABLE %s IS %L', p_table, coalesce(obj_description(p_view, 'pg_class'), format('Rows of %s.', p_view)));
    FOR r_column IN
        SELECT c.attname, coalesce(o.comment, col_description(p_view, v.attnum)) AS comment
        FROM pg_attribute AS c
        LEFT JOIN (SELECT p_own[i][1], p_own[i][2] FROM generate_subscripts(p_own, 1) AS i) AS o (name, comment) ON o.name = c.attname
        LEFT JOIN pg_attribute AS v ON v.attrelid = p_view AND v.attname = c.attname
        WHERE c.attrelid = p_table
            AND c.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', p_table, r_column.attname, r_column.comment);
    END LOOP;
END
$_comment_target$;
