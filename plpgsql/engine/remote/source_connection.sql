-- The source on another server: foreign tables (postgres_fdw) of the same names and columns stand in for the contract's views, and
-- nothing else in the engine knows. The views are set aside in schema source_local and come back when the source is local again.
--
-- Exactness is kept, because postgres_fdw reads all foreign tables of a local transaction in one REPEATABLE READ transaction over
-- there: source.extraction_point, then a foreign table too, tells that transaction's snapshot.
--
-- The password is in the user mapping and nowhere else. It is not a parameter of connect_source, since log_statement writes
-- parameters to the log as well: it is taken from a temporary table, which the caller fills by COPY, whose data are not logged.
--
--     BEGIN;
--     CREATE TEMPORARY TABLE source_password (password text) ON COMMIT DROP;
--     \copy source_password FROM '/path/of/a/file'
--     SELECT * FROM etl.connect_source(p_host => 'shop.example.org', p_dbname => 'shop', p_user => 'warehouse');
--     COMMIT;
--
-- Errors: ET020 postgres_fdw cannot be used, ET021 source not reachable, ET022 login refused, ET023 no such database, ET024 schema,
-- table or column missing, ET025 right missing, ET026 server not suited, ET027 relation that cannot be replaced, ET028 the password
-- would be recorded, ET029 the local tables are empty.

CREATE OR REPLACE VIEW etl.source_connection AS
WITH server AS (
    SELECT
        s.oid,
        s.srvname,
        (SELECT jsonb_object_agg(o.option_name, o.option_value) FROM pg_options_to_table(s.srvoptions) AS o) AS options
    FROM pg_foreign_server AS s
)
SELECT
    CASE WHEN v.oid IS NULL THEN 'local' ELSE 'remote' END AS location,
    v.options ->> 'host' AS host,
    (v.options ->> 'port')::integer AS port,
    coalesce(v.options ->> 'dbname', current_database()) AS database_name,
    coalesce((
        SELECT o.option_value
        FROM pg_user_mappings AS m
        CROSS JOIN LATERAL pg_options_to_table(m.umoptions) AS o
        WHERE m.srvid = v.oid
            AND o.option_name = 'user'
    ), CASE WHEN v.oid IS NULL THEN current_user END) AS user_name,
    (
        SELECT o.option_value
        FROM pg_foreign_table AS t
        CROSS JOIN LATERAL pg_options_to_table(t.ftoptions) AS o
        WHERE t.ftrelid = to_regclass('source.extraction_point')
            AND o.option_name = 'schema_name'
    ) AS remote_schema,
    v.options ->> 'sslmode' AS sslmode,
    (v.options ->> 'fetch_size')::integer AS fetch_size
FROM (VALUES ('etl_source'::name)) AS n (name)
LEFT JOIN server AS v ON v.srvname = n.name;
COMMENT ON VIEW etl.source_connection IS 'Where schema source reads: one row. Passwords are not told.';
COMMENT ON COLUMN etl.source_connection.location IS 'local (views of this database) or remote (foreign tables).';
COMMENT ON COLUMN etl.source_connection.host IS 'Host; NULL when local.';
COMMENT ON COLUMN etl.source_connection.port IS 'Port; NULL when local.';
COMMENT ON COLUMN etl.source_connection.database_name IS 'Database.';
COMMENT ON COLUMN etl.source_connection.user_name IS 'Role that reads; NULL for those who may not know.';
COMMENT ON COLUMN etl.source_connection.remote_schema IS 'Schema over there; NULL when local.';
COMMENT ON COLUMN etl.source_connection.sslmode IS 'libpq''s sslmode; NULL when local.';
COMMENT ON COLUMN etl.source_connection.fetch_size IS 'Rows that are fetched at once; NULL when local.';

