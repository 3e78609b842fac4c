-- Whether the source can be reached, whether it is a server that the engine can read, and what is wrong with it.

-- Raises an error of postgres_fdw again, as one that says in a sentence what is wrong with the source (ET021, ET022, ET023, ET025), or as it was.
CREATE OR REPLACE FUNCTION etl._raise_source_error(p_sqlstate text, p_message text, p_detail text, p_connection etl.source_connection)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_raise_source_error$
DECLARE
    v_place text := format('%s:%s', p_connection.host, p_connection.port);
    v_detail text := coalesce(nullif(btrim(regexp_replace(p_detail, '\s+', ' ', 'g')), ''), p_message);
BEGIN
    IF p_sqlstate = '2F003' THEN
        RAISE EXCEPTION 'the source on % asks "%" for no password, and only a superuser may use such a connection', v_place, p_connection.user_name
            USING ERRCODE = 'ET022',
                DETAIL = v_detail,
                HINT = 'Require a password in pg_hba.conf of the source server (scram-sha-256), or let a superuser connect the source.';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'database ".*" does not exist' THEN
        RAISE EXCEPTION 'database "%" does not exist on %', p_connection.database_name, v_place
            USING ERRCODE = 'ET023', DETAIL = v_detail, HINT = 'Specify the database of the operational system.';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'authentication|password|pg_hba\.conf|role ".*" does not exist|not permitted to log in|permission denied for database' THEN
        RAISE EXCEPTION 'the source on % refuses the login of "%" to database "%"', v_place, p_connection.user_name, p_connection.database_name
            USING ERRCODE = 'ET022', DETAIL = v_detail, HINT = 'Check the role, its password, its privilege CONNECT, and pg_hba.conf of the source server.';
    ELSIF p_sqlstate = '08001' AND v_detail ~* 'ssl|certificate' THEN
        RAISE EXCEPTION 'could not establish an SSL connection to the source on %', v_place
            USING ERRCODE = 'ET021', DETAIL = v_detail, HINT = 'Check sslmode and the certificates of both servers.';
    ELSIF p_sqlstate ~ '^(08|57P0)' THEN
        RAISE EXCEPTION 'the source on % cannot be reached', v_place
            USING ERRCODE = 'ET021', DETAIL = v_detail, HINT = 'Check that the server is running, that it listens on this address, and that no firewall is in the way. The warehouse''s server connects, not the client.';
    ELSIF p_sqlstate = '42501' THEN
        RAISE EXCEPTION 'role "%" lacks a privilege on the source: %', p_connection.user_name, p_message
            USING ERRCODE = 'ET025', HINT = format('Run the statements of SELECT * FROM etl.source_grants(%L) on the source server.', p_connection.user_name);
    END IF;
    RAISE EXCEPTION '%', p_message
        USING ERRCODE = p_sqlstate, DETAIL = coalesce(p_detail, '');
END
$_raise_source_error$;

-- Refuses a server from which the exact watermark cannot be read (ET026).
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
            USING ERRCODE = 'ET026', HINT = 'Upgrade it to PostgreSQL 13 or newer, which has the type pg_snapshot.';
    END IF;
    IF p_is_standby THEN
        -- On a standby, pg_current_snapshot() leaves out the open transactions: rows that are committed late would be lost.
        RAISE EXCEPTION 'the source is a hot standby, whose snapshots leave out the open transactions'
            USING ERRCODE = 'ET026', HINT = 'Connect to the primary.';
    END IF;
END
$_check_source_server$;

-- Connects to the source, if it is another server, within its option connect_timeout. Since version 16 postgres_fdw ignores that option: a server
-- that accepts the connection and never answers would block a run, and all later ones. Only transaction_timeout, new in version 17, acts within a
-- statement. It ends the session (25P04), and the run counts as interrupted.
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
    -- A limit of the caller stays.
    IF v_seconds IS NULL OR current_setting('transaction_timeout', true) IS DISTINCT FROM '0' THEN
        RETURN;
    END IF;
    PERFORM set_config('transaction_timeout', v_seconds || 's', true);
    PERFORM FROM etl._source_schema LIMIT 1;
    PERFORM set_config('transaction_timeout', '0', true);
END
$_reach_source$;

-- A source that cannot be reached is reported, and raises no error (but 25P04, as etl._reach_source). problem says why not; clock_difference is the
-- source's clock minus the clock of this server; round_trip is the duration of one query. open_transactions counts transactions of the source
-- database that are older than p_older_than. They block nothing: their rows come with the batch after their end. hidden_sessions counts sessions
-- whose transactions the role may not see.
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
    SELECT r_connection.location, r_connection.host, r_connection.port, r_connection.database_name, r_connection.user_name, r_connection.remote_schema
    INTO location, host, port, database_name, user_name, remote_schema;
    IF location = 'remote' THEN
        v_activity := 'etl._source_activity';
        v_setting := 'etl._source_setting';
    END IF;
    BEGIN
        -- The second query is timed: the first one connects.
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
COMMENT ON FUNCTION etl.source_status(interval) IS 'State of the source: where it is, whether it answers, its version, clock and open transactions.';
