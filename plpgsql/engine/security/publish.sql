-- What analysts see: schema analysis has views named like the tables of schema dwh. etl.publish() creates them from two catalogs:
--
--   * etl.published_view has the rows that the current login may see.
--   * etl.column_sensitivity has how each column is shown. A column without a declaration is not published, and etl.permission_gap lists it.
--
-- Every technical key is published as a pseudonym. Surrogate keys, too: they are assigned in the order of the business keys, so they reveal them.
-- A key has the same pseudonym in all views, so joins work. Keys below 0 (Unknown, Not Yet) stay.
--
-- Rows come in an order that depends on the secret. A table returns its rows in the order of a first load, which is that of the business keys: the
-- n-th row would be the n-th customer.
--
-- The views end with OFFSET 0. Without it, the planner moves conditions with leakproof operators below the filter of the rows, even in a
-- security barrier, and EXPLAIN ANALYZE then counts the hidden rows that satisfy them.

-- Pseudonym of a key of a kind, such as customer_id: 60 bits of a hash that is keyed like HMAC, a number above 0.
CREATE OR REPLACE FUNCTION etl._pseudonym(p_secret text, p_kind text, p_key text)
RETURNS bigint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN ('x' || pg_catalog.substr(
    pg_catalog.encode(
        pg_catalog.sha256(
            pg_catalog.convert_to(p_secret, 'UTF8')
            || pg_catalog.sha256(pg_catalog.convert_to(p_secret || ':' || p_kind || ':' || p_key, 'UTF8'))
        ),
        'hex'
    ),
    1, 15
))::bit(60)::bigint;