/*
The relations of the contract, and what each of them reads.
Returns:    relation, its name in schema source; local_view, the view (set aside or not), NULL where there is none; base_schema,
            base_table, the table that the view reads when it takes columns of one table as they are. Any other view must be made
            over there too, under its own name.
*/
CREATE OR REPLACE FUNCTION etl._contract()
RETURNS TABLE (relation name, local_view regclass, base_schema name, base_table name)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_contract$
    WITH wanted AS (
        SELECT s.source_table AS relation
        FROM etl.source_table AS s
        UNION
        SELECT r.relname
        FROM pg_class AS r
        WHERE r.relnamespace IN ('source'::regnamespace, 'source_local'::regnamespace)
            AND r.relname IN ('tombstones', 'extraction_point', 'columns')
    ),
    found AS (
        SELECT w.relation, c.oid::regclass AS local_view
        FROM wanted AS w
        LEFT JOIN pg_class AS c ON c.oid = coalesce(to_regclass(format('source_local.%I', w.relation)), to_regclass(format('source.%I', w.relation)))
            AND c.relkind = 'v'
    )
    SELECT f.relation, f.local_view, b.nspname, b.relname
    FROM found AS f
    LEFT JOIN LATERAL (
        SELECT n.nspname, c.relname
        FROM pg_rewrite AS r
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> f.local_view
        JOIN pg_class AS c ON c.oid = d.refobjid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        -- The definition as it is written when the view takes columns of this table and does nothing else.
        CROSS JOIN LATERAL (
            SELECT
                format('SELECT %s FROM %I.%I;', etl._list(etl._columns(f.local_view)), n.nspname, c.relname) AS short,
                format('SELECT %s FROM %I.%I;', etl._list(etl._columns(f.local_view), quote_ident(c.relname) || '.%1$I'), n.nspname, c.relname) AS long
        ) AS e
        WHERE r.ev_class = f.local_view
            AND btrim(regexp_replace(pg_get_viewdef(f.local_view), '\s+', ' ', 'g')) IN (e.short, e.long)
        LIMIT 1
    ) AS b ON true
    ORDER BY f.relation
$_contract$;
COMMENT ON FUNCTION etl._contract() IS 'The relations of the contract, and what each of them reads.';

/*
Refuses to change the source while a run is at work, and keeps new ones from starting until the transaction ends.
Errors: ET001.
*/
CREATE OR REPLACE FUNCTION etl._refuse_live_run()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_live_run$
DECLARE
    v_run_id bigint;
BEGIN
    PERFORM etl._lock_start();
    v_run_id := etl._live_run();
    IF v_run_id IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(v_run_id, 'The source cannot be changed under it: wait for its end, or stop it.');
    END IF;
END
$_refuse_live_run$;
COMMENT ON FUNCTION etl._refuse_live_run() IS 'Refuses to change the source while a run is at work (ET001).';

