-- What analysts see: schema analysis has views named like the tables of schema dwh. etl.publish() creates them from two catalogs:
--
--   * etl.published_view has the rows that the current login may see.
--   * etl.column_sensitivity has how each column is shown. A column without a declaration is not published, and etl.permission_gap lists it.
--
-- Every technical key is published as a pseudonym. Surrogate keys, too: they are assigned in the order of the business keys, so they reveal them.
-- A key has the same pseudonym in all views, so joins work. Keys below 0 (Unknown, Not Yet) stay.
--
-- The views end with OFFSET 0. Without it, the planner moves conditions with leakproof operators below the filter of the rows, even in a
-- security barrier, and EXPLAIN ANALYZE then counts the hidden rows that satisfy them.

/*
Pseudonym of a key: 60 bits of a hash that is keyed like HMAC.
Parameters: p_secret, the secret; p_kind, kind of the key, such as customer_id; p_key, the key as text.
Returns:    a number above 0; NULL for NULL.
*/
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
COMMENT ON FUNCTION etl._pseudonym(text, text, text) IS 'Pseudonym of a key of a kind, made with a secret.';

/*
Creates the views of schema analysis from etl.published_view and etl.column_sensitivity. Call it after every change of these catalogs or of the
stars; oceanrecords migrate calls it.
Writes:  views of schema analysis and their comments.
Errors:  ET044 when a view has no table or no column to publish, or when an object depends on a view whose columns change.
*/
CREATE OR REPLACE PROCEDURE etl.publish()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $publish$
DECLARE
    r_view record;
    v_table regclass;
    v_given name[];
    v_query text;
    v_shape text[];
    v_present text[];
    r_column record;
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
        DROP VIEW pg_temp._published;

        SELECT
            string_agg(c.expression || ' AS ' || quote_ident(c.column_name), ', ' ORDER BY c.position),
            array_agg(c.column_name || ' ' || c.type ORDER BY c.position)
        INTO v_query, v_shape
        FROM (
            SELECT
                s.position,
                s.column_name,
                CASE
                    WHEN s.sensitivity = 'internal' THEN 'bigint'
                    ELSE format_type(a.atttypid, NULL)
                END AS type,
                CASE s.sensitivity
                    WHEN 'public' THEN format('t.%I', s.column_name)
                    WHEN 'internal' THEN CASE
                        WHEN a.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) THEN format(
                            'CASE WHEN t.%1$I < 0 THEN t.%1$I::bigint ELSE etl._pseudonym(k.secret, %2$L, t.%1$I::text) END',
                            s.column_name, etl._pseudonym_kind(v_table, s.column_name)
                        )
                        ELSE format('etl._pseudonym(k.secret, %L, t.%I::text)', etl._pseudonym_kind(v_table, s.column_name), s.column_name)
                    END
                    ELSE format(
                        'CASE WHEN %1$s THEN t.%2$I %3$sEND',
                        coalesce((
                            SELECT format('t.%I < 0', d.surrogate_key)
                            FROM etl.dimension AS d
                            WHERE d.dimension_table = v_table
                                AND d.surrogate_key = ANY (v_given)
                        ), 'false'),
                        s.column_name,
                        CASE WHEN a.atttypid = 'text'::regtype THEN format('WHEN t.%I IS NOT NULL THEN ''masked'' ', s.column_name) ELSE '' END
                    )
                END AS expression
            FROM etl.column_status AS s
            JOIN pg_attribute AS a ON a.attrelid = v_table AND a.attname = s.column_name
            WHERE s.schema_name = 'dwh'
                AND s.object_name = r_view.view_name
                AND s.column_name = ANY (v_given)
                AND s.sensitivity <> 'secret'
        ) AS c;
        IF v_query IS NULL THEN
            RAISE EXCEPTION 'no column of dwh.% may be published', quote_ident(r_view.view_name)
                USING ERRCODE = 'ET044', HINT = 'Declare the sensitivity of its columns in etl.column_sensitivity.';
        END IF;

        SELECT array_agg(a.attname || ' ' || format_type(a.atttypid, NULL) ORDER BY a.attnum)
        INTO v_present
        FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass(format('analysis.%I', r_view.view_name))
            AND a.attnum > 0
            AND NOT a.attisdropped;
        -- CREATE OR REPLACE can only add columns at the end.
        IF v_present IS NOT NULL AND v_shape[1:cardinality(v_present)] IS DISTINCT FROM v_present THEN
            BEGIN
                EXECUTE format('DROP VIEW analysis.%I', r_view.view_name);
            EXCEPTION
                WHEN dependent_objects_still_exist THEN
                    RAISE EXCEPTION 'the columns of analysis.% cannot change while other objects depend on it', quote_ident(r_view.view_name)
                        USING ERRCODE = 'ET044', DETAIL = SQLERRM, HINT = 'Drop these objects, migrate, and create them again.';
            END;
        END IF;
        EXECUTE format(
            'CREATE OR REPLACE VIEW analysis.%I WITH (security_barrier = true) AS SELECT %s FROM (%s) AS t CROSS JOIN etl.pseudonym_secret AS k OFFSET 0',
            r_view.view_name, v_query, r_view.rows_query
        );
        EXECUTE format('COMMENT ON VIEW analysis.%I IS %L', r_view.view_name, obj_description(v_table, 'pg_class') || ' For analysts.');
        FOR r_column IN
            SELECT s.column_name, s.sensitivity, col_description(v_table, s.position) AS meaning
            FROM etl.column_status AS s
            JOIN pg_attribute AS a ON a.attrelid = format('analysis.%I', r_view.view_name)::regclass AND a.attname = s.column_name
            WHERE s.schema_name = 'dwh'
                AND s.object_name = r_view.view_name
        LOOP
            EXECUTE format(
                'COMMENT ON COLUMN analysis.%I.%I IS %L', r_view.view_name, r_column.column_name,
                concat_ws(' ', r_column.meaning, CASE r_column.sensitivity WHEN 'personal' THEN 'Masked.' WHEN 'internal' THEN 'A pseudonym.' END)
            );
        END LOOP;
    END LOOP;
    PERFORM etl._hand_over_built();
