-- Foreign tables in place of the views of the contract: server, login and tables of postgres_fdw.

-- Installs the extension postgres_fdw, if it is missing. ET020 when it is not available, or the role may not use it.
CREATE OR REPLACE FUNCTION etl._ensure_wrapper()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_ensure_wrapper$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'postgres_fdw') THEN
        IF NOT EXISTS (SELECT FROM pg_available_extensions AS e WHERE e.name = 'postgres_fdw') THEN
            RAISE EXCEPTION 'extension "postgres_fdw" is not available on the warehouse''s server'
                USING ERRCODE = 'ET020', HINT = 'Install PostgreSQL''s contrib package, such as postgresql-contrib.';
        END IF;
        BEGIN
            CREATE EXTENSION postgres_fdw WITH SCHEMA etl;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'permission denied to create extension "postgres_fdw"'
                    USING ERRCODE = 'ET020',
                        HINT = format('Let a superuser run: CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO %I;', current_user);
        END;
    END IF;
    IF NOT has_foreign_data_wrapper_privilege('postgres_fdw', 'USAGE') THEN
        RAISE EXCEPTION 'permission denied for foreign-data wrapper "postgres_fdw"'
            USING ERRCODE = 'ET020',
                HINT = format('Let a superuser run: GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO %I;', current_user);
    END IF;
END
$_ensure_wrapper$;

-- Refuses to replace a relation of the contract that other objects depend on (ET027): they would go on reading the old one.
CREATE OR REPLACE FUNCTION etl._refuse_dependents(p_relation regclass)
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refuse_dependents$
DECLARE
    v_dependents text;
BEGIN
    SELECT string_agg(DISTINCT o.description, ', ' ORDER BY o.description)
    INTO v_dependents
    FROM pg_depend AS d
    LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    CROSS JOIN LATERAL (
        SELECT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, 0) ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END
    ) AS o (description)
    WHERE d.refclassid = 'pg_class'::regclass
        AND d.refobjid = p_relation
        AND d.deptype = 'n'
        AND r.ev_class IS DISTINCT FROM p_relation;
    IF v_dependents IS NOT NULL THEN
        RAISE EXCEPTION '% cannot be replaced: % reads it', p_relation, v_dependents
            USING ERRCODE = 'ET027', HINT = 'Let it read the mirror in schema stage, or drop it and create it again afterwards.';
    END IF;
END
$_refuse_dependents$;

-- Drops the foreign tables (ET027 when other objects depend on one) and the server with its login. The contract then has no relations in schema
-- source.
CREATE OR REPLACE FUNCTION etl._drop_source_server()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_drop_source_server$
DECLARE
    v_table regclass;
BEGIN
    FOR v_table IN
        SELECT f.ftrelid
        FROM pg_foreign_table AS f
        JOIN pg_foreign_server AS s ON s.oid = f.ftserver
        WHERE s.srvname = 'etl_source'
    LOOP
        PERFORM etl._refuse_dependents(v_table);
        EXECUTE format('DROP FOREIGN TABLE %s', v_table);
    END LOOP;
    DROP USER MAPPING IF EXISTS FOR PUBLIC SERVER etl_source;
    DROP SERVER IF EXISTS etl_source;
END
$_drop_source_server$;

-- Creates the user mapping with the password of the temporary table source_password, which the caller has filled, and drops that table. The statement
-- contains the password: neither pg_stat_statements nor the context of an error may show it. ET028 when pg_stat_statements would record the
-- statement, and the role may not prevent that.
CREATE OR REPLACE FUNCTION etl._create_user_mapping(p_user text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_user_mapping$
DECLARE
    v_track text := current_setting('pg_stat_statements.track', true);
    v_password text;
BEGIN
    IF v_track = 'all' THEN
        BEGIN
            PERFORM set_config('pg_stat_statements.track', 'none', true);
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'pg_stat_statements would record the password'
                    USING ERRCODE = 'ET028',
                        HINT = format('Let a superuser connect the source, or run: GRANT SET ON PARAMETER pg_stat_statements.track TO %I;', current_user);
        END;
    END IF;
    IF to_regclass('pg_temp.source_password') IS NOT NULL THEN
        EXECUTE 'SELECT nullif(p.password, '''') FROM pg_temp.source_password AS p LIMIT 1' INTO v_password;
        DROP TABLE pg_temp.source_password;
    END IF;
    BEGIN
        -- FOR PUBLIC: every reader of the contract uses this login, as with the views. password_required: the loads run with the privileges of
        -- roles that are no superusers. Such a role may not use a connection for which the source asks no password, even if one is given,
        -- unless a superuser allows it.
        EXECUTE format(
            'CREATE USER MAPPING FOR PUBLIC SERVER etl_source OPTIONS (user %L%s%s)',
            p_user,
            ', password ' || quote_literal(v_password),
            CASE WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN ', password_required ''false''' END
        );
    EXCEPTION
        WHEN query_canceled OR OTHERS THEN
            -- Raised again without the context, which quotes the statement.
            RAISE EXCEPTION '%', SQLERRM USING ERRCODE = SQLSTATE;
    END;
    IF v_track = 'all' THEN
        PERFORM set_config('pg_stat_statements.track', v_track, true);
    END IF;
END
$_create_user_mapping$;

-- Creates the foreign table source.<relation>, which replaces a view of the contract, with the same columns, comments, owner and readers.
CREATE OR REPLACE FUNCTION etl._create_foreign_table(p_relation name, p_view regclass, p_schema name, p_table name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_foreign_table$
DECLARE
    v_name text := format('source.%I', p_relation);
BEGIN
    EXECUTE (
        SELECT format(
            'CREATE FOREIGN TABLE %s (%s) SERVER etl_source OPTIONS (schema_name %L, table_name %L)',
            v_name,
            string_agg(
                format(
                    '%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                    CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN ' COLLATE ' || a.attcollation::regcollation::text ELSE '' END
                ),
                ', ' ORDER BY a.attnum
            ),
            p_schema, p_table
        )
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = p_view
            AND a.attnum > 0
            AND NOT a.attisdropped
    );
    PERFORM etl._execute(ARRAY(
        SELECT format('COMMENT ON FOREIGN TABLE %s IS %L', v_name, obj_description(p_view, 'pg_class'))
        UNION ALL
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', v_name, a.attname, col_description(p_view, a.attnum))
        FROM pg_attribute AS a
        WHERE a.attrelid = p_view
            AND a.attnum > 0
            AND col_description(p_view, a.attnum) IS NOT NULL
        UNION ALL
        SELECT format(
            'GRANT SELECT ON %s TO %s%s', v_name, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END
        )
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS g
        WHERE c.oid = p_view
            AND g.privilege_type = 'SELECT'
            AND g.grantee <> c.relowner
        UNION ALL
        SELECT format('ALTER FOREIGN TABLE %s OWNER TO %I', v_name, pg_get_userbyid(c.relowner))
        FROM pg_class AS c
        WHERE c.oid = p_view
            AND pg_get_userbyid(c.relowner) <> current_user
    ));
END
$_create_foreign_table$;