/*
Says in one sentence what is wrong with the source.
Parameters: p_sqlstate, p_message, p_detail, what postgres_fdw raised; p_connection, where it was about to read.
Errors:     always: ET021, ET022, ET023, ET025, or the error as it was.
*/
CREATE OR REPLACE FUNCTION etl._raise_source_error(
    p_sqlstate text,
    p_message text,
    p_detail text,
    p_connection etl.source_connection
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_raise_source_error$
DECLARE
    v_place text := format('%s:%s', p_connection.host, p_connection.port);
    v_detail text := coalesce(nullif(btrim(regexp_replace(p_detail, '\s+', ' ', 'g')), ''), p_message);
BEGIN
    IF p_sqlstate = '2F003' THEN
        RAISE EXCEPTION 'the source on % lets "%" in without a password, which only a superuser of the warehouse may use', v_place, p_connection.user_name
            USING ERRCODE = 'ET022',
                DETAIL = v_detail,
                HINT = 'Give a password, and let pg_hba.conf over there ask for it (scram-sha-256).';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'database ".*" does not exist' THEN
        RAISE EXCEPTION 'there is no database "%" on %', p_connection.database_name, v_place
            USING ERRCODE = 'ET023', DETAIL = v_detail, HINT = 'Name the operational system''s database.';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'authentication|password|pg_hba\.conf|role ".*" does not exist|not permitted to log in|permission denied for database' THEN
        RAISE EXCEPTION 'the source on % refuses the login of "%" to database "%"', v_place, p_connection.user_name, p_connection.database_name
            USING ERRCODE = 'ET022', DETAIL = v_detail, HINT = 'Check the role and its password, its right to CONNECT, and pg_hba.conf over there.';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'ssl|certificate' THEN
        RAISE EXCEPTION 'no secure connection to the source on % comes about', v_place
            USING ERRCODE = 'ET021', DETAIL = v_detail, HINT = 'Check sslmode, and the certificates on both sides.';
    ELSIF p_sqlstate ~ '^(08|57P0)' THEN
        RAISE EXCEPTION 'the source on % cannot be reached', v_place
            USING ERRCODE = 'ET021', DETAIL = v_detail, HINT = 'Check that the server runs, listens on that address, and that no firewall is between. The warehouse''s server connects, not this client.';
    ELSIF p_sqlstate = '42501' THEN
        RAISE EXCEPTION 'role "%" of the source lacks a right: %', p_connection.user_name, p_message
            USING ERRCODE = 'ET025', HINT = format('SELECT * FROM etl.source_grants(%L) lists what it needs.', p_connection.user_name);
    END IF;
    RAISE EXCEPTION '%', p_message
        USING ERRCODE = p_sqlstate, DETAIL = coalesce(p_detail, '');
END
$_raise_source_error$;
COMMENT ON FUNCTION etl._raise_source_error(text, text, text, etl.source_connection) IS 'Says in one sentence what is wrong with the source.';

/*
Makes sure that postgres_fdw can be used.
Errors: ET020.
*/
CREATE OR REPLACE FUNCTION etl._ensure_wrapper()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_ensure_wrapper$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'postgres_fdw') THEN
        IF NOT EXISTS (SELECT FROM pg_available_extensions AS e WHERE e.name = 'postgres_fdw') THEN
            RAISE EXCEPTION 'the extension postgres_fdw is not on the warehouse''s server'
                USING ERRCODE = 'ET020', HINT = 'Install PostgreSQL''s contrib package, such as postgresql-contrib.';
        END IF;
        BEGIN
            CREATE EXTENSION postgres_fdw WITH SCHEMA etl;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role "%" may not install the extension postgres_fdw', current_user
                    USING ERRCODE = 'ET020',
                        HINT = format('Let a superuser do: CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO %I;', current_user);
        END;
    END IF;
    IF NOT has_foreign_data_wrapper_privilege('postgres_fdw', 'USAGE') THEN
        RAISE EXCEPTION 'role "%" may not use the extension postgres_fdw', current_user
            USING ERRCODE = 'ET020',
                HINT = format('Let a superuser do: GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO %I;', current_user);
    END IF;
END
$_ensure_wrapper$;
COMMENT ON FUNCTION etl._ensure_wrapper() IS 'Makes sure that postgres_fdw can be used (ET020).';

/*
Refuses when something other than the engine stands on a relation of the contract, which it would then keep reading in the old place.
Parameters: p_relation, the relation.
Errors:     ET027.
*/
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
            USING ERRCODE = 'ET027', HINT = 'Drop what reads it and create it again afterwards, or let it read the mirror in schema stage.';
    END IF;
END
$_refuse_dependents$;
COMMENT ON FUNCTION etl._refuse_dependents(regclass) IS 'Refuses when something stands on a relation of the contract (ET027).';

/*
Removes the foreign tables and the server, password included; the contract then has no relations in schema source.
Writes:     structure only.
Errors:     ET027 when something stands on a foreign table.
*/
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
COMMENT ON FUNCTION etl._drop_source_server() IS 'Removes the foreign tables and the server of the source.';

/*
Takes the password that the caller has put into the temporary table source_password, and drops the table.
Returns:    the password; NULL when there is none.
*/
CREATE OR REPLACE FUNCTION etl._take_password()
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_take_password$
DECLARE
    v_password text;
BEGIN
    IF to_regclass('pg_temp.source_password') IS NOT NULL THEN
        EXECUTE 'SELECT p.password FROM pg_temp.source_password AS p LIMIT 1' INTO v_password;
        DROP TABLE pg_temp.source_password;
    END IF;
    RETURN nullif(v_password, '');
END
$_take_password$;
COMMENT ON FUNCTION etl._take_password() IS 'Takes the password from the caller''s temporary table source_password.';