END
$publish$;
COMMENT ON PROCEDURE etl.publish() IS 'Creates the views of schema analysis from etl.published_view and etl.column_sensitivity (ET044).';

CREATE OR REPLACE FUNCTION etl._pseudonym_kind(p_table regclass, p_column name)
RETURNS name
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_pseudonym_kind$
    -- A role-playing key, such as billing_person_key, must join with the key of its dimension.
    SELECT coalesce(
        (
            SELECT d.surrogate_key
            FROM etl.fact AS f
            JOIN etl.fact_dimension AS r USING (fact)
            JOIN etl.dimension AS d USING (dimension)
            WHERE f.fact_table = p_table
                AND r.key_column = p_column
        ),
        p_column
    )
$_pseudonym_kind$;
COMMENT ON FUNCTION etl._pseudonym_kind(regclass, name) IS 'Kind of the pseudonyms of a column: the surrogate key of its dimension, or else its own name.';

/*
Replaces the secret of the pseudonyms. All pseudonyms in schema analysis change: extracts with old ones can no longer be joined.
Writes:  etl.pseudonym_secret, audit.act.
*/
CREATE OR REPLACE PROCEDURE etl.rotate_pseudonyms()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $rotate_pseudonyms$
BEGIN
    UPDATE etl.pseudonym_secret AS s
    SET secret = DEFAULT;
    PERFORM etl._audit('pseudonyms rotated', current_database());
END
$rotate_pseudonyms$;
COMMENT ON PROCEDURE etl.rotate_pseudonyms() IS 'Replaces the secret of the pseudonyms: all pseudonyms in schema analysis change.';
