-- Connects the source on another server: foreign tables of the same names and columns replace the views of the
-- contract. Nothing else in the engine depends on where the source is. The views are stored in schema source_local, and
-- return when the source is local again.
--
-- Batches stay exact, because postgres_fdw reads all foreign tables of a local transaction in one REPEATABLE READ
-- transaction of the source server. source.extraction_point is one of them, so it shows the snapshot of that
-- transaction.
--
-- The password is stored in the user mapping and nowhere else. It is not a parameter of connect_source, because
-- log_statement logs parameters, too: the caller fills a temporary table by COPY, whose data are not logged.
--
--     BEGIN;
--     CREATE TEMPORARY TABLE source_password (password text) ON COMMIT DROP;
--     \copy source_password FROM '/path/of/a/file'
--     SELECT * FROM etl.connect_source(p_host => 'shop.example.org', p_dbname => 'shop', p_user => 'warehouse');
--     COMMIT;
--
-- Errors: ET020 postgres_fdw cannot be used, ET021 source not reachable, ET022 login refused, ET023 database missing,
-- ET024 schema, table or column missing, ET025 privilege missing, ET026 unsuitable server, ET027 relation that cannot
-- be replaced, ET028 the password would be recorded, ET029 the local tables are empty.

-- Reads a row of each relation of the source, so that an error names what is missing now, and not in the next run: ET021 to ET026, or 25P04 as
-- etl._reach_source.
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
        RAISE EXCEPTION 'schema "%" does not exist in database "%" of the source', p_schema, r_connection.database_name
            USING ERRCODE = 'ET024', HINT = 'Specify the schema of the operational system, or another database.';
    END IF;
    FOR r_relation IN
        SELECT k.relation, coalesce(k.base_table, k.relation) AS remote_table
        FROM etl._contract() AS k
    LOOP
        BEGIN
            EXECUTE format('SELECT %s FROM source.%I LIMIT 1', etl._list(etl._columns(format('source.%I', r_relation.relation)::regclass)), r_relation.relation);
        EXCEPTION
            WHEN data_exception THEN
                -- An unreadable row: a run puts it into quarantine.
                NULL;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL;
                IF v_state IN ('42P01', '42703') THEN
                    RAISE EXCEPTION 'the source does not fit the contract: % (%.%)', v_message, p_schema, r_relation.remote_table
                        USING ERRCODE = 'ET024', HINT = format('source.%I needs it. Create it on the source server, or specify another schema or database.', r_relation.relation);
                END IF;
                PERFORM etl._raise_source_error(v_state, v_message, v_detail, r_connection);
        END;
    END LOOP;
END
$_probe_source$;

-- All or nothing, in the transaction of the caller. A second call replaces login and options. The parameters are as in libpq, besides p_schema, the
-- schema of the operational system, by default that of the local tables; p_fetch_size, rows per fetch; p_options, further options of libpq or
-- postgres_fdw for the server, such as sslrootcert; p_keep_watermarks, whether it is the same database under another address. Otherwise the next run
-- compares all rows with the mirrors (is_rebaselined), unless the address is the same as before. Writes the structure of schema source,
-- etl.watermark. Errors: ET001 while a run is running, ET020 to ET028.
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
    r_before etl.source_connection;
    r_after etl.source_connection;
    r_relation record;
BEGIN
    PERFORM etl._lock_start();
    PERFORM etl._refuse_beside_run(etl._live_run(), 'Wait until it ends, or stop it.');
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
            -- As in etl._pin_session: rows that a policy hides would count as deleted.
            'options', '-c row_security=off',
            -- A broken network is detected: after 10 seconds when connecting, later after about a minute.
            'connect_timeout', 10, 'keepalives', 1, 'keepalives_idle', 30, 'keepalives_interval', 10, 'keepalives_count', 3, 'tcp_user_timeout', 60000,
            -- The warehouse never writes to the source and reads one table at a time: remote estimates would only cost round trips.
            'updatable', false, 'truncatable', false, 'use_remote_estimate', false
        ) || p_options) AS o
    );
    COMMENT ON SERVER etl_source IS 'The operational system, when it is on another server.';
    PERFORM etl._create_user_mapping(p_user);

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
                USING ERRCODE = 'ET027', HINT = 'Define the relations of schema source as views.';
        END IF;
        IF r_relation.is_in_use THEN
            PERFORM etl._refuse_dependents(r_relation.local_view);
            EXECUTE format('ALTER VIEW source.%I SET SCHEMA source_local', r_relation.relation);
        END IF;
        PERFORM etl._create_foreign_table(r_relation.relation, r_relation.local_view, remote_schema, r_relation.remote_table);
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
        -- A copy of a data directory has the same system identifier, so another address is another source.
        DELETE FROM etl.watermark;
    END IF;
    RETURN NEXT;
END
$connect_source$;
COMMENT ON FUNCTION etl.connect_source(text, text, text, integer, name, text, integer, jsonb, boolean) IS 'Lets schema source read another server: foreign tables replace its views. The password comes from the temporary table source_password.';

-- The views of the contract return; server, login and foreign tables are dropped. p_even_if_empty accepts that local tables are empty although their
-- mirrors are not: the next run would mark all rows as deleted. Writes the structure of schema source, etl.watermark. Errors: ET001 while a run is
-- running, ET027 when other objects depend on a foreign table, ET029 when the local tables are empty.
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
    PERFORM etl._lock_start();
    PERFORM etl._refuse_beside_run(etl._live_run(), 'Wait until it ends, or stop it.');
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