/*
Creates the user mapping. Its statement holds the password: neither pg_stat_statements nor the context of an error may show it.
Parameters: p_user, p_password, login at the source.
Writes:     structure only.
Errors:     ET028 when pg_stat_statements would keep the statement and may not be told otherwise.
*/
CREATE OR REPLACE FUNCTION etl._create_user_mapping(p_user text, p_password text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_user_mapping$
DECLARE
    v_track text := current_setting('pg_stat_statements.track', true);
BEGIN
    IF v_track = 'all' THEN
        BEGIN
            PERFORM set_config('pg_stat_statements.track', 'none', true);
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'pg_stat_statements would keep the password'
                    USING ERRCODE = 'ET028',
                        HINT = format('Let a superuser connect the source, or do: GRANT SET ON PARAMETER pg_stat_statements.track TO %I;', current_user);
        END;
    END IF;
    BEGIN
        -- FOR PUBLIC: every reader of the contract uses this login, as with the views. password_required: the loads run with the privileges of
        -- roles that are no superusers. Such a role may not use a connection for which the source asks no password, even if one is given,
        -- unless a superuser allows it.
        EXECUTE format(
            'CREATE USER MAPPING FOR PUBLIC SERVER etl_source OPTIONS (user %L%s%s)',
            p_user,
            ', password ' || quote_literal(p_password),
            CASE WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN ', password_required ''false''' END
        );
    EXCEPTION
        WHEN query_canceled OR OTHERS THEN
            -- Raised anew, without the context, which quotes the statement.
            RAISE EXCEPTION '%', SQLERRM USING ERRCODE = SQLSTATE;
    END;
    IF v_track = 'all' THEN
        PERFORM set_config('pg_stat_statements.track', v_track, true);
    END IF;
END
$_create_user_mapping$;
COMMENT ON FUNCTION etl._create_user_mapping(text, text) IS 'Creates the user mapping, without a trace of the password anywhere else.';

/*
Creates the foreign table that stands in for a view of the contract: its columns, comments, owner and readers.
Parameters: p_relation, name in schema source; p_view, the view; p_schema, p_table, what is read over there.
Writes:     structure only.
*/
CREATE OR REPLACE FUNCTION etl._create_stand_in(
    p_relation name,
    p_view regclass,
    p_schema name,
    p_table name
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_stand_in$
DECLARE
    v_name text := format('source.%I', p_relation);
    r_column record;
    r_grant record;
    v_owner name;
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
    EXECUTE format('COMMENT ON FOREIGN TABLE %s IS %L', v_name, obj_description(p_view, 'pg_class'));
    FOR r_column IN
        SELECT a.attname, col_description(p_view, a.attnum) AS description
        FROM pg_attribute AS a
        WHERE a.attrelid = p_view
            AND a.attnum > 0
            AND col_description(p_view, a.attnum) IS NOT NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', v_name, r_column.attname, r_column.description);
    END LOOP;
    FOR r_grant IN
        SELECT
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee,
            CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS with_option
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS g
        WHERE c.oid = p_view
            AND g.privilege_type = 'SELECT'
            AND g.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO %s%s', v_name, r_grant.grantee, r_grant.with_option);
    END LOOP;
    SELECT pg_get_userbyid(c.relowner)
    INTO v_owner
    FROM pg_class AS c
    WHERE c.oid = p_view;
    IF v_owner <> current_user THEN
        EXECUTE format('ALTER FOREIGN TABLE %s OWNER TO %I', v_name, v_owner);
    END IF;
END
$_create_stand_in$;
COMMENT ON FUNCTION etl._create_stand_in(name, regclass, name, name) IS 'Creates the foreign table that stands in for a view of the contract.';

/*
Refuses a server that the exact watermark cannot be read from.
Parameters: p_version, server_version_num; p_is_standby, whether it is a hot standby.
Errors:     ET026.
*/
CREATE OR REPLACE FUNCTION etl._check_source_server(p_version integer, p_is_standby boolean)
RETURNS void
LANGUAGE plpgsql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_check_source_server$
BEGIN
    IF p_version < 130000 THEN
        RAISE EXCEPTION 'the source is PostgreSQL %, which is too old',
                CASE WHEN p_version >= 100000 THEN format('%s.%s', p_version / 10000, p_version % 10000) ELSE format('%s.%s', p_version / 10000, p_version / 100 % 100) END
            USING ERRCODE = 'ET026', HINT = 'Snapshots of transactions (pg_snapshot, xid8) are there from PostgreSQL 13 on.';
    END IF;
    IF p_is_standby THEN
        -- pg_current_snapshot() leaves out the open transactions there: rows that are committed late would be lost.
        RAISE EXCEPTION 'the source is a hot standby, whose snapshots do not tell the open transactions'
            USING ERRCODE = 'ET026', HINT = 'Connect to the primary.';
    END IF;
END
$_check_source_server$;
COMMENT ON FUNCTION etl._check_source_server(integer, boolean) IS 'Refuses a server that the exact watermark cannot be read from (ET026).';

/*
Makes the connection to the source, where that is another server, and does not wait for it longer than its option connect_timeout
says. PostgreSQL's foreign data wrapper has not heeded that since version 16: a server that takes the connection and never answers
would hold up a run, and all that follow, for ever. Only transaction_timeout, which came with version 17, acts in the middle of a
statement. It ends the session: the run counts as interrupted.
Errors:     25P04, which ends the session, when the source does not answer in time (PostgreSQL 17 and later); what else keeps the
            connection from being made.
*/
CREATE OR REPLACE FUNCTION etl._reach_source()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_reach_source$
DECLARE
    v_seconds text;
BEGIN
    SELECT o.option_value
    INTO v_seconds
    FROM pg_foreign_server AS s
    CROSS JOIN LATERAL pg_options_to_table(s.srvoptions) AS o
    WHERE s.srvname = 'etl_source'
        AND o.option_name = 'connect_timeout';
    -- A limit that somebody has set is there already.
    IF v_seconds IS NULL OR current_setting('transaction_timeout', true) IS DISTINCT FROM '0' THEN
        RETURN;
    END IF;
    PERFORM set_config('transaction_timeout', v_seconds || 's', true);
    PERFORM FROM etl._source_schema LIMIT 1;
    PERFORM set_config('transaction_timeout', '0', true);
END
$_reach_source$;
COMMENT ON FUNCTION etl._reach_source() IS 'Makes the connection to the source, where that is another server, within its connect_timeout.';

/*
Reads a row of everything over there, so that what is missing is told now, by name, and not by the next run.
Parameters: p_schema, schema over there.
Errors:     ET021 to ET026; 25P04 as etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl._probe_source(p_schema name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_probe_source$
DECLARE
    r_connection etl.source_connection;
    r_relation record;
    v_version integer;
    v_is_standby boolean;
    v_state text;
    v_message text;
    v_detail text;
BEGIN
    SELECT *
    INTO r_connection
    FROM etl.source_connection;
    BEGIN
        PERFORM etl._reach_source();
        SELECT max(s.setting) FILTER (WHERE s.name = 'server_version_num'), coalesce(bool_or(s.setting = 'on') FILTER (WHERE s.name = 'in_hot_standby'), false)
        INTO v_version, v_is_standby
        FROM etl._source_setting AS s
        WHERE s.name IN ('server_version_num', 'in_hot_standby');
    EXCEPTION
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
            PERFORM etl._raise_source_error(v_state, v_message, v_detail, r_connection);
    END;
    PERFORM etl._check_source_server(v_version, v_is_standby);
    IF NOT EXISTS (SELECT FROM etl._source_schema AS n WHERE n.nspname = p_schema) THEN
        RAISE EXCEPTION 'database "%" of the source has no schema "%"', r_connection.database_name, p_schema
            USING ERRCODE = 'ET024', HINT = 'Name the schema of the operational system, or another database.';
    END IF;
    FOR r_relation IN
        SELECT k.relation, coalesce(k.base_table, k.relation) AS remote_table
        FROM etl._contract() AS k
    LOOP
        BEGIN
            EXECUTE format('SELECT %s FROM source.%I LIMIT 1', etl._list(etl._columns(format('source.%I', r_relation.relation)::regclass)), r_relation.relation);
        EXCEPTION
            WHEN data_exception THEN
                -- A row that cannot be read: the runs set it aside.
                NULL;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
                IF v_state IN ('42P01', '42703') THEN
                    RAISE EXCEPTION 'the source does not fit the contract: % (%.%)', v_message, p_schema, r_relation.remote_table
                        USING ERRCODE = 'ET024', HINT = format('source.%I needs it. Create it over there, or name another schema or database.', r_relation.relation);
                END IF;
                PERFORM etl._raise_source_error(v_state, v_message, v_detail, r_connection);
        END;
    END LOOP;
END
$_probe_source$;
COMMENT ON FUNCTION etl._probe_source(name) IS 'Reads a row of everything at the source, so that what is missing is told by name.';

/*
Lets schema source read another server: foreign tables stand in for the contract's views. All or nothing, in the calling
transaction; called again it takes the new login and options. The password is taken from the temporary table source_password
(column password), which the caller fills by COPY in the same session, so that no log shows it.
Parameters: p_host, p_port, p_dbname, p_user, where the operational system is, as libpq takes them; p_schema, its schema, by default
            that of the local one; p_sslmode, as libpq takes it; p_fetch_size, rows fetched at once; p_options, more options of
            libpq or postgres_fdw for the server, such as sslrootcert; p_keep_watermarks, whether it is the very same database as
            before under another address. Otherwise the next run compares all rows with the mirrors, unless the address is the same.
Returns:    relations, number of foreign tables; remote_schema; is_rebaselined, whether the next run compares everything.
Writes:     structure of schema source, etl.watermark.
Errors:     ET001 when a run is at work, ET020 to ET028.
*/
CREATE OR REPLACE FUNCTION etl.connect_source(
    p_host text,
    p_dbname text,
    p_user text,
    p_port integer DEFAULT 5432,
    p_schema name DEFAULT NULL,
    p_sslmode text DEFAULT 'prefer',
    p_fetch_size integer DEFAULT 10000,
    p_options jsonb DEFAULT '{}',
    p_keep_watermarks boolean DEFAULT false
) RETURNS TABLE (relations integer, remote_schema name, is_rebaselined boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET lock_timeout = '30s'
AS $connect_source$
DECLARE
    v_password text := etl._take_password();
    r_before etl.source_connection;
    r_after etl.source_connection;
    r_relation record;
BEGIN
    PERFORM etl._refuse_live_run();
    PERFORM etl._ensure_wrapper();
    SELECT *
    INTO r_before
    FROM etl.source_connection;

    remote_schema := coalesce(p_schema, (SELECT min(k.base_schema::text) FROM etl._contract() AS k));
    relations := 0;
    PERFORM etl._drop_source_server();
    EXECUTE (
        SELECT format('CREATE SERVER etl_source FOREIGN DATA WRAPPER postgres_fdw OPTIONS (%s)', string_agg(format('%I %L', o.key, o.value), ', '))
        FROM jsonb_each_text(jsonb_build_object(
            'host', p_host, 'port', p_port, 'dbname', p_dbname, 'sslmode', p_sslmode, 'fetch_size', p_fetch_size,
            'application_name', 'oceanrecords warehouse',
            -- A network that fails is noticed: at the start after 10 seconds, silent for a minute, or not taking what is sent.
            'connect_timeout', 10, 'keepalives', 1, 'keepalives_idle', 30, 'keepalives_interval', 10, 'keepalives_count', 3, 'tcp_user_timeout', 60000,
            -- Nobody writes over there, and one table at a time is read: estimates of joins would cost round trips for nothing.
            'updatable', false, 'truncatable', false, 'use_remote_estimate', false
        ) || p_options) AS o
    );
    COMMENT ON SERVER etl_source IS 'The operational system, when it is on another server.';
    PERFORM etl._create_user_mapping(p_user, v_password);

    CREATE FOREIGN TABLE etl._source_setting (name text, setting text)
    SERVER etl_source OPTIONS (schema_name 'pg_catalog', table_name 'pg_settings');
    COMMENT ON FOREIGN TABLE etl._source_setting IS 'Settings of the source''s server.';
    CREATE FOREIGN TABLE etl._source_schema (nspname name)
    SERVER etl_source OPTIONS (schema_name 'pg_catalog', table_name 'pg_namespace');
    COMMENT ON FOREIGN TABLE etl._source_schema IS 'Schemas of the source''s database.';
    CREATE FOREIGN TABLE etl._source_activity (datname name, pid integer, application_name text, backend_type text, xact_start timestamptz, state text)
    SERVER etl_source OPTIONS (schema_name 'pg_catalog', table_name 'pg_stat_activity');
    COMMENT ON FOREIGN TABLE etl._source_activity IS 'Sessions of the source''s server.';

    FOR r_relation IN
        SELECT
            k.relation, k.local_view, coalesce(k.base_table, k.relation) AS remote_table,
            k.local_view = to_regclass(format('source.%I', k.relation)) AS is_in_use
        FROM etl._contract() AS k
    LOOP
        IF r_relation.local_view IS NULL THEN
            RAISE EXCEPTION 'source.% is not a view and cannot be replaced', quote_ident(r_relation.relation)
                USING ERRCODE = 'ET027', HINT = 'The contract is made of views while the source is local.';
        END IF;
        IF r_relation.is_in_use THEN
            PERFORM etl._refuse_dependents(r_relation.local_view);
            EXECUTE format('ALTER VIEW source.%I SET SCHEMA source_local', r_relation.relation);
        END IF;
        PERFORM etl._create_stand_in(r_relation.relation, r_relation.local_view, remote_schema, r_relation.remote_table);
        relations := relations + 1;
    END LOOP;
    PERFORM etl._probe_source(remote_schema);

    SELECT *
    INTO r_after
    FROM etl.source_connection;
    is_rebaselined := NOT (
        p_keep_watermarks
        OR (r_before.host, r_before.port, r_before.database_name, r_before.remote_schema)
            IS NOT DISTINCT FROM (r_after.host, r_after.port, r_after.database_name, r_after.remote_schema)
    );
    IF is_rebaselined THEN
        -- Another system identifier would do the same, but two databases of one server, or a copy of a data directory, share theirs.
        DELETE FROM etl.watermark;
    END IF;
    RETURN NEXT;
END
$connect_source$;
COMMENT ON FUNCTION etl.connect_source(text, text, text, integer, name, text, integer, jsonb, boolean) IS 'Lets schema source read another server: foreign tables stand in for its views. The password comes from the temporary table source_password.';

/*
Lets schema source read this database again: the contract's views come back, server, login and foreign tables go.
Parameters: p_even_if_empty, whether to do so also when the local tables hold nothing though the mirrors do: the next run would mark
            every row as deleted.
Returns:    whether the source was another server until now.
Writes:     structure of schema source, etl.watermark.
Errors:     ET001 when a run is at work, ET027 when something stands on a foreign table, ET029 when the local tables are empty.
*/
CREATE OR REPLACE FUNCTION etl.disconnect_source(p_even_if_empty boolean DEFAULT false)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET lock_timeout = '30s'
AS $disconnect_source$
DECLARE
    r_relation record;
    v_is_mirrored boolean;
    v_is_filled boolean;
BEGIN
    PERFORM etl._refuse_live_run();
    IF (SELECT c.location FROM etl.source_connection AS c) = 'local' THEN
        RETURN false;
    END IF;
    PERFORM etl._drop_source_server();
    FOR r_relation IN
        SELECT c.relname AS relation, s.source_table
        FROM pg_class AS c
        LEFT JOIN etl.source_table AS s
            ON s.source_table = c.relname AND s.delete_detection <> 'none' AND to_regclass(format('stage.%I', c.relname)) IS NOT NULL
        WHERE c.relnamespace = 'source_local'::regnamespace
            AND c.relkind = 'v'
    LOOP
        EXECUTE format('ALTER VIEW source_local.%I SET SCHEMA source', r_relation.relation);
        IF r_relation.source_table IS NOT NULL AND NOT p_even_if_empty THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM stage.%I WHERE deleted_at IS NULL)', r_relation.relation) INTO v_is_mirrored;
            EXECUTE format('SELECT EXISTS (SELECT FROM source.%I)', r_relation.relation) INTO v_is_filled;
            IF v_is_mirrored AND NOT v_is_filled THEN
                RAISE EXCEPTION 'source.% would be empty, though its mirror is not: the next run would mark every row as deleted', quote_ident(r_relation.relation)
                    USING ERRCODE = 'ET029',
                        HINT = 'Fill the operational system of this database first, or call etl.disconnect_source(p_even_if_empty => true).';
            END IF;
        END IF;
    END LOOP;
    DELETE FROM etl.watermark;
    RETURN true;
END
$disconnect_source$;
COMMENT ON FUNCTION etl.disconnect_source(boolean) IS 'Lets schema source read this database again; returns whether it read another server until now.';

/*
Statements that give a role of the source what the warehouse needs there, and no more. To be run over there by the owner.
Parameters: p_role, the role; p_schema, the schema over there, by default the local one's.
Returns:    one statement a row.
*/
CREATE OR REPLACE FUNCTION etl.source_grants(p_role text, p_schema name DEFAULT NULL)
RETURNS SETOF text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $source_grants$
    WITH wanted AS (
        SELECT coalesce(p_schema, min(k.base_schema::text) OVER ()::name) AS remote_schema, k.relation, coalesce(k.base_table, k.relation) AS remote_table
        FROM etl._contract() AS k
    )
    -- In the database where it is executed, whose name need not be known here.
    SELECT format('DO %L;', format('BEGIN EXECUTE format(''GRANT CONNECT ON DATABASE %%I TO %%I'', current_database(), %L); END', p_role))
    UNION ALL
    (SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I;', w.remote_schema, p_role) FROM wanted AS w)
    UNION ALL
    (
        SELECT format(
            'GRANT SELECT (%s) ON %I.%I TO %I;',
            etl._list(etl._columns(format('source.%I', w.relation)::regclass)), w.remote_schema, w.remote_table, p_role
        )
        FROM wanted AS w
        ORDER BY w.relation
    )
$source_grants$;
COMMENT ON FUNCTION etl.source_grants(text, name) IS 'Statements that give a role of the source what the warehouse needs there, and no more.';

/*
What is known of the source. A source that cannot be reached is told so, without an error.
Parameters: p_older_than, age from which an open transaction is counted.
Returns:    one row: location, host, port, database_name, user_name, remote_schema as in etl.source_connection; is_reachable; problem,
            why not; server_version; system_identifier; clock_difference, how far the source's clock is ahead of this server's;
            round_trip, time of one question; open_transactions, number of those of the source's database that are older. They hold nothing up:
            their rows come with the batch after their end. hidden_sessions, sessions whose transactions the role may not see.
Errors:     25P04 as etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl.source_status(p_older_than interval DEFAULT '5 minutes')
RETURNS TABLE (
    location text,
    host text,
    port integer,
    database_name text,
    user_name text,
    remote_schema text,
    is_reachable boolean,
    problem text,
    server_version text,
    system_identifier bigint,
    clock_difference interval,
    round_trip interval,
    open_transactions bigint,
    oldest_transaction_started_at timestamptz,
    hidden_sessions bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $source_status$
DECLARE
    r_connection etl.source_connection;
    v_activity regclass := 'pg_catalog.pg_stat_activity';
    v_setting regclass := 'pg_catalog.pg_settings';
    v_asked_at timestamptz;
    v_read_at timestamptz;
    v_state text;
    v_message text;
    v_detail text;
BEGIN
    SELECT *
    INTO r_connection
    FROM etl.source_connection;
    location := r_connection.location;
    host := r_connection.host;
    port := r_connection.port;
    database_name := r_connection.database_name;
    user_name := r_connection.user_name;
    remote_schema := r_connection.remote_schema;
    IF location = 'remote' THEN
        v_activity := 'etl._source_activity';
        v_setting := 'etl._source_setting';
    END IF;
    BEGIN
        -- The connection is there when the second question is timed.
        PERFORM etl._reach_source();
        EXECUTE format('SELECT split_part(s.setting, '' '', 1) FROM %s AS s WHERE s.name = ''server_version''', v_setting) INTO server_version;
        v_asked_at := clock_timestamp();
        EXECUTE 'SELECT p.system_identifier, p.read_at FROM source.extraction_point AS p' INTO system_identifier, v_read_at;
        round_trip := clock_timestamp() - v_asked_at;
        clock_difference := v_read_at - (v_asked_at + round_trip / 2);
        EXECUTE format(
            $sql$SELECT
    count(*) FILTER (WHERE a.xact_start < $1),
    min(a.xact_start) FILTER (WHERE a.xact_start < $1),
    count(*) FILTER (WHERE a.backend_type IS NULL)
FROM %s AS a
WHERE a.datname = $2
    -- As in etl._complete_until; a parallel worker has its leader's transaction.
    AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')$sql$,
            v_activity
        )
        INTO open_transactions, oldest_transaction_started_at, hidden_sessions
        USING v_read_at - p_older_than, database_name::name;
        is_reachable := true;
    EXCEPTION
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
            is_reachable := false;
            BEGIN
                PERFORM etl._raise_source_error(v_state, v_message, v_detail, r_connection);
            EXCEPTION
                WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
                    problem := v_message || coalesce(': ' || nullif(v_detail, ''), '');
            END;
    END;
    RETURN NEXT;
END
$source_status$;
COMMENT ON FUNCTION etl.source_status(interval) IS 'What is known of the source: where it is, whether it answers, its version, clock, and open transactions.';