-- SQL of a column as analysts see it, over a row t of the table and the secret k. p_is_default is a condition that is true for default members, whose
-- values are not personal.
CREATE OR REPLACE FUNCTION etl._published_column(p_table regclass, p_column name, p_type oid, p_sensitivity text, p_is_default text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_published_column$
    SELECT format(
        CASE
            WHEN p_sensitivity = 'public' THEN 't.%1$I'
            WHEN p_sensitivity = 'personal' AND p_type = 'text'::regtype THEN 'CASE WHEN %3$s THEN t.%1$I WHEN t.%1$I IS NOT NULL THEN ''masked'' END'
            WHEN p_sensitivity = 'personal' THEN 'CASE WHEN %3$s THEN t.%1$I END'
            WHEN p_type IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
                THEN 'CASE WHEN t.%1$I < 0 THEN t.%1$I::bigint ELSE etl._pseudonym(k.secret, %2$L, t.%1$I::text) END'
            ELSE 'etl._pseudonym(k.secret, %2$L, t.%1$I::text)'
        END || ' AS %1$I',
        p_column,
        -- The kind of the key: a role-playing key, such as billing_person_key, must join with the key of its dimension.
        coalesce(
            (
                SELECT d.surrogate_key
                FROM etl.fact AS f
                JOIN etl.fact_dimension AS r USING (fact)
                JOIN etl.dimension AS d USING (dimension)
                WHERE f.fact_table = p_table
                    AND r.key_column = p_column
            ),
            p_column
        ),
        p_is_default
    )
$_published_column$;

-- Drops a view of schema analysis whose columns (names and types) change: CREATE OR REPLACE can only add columns at the end. ET044 when other objects
-- depend on the view.
CREATE OR REPLACE FUNCTION etl._drop_reshaped(p_view name, p_shape text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_drop_reshaped$
DECLARE
    v_present text[] := ARRAY(
        SELECT a.attname || ' ' || format_type(a.atttypid, NULL)
        FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass(format('analysis.%I', p_view))
            AND a.attnum > 0
            AND NOT a.attisdropped
        ORDER BY a.attnum
    );
BEGIN
    IF v_present = '{}' OR p_shape[1:cardinality(v_present)] = v_present THEN
        RETURN;
    END IF;
    EXECUTE format('DROP VIEW analysis.%I', p_view);
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE EXCEPTION 'the columns of analysis.% cannot change while other objects depend on it', quote_ident(p_view)
            USING ERRCODE = 'ET044', DETAIL = SQLERRM, HINT = 'Drop these objects, migrate, and create them again.';
END
$_drop_reshaped$;

-- Lets levels read views over tables that are on several nodes. Citus reads these tables with the privileges of the caller, and not with those of the
-- view's owner. A view whose readers may not read its tables themselves therefore takes its rows from a routine that has the privileges of the owner.
-- On one server there is nothing to do.
CREATE OR REPLACE FUNCTION etl._read_as_owner()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_read_as_owner$
DECLARE
    v_propagation text := coalesce(current_setting('citus.enable_ddl_propagation', true), 'on');
    r_view record;
BEGIN
    IF NOT etl._is_distributed(NULL) THEN
        RETURN;
    END IF;
    PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
    LOOP
        -- One at a time: a view over another view reads no table any more once the other one has its routine.
        WITH RECURSIVE part AS MATERIALIZED (
            SELECT DISTINCT w.ev_class AS view_id, d.refobjid AS relation_id
            FROM pg_rewrite AS w
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
            WHERE d.refobjid <> w.ev_class
        ),
        beneath (view_id, relation_id) AS (
            SELECT p.view_id, p.relation_id
            FROM part AS p
            UNION
            SELECT b.view_id, p.relation_id
            FROM beneath AS b
            JOIN part AS p ON p.view_id = b.relation_id
        ),
        reader AS MATERIALIZED (
            SELECT w.object_id, w.role_id
            FROM etl._wanted_privileges() AS w
            WHERE w.privilege = 'SELECT'
                AND w.column_number = 0
        ),
        spread AS MATERIALIZED (
            -- One table is enough: Citus then asks for the privileges on all tables of the view.
            SELECT b.view_id
            FROM beneath AS b
            WHERE b.relation_id IN (SELECT p.relation_id FROM (SELECT DISTINCT relation_id FROM part) AS p WHERE etl._is_distributed(p.relation_id))
        ),
        denied AS MATERIALIZED (
            SELECT DISTINCT b.view_id
            FROM beneath AS b
            JOIN pg_class AS v ON v.oid = b.view_id AND v.relkind = 'v'
            JOIN reader AS r ON r.object_id = b.view_id
            JOIN pg_class AS t ON t.oid = b.relation_id AND t.relkind <> 'v'
            WHERE b.view_id IN (SELECT s.view_id FROM spread AS s)
                AND NOT EXISTS (SELECT FROM reader AS o WHERE o.object_id = b.relation_id AND o.role_id = r.role_id)
        )
        SELECT d.view_id::regclass AS name, format('read_%s_%s', n.nspname, c.relname)::name AS routine, pg_get_viewdef(d.view_id) AS query, a.shape, a.columns
        INTO r_view
        FROM denied AS d
        JOIN pg_class AS c ON c.oid = d.view_id
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT
                string_agg(format('%I %s', t.attname, format_type(t.atttypid, t.atttypmod)), ', ' ORDER BY t.attnum) AS shape,
                string_agg(format('r.%I::%s', t.attname, format_type(t.atttypid, t.atttypmod)), ', ' ORDER BY t.attnum) AS columns
            FROM pg_attribute AS t
            WHERE t.attrelid = d.view_id
                AND t.attnum > 0
        ) AS a
        WHERE NOT EXISTS (SELECT FROM beneath AS b JOIN denied AS o ON o.view_id = b.relation_id WHERE b.view_id = d.view_id)
        ORDER BY 1
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        EXECUTE format('DROP FUNCTION IF EXISTS compiled.%I()', r_view.routine);
        PERFORM etl._create_compiled(
            r_view.routine, '', format(E'TABLE (%s)\nSTABLE SECURITY DEFINER', r_view.shape), format('Rows of view %s, read with the privileges of its owner.', r_view.name),
            format(E'#variable_conflict use_column\nBEGIN\n    RETURN QUERY\n%s\nEND', r_view.query)
        );
        EXECUTE format('CREATE OR REPLACE VIEW %s AS SELECT %s FROM compiled.%I() AS r', r_view.name, r_view.columns, r_view.routine);
    END LOOP;
    PERFORM set_config('citus.enable_ddl_propagation', v_propagation, true);
END
$_read_as_owner$;

-- Call it after every change of these catalogs or of the stars; oceanrecords migrate calls it. Writes views of schema analysis and their comments.
-- ET044 when a view has no table or no column to publish, or when an object depends on a view whose columns change.
CREATE OR REPLACE PROCEDURE etl.publish()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $publish$
DECLARE
    r_view record;
    v_table regclass;
    v_given name[];
    v_columns text;
    v_shape text[];
    v_order text;
BEGIN
    FOR r_view IN
        SELECT p.view_name, p.rows_query
        FROM etl.published_view AS p
        ORDER BY p.view_name
    LOOP
        v_table := to_regclass(format('dwh.%I', r_view.view_name));
        IF v_table IS NULL THEN
            RAISE EXCEPTION 'table dwh.% does not exist', quote_ident(r_view.view_name)
                USING ERRCODE = 'ET044', HINT = 'Correct the row of etl.published_view.';
        END IF;
        EXECUTE format('CREATE OR REPLACE TEMPORARY VIEW _published AS SELECT * FROM (%s) AS t LIMIT 0', r_view.rows_query);
        v_given := etl._columns('pg_temp._published'::regclass);
        EXECUTE 'DROP VIEW _published';

        SELECT
            string_agg(etl._published_column(v_table, a.attname, a.atttypid, s.sensitivity, coalesce(d.is_default, 'false')), ', ' ORDER BY s.position),
            array_agg(a.attname || ' ' || CASE s.sensitivity WHEN 'internal' THEN 'bigint' ELSE format_type(a.atttypid, NULL) END ORDER BY s.position),
            'ORDER BY md5(k.secret || concat_ws('':'', '
            || string_agg(format('t.%I', a.attname), ', ' ORDER BY s.position) FILTER (WHERE s.sensitivity = 'internal') || '))::uuid'
        INTO v_columns, v_shape, v_order
        FROM etl.column_status AS s
        JOIN pg_attribute AS a ON a.attrelid = v_table AND a.attname = s.column_name
        LEFT JOIN (
            SELECT e.dimension_table, format('t.%I < 0', e.surrogate_key) AS is_default
            FROM etl.dimension AS e
            WHERE e.surrogate_key = ANY (v_given)
        ) AS d ON d.dimension_table = v_table
        WHERE s.schema_name = 'dwh'
            AND s.object_name = r_view.view_name
            AND s.column_name = ANY (v_given)
            AND s.sensitivity <> 'secret';
        IF v_columns IS NULL THEN
            RAISE EXCEPTION 'no column of dwh.% may be published', quote_ident(r_view.view_name)
                USING ERRCODE = 'ET044', HINT = 'Declare the sensitivity of its columns in etl.column_sensitivity.';
        END IF;
        PERFORM etl._drop_reshaped(r_view.view_name, v_shape);
        EXECUTE format(
            'CREATE OR REPLACE VIEW analysis.%I WITH (security_barrier = true) AS SELECT %s FROM (%s) AS t CROSS JOIN etl.pseudonym_secret AS k %s OFFSET 0',
            r_view.view_name, v_columns, r_view.rows_query, v_order
        );
        PERFORM etl._execute(ARRAY(
            SELECT format('COMMENT ON VIEW analysis.%I IS %L', r_view.view_name, obj_description(v_table, 'pg_class') || ' For analysts.')
            UNION ALL
            SELECT format(
                'COMMENT ON COLUMN analysis.%I.%I IS %L', r_view.view_name, s.column_name,
                concat_ws(' ', col_description(v_table, s.position), CASE s.sensitivity WHEN 'personal' THEN 'Masked.' WHEN 'internal' THEN 'A pseudonym.' END)
            )
            FROM etl.column_status AS s
            WHERE s.schema_name = 'dwh'
                AND s.object_name = r_view.view_name
                AND s.column_name = ANY (etl._columns(format('analysis.%I', r_view.view_name)::regclass))
        ));
    END LOOP;
    PERFORM etl._read_as_owner();
    PERFORM etl._hand_over_built();
END
$publish$;
COMMENT ON PROCEDURE etl.publish() IS 'Creates the views of schema analysis from etl.published_view and etl.column_sensitivity (ET044).';

-- Extracts with old ones can no longer be joined. Writes etl.pseudonym_secret, audit.act.
CREATE OR REPLACE PROCEDURE etl.rotate_pseudonyms()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $rotate_pseudonyms$
BEGIN
    UPDATE etl.pseudonym_secret AS s
    SET secret = DEFAULT;
    PERFORM audit.note('pseudonyms rotated', current_database());
END
$rotate_pseudonyms$;
COMMENT ON PROCEDURE etl.rotate_pseudonyms() IS 'Replaces the secret of the pseudonyms: all pseudonyms in schema analysis change.';
