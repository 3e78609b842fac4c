-- Runs on a schedule, by pg_cron: one job per worker, all due at the same time.
--
-- The first job starts the run, the others join it. So no worker waits for a run that has not begun, and none is left out because it came too
-- early. The lock on the start of runs orders them.
--   * A start that finds another run running ends at once, successfully.
--   * pg_cron makes up for missed starts, one after the other without a pause. One run replaces them all: a start ends if the schedule has
--     started a run less than half an interval ago.
-- etl.scheduled_start records every start. etl.run records the outcome of its run; cron.job_run_details only knows whether a statement returned.
--
-- pg_cron lives in one database of a server, cron.database_name. If that is another database, the statements of etl.schedule_statements and
-- etl.unschedule_statement are executed there; the command line does so.

-- Time zone of pg_cron's schedules: cron.timezone, GMT by default.
CREATE OR REPLACE FUNCTION etl._cron_time_zone()
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cron_time_zone$
BEGIN
    RETURN coalesce(nullif(current_setting('cron.timezone', true), ''), 'GMT');
EXCEPTION
    WHEN insufficient_privilege THEN
        RETURN 'GMT';
END
$_cron_time_zone$;

-- Whether a schedule is one run per day: then it follows the day of the business.
CREATE OR REPLACE FUNCTION etl._is_daily(p_every text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_is_daily$
    SELECT p_every !~ '[*/,]' AND trim(p_every) !~ '^(\S+\s+){4}\S+$' AND p_every::interval = interval '1 day'
$_is_daily$;

-- Translates an interval, such as 5 minutes, or a cron expression of five fields for pg_cron (ET014: cron has no such schedule). A cron expression,
-- and every interval but 1 day, means the time zone of pg_cron. 1 day means the day of the business (setting time_zone). pg_cron knows no time zone
-- but its own, so the jobs come every hour, at the minute at which that day begins, and the first one of a day starts the run (etl._scheduled_start).
-- This respects daylight saving, and a server that was down at midnight runs later.
CREATE OR REPLACE FUNCTION etl._cron_schedule(p_every text, p_cron_version text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cron_schedule$
DECLARE
    v_seconds numeric;
    v_schedule text;
    v_hint text := 'Write whole minutes that divide an hour (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30), whole hours that divide a day '
        || '(1, 2, 3, 4, 6, 8, 12), 1 day, or a cron expression of five fields.';
BEGIN
    IF trim(p_every) ~ '^(\S+\s+){4}\S+$' THEN
        RETURN trim(p_every);
    END IF;
    BEGIN
        v_seconds := extract(epoch FROM p_every::interval);
    EXCEPTION
        WHEN invalid_datetime_format OR datetime_field_overflow OR interval_field_overflow THEN
            RAISE EXCEPTION '"%" is neither an interval nor a cron expression', p_every
                USING ERRCODE = 'ET014', HINT = v_hint;
    END;
    IF v_seconds BETWEEN 1 AND 59
        AND v_seconds = trunc(v_seconds)
        AND string_to_array(regexp_replace(p_cron_version, '[^0-9.].*$', ''), '.')::integer[] < '{1,5}'
    THEN
        RAISE EXCEPTION 'pg_cron % has no schedule for every %', p_cron_version, p_every
            USING ERRCODE = 'ET014', DETAIL = 'Seconds are understood from pg_cron 1.5 on.', HINT = v_hint;
    END IF;
    v_schedule := CASE
        WHEN v_seconds BETWEEN 1 AND 59 AND v_seconds = trunc(v_seconds) THEN format('%s seconds', trunc(v_seconds))
        WHEN v_seconds = 60 THEN '* * * * *'
        WHEN v_seconds > 0 AND v_seconds < 3600 AND v_seconds % 60 = 0 AND 3600 % v_seconds = 0 THEN format('*/%s * * * *', trunc(v_seconds / 60))
        WHEN v_seconds = 3600 THEN '0 * * * *'
        WHEN v_seconds > 0 AND v_seconds < 86400 AND v_seconds % 3600 = 0 AND 86400 % v_seconds = 0 THEN format('0 */%s * * *', trunc(v_seconds / 3600))
        WHEN v_seconds = 86400 THEN format(
            '%s * * * *',
            extract(minute FROM date_trunc('day', now(), etl.get_setting('time_zone')) AT TIME ZONE etl._cron_time_zone())
        )
    END;
    IF v_schedule IS NULL THEN
        RAISE EXCEPTION 'cron has no schedule for every %', p_every
            USING ERRCODE = 'ET014', HINT = v_hint;
    END IF;
    RETURN v_schedule;
END
$_cron_schedule$;

-- Database and version of pg_cron on this server. ET012: the server does not have it, or has not loaded it, or its extension is missing in this
-- database, where it belongs. ET018: this role may not use it; the hint has the statements that let it.
CREATE OR REPLACE FUNCTION etl._find_cron()
RETURNS TABLE (cron_database name, cron_version text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_cron$
DECLARE
    v_installed text;
    v_is_hidden boolean := false;
    v_set_up text := format(
        'set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', restart the server, then CREATE EXTENSION pg_cron.',
        current_database()
    );
    v_package text := format('postgresql-%s-cron', current_setting('server_version_num')::integer / 10000);
BEGIN
    BEGIN
        cron_database := current_setting('cron.database_name', true);
    EXCEPTION
        WHEN insufficient_privilege THEN
            -- Only superusers and pg_read_all_settings may read it. If the extension is in this database, that is the one.
            cron_database := (SELECT current_database() FROM pg_extension AS e WHERE e.extname = 'pg_cron');
            v_is_hidden := cron_database IS NULL;
    END;
    SELECT e.installed_version, coalesce(e.installed_version, e.default_version)
    INTO v_installed, cron_version
    FROM pg_available_extensions AS e
    WHERE e.name = 'pg_cron';

    IF cron_version IS NULL THEN
        RAISE EXCEPTION 'this server does not have pg_cron'
            USING ERRCODE = 'ET012', HINT = format('Install its package (%s on Debian and Ubuntu), %s', v_package, v_set_up);
    ELSIF v_is_hidden THEN
        RAISE EXCEPTION 'permission denied to read setting "cron.database_name"'
            USING ERRCODE = 'ET018', HINT = format('Let a superuser do: GRANT pg_read_all_settings TO %I;', current_user);
    ELSIF cron_database IS NULL THEN
        RAISE EXCEPTION 'this server has not loaded pg_cron'
            USING ERRCODE = 'ET012', HINT = format('Its package (%s) is installed. Now %s', v_package, v_set_up);
    ELSIF cron_database = current_database() AND v_installed IS NULL THEN
        RAISE EXCEPTION 'pg_cron is loaded, but does not exist in database "%"', cron_database
            USING ERRCODE = 'ET012', HINT = 'CREATE EXTENSION pg_cron;';
    ELSIF cron_database = current_database() AND NOT (
        SELECT has_schema_privilege(n.oid, 'USAGE') AND coalesce(bool_and(has_function_privilege(p.oid, 'EXECUTE')), true)
        FROM pg_namespace AS n
        LEFT JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = 'schedule_in_database'
        WHERE n.nspname = 'cron'
        GROUP BY n.oid
    ) THEN
        RAISE EXCEPTION 'role "%" may not schedule jobs of pg_cron', current_user
            USING ERRCODE = 'ET018',
                HINT = format(
                    'Let a superuser do, in database "%1$s": GRANT USAGE ON SCHEMA cron TO %2$I; GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO %2$I;',
                    current_database(), current_user
                );
    END IF;
    RETURN NEXT;
END
$_find_cron$;

-- They change existing jobs in place. p_every is an interval or a cron expression, p_workers the number of jobs that share each run. ET012, ET018 as
-- etl._find_cron; ET014: cron has no such schedule, or the number of workers is not 1 to 64.
CREATE OR REPLACE FUNCTION etl.schedule_statements(p_every text, p_workers integer DEFAULT 1)
RETURNS TABLE (cron_database name, cron_schedule text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $schedule_statements$
DECLARE
    v_version text;
    v_gap interval;
BEGIN
    IF p_workers IS NULL OR p_workers NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'a schedule needs 1 to 64 workers, not %', coalesce(p_workers::text, 'NULL')
            USING ERRCODE = 'ET014';
    END IF;
    SELECT c.cron_database, c.cron_version
    INTO cron_database, v_version
    FROM etl._find_cron() AS c;
    cron_schedule := etl._cron_schedule(p_every, v_version);
    -- Starts closer than this count as one: half an interval; for a cron expression, half of a minute, its finest step.
    v_gap := CASE WHEN etl._is_daily(p_every) OR cron_schedule = trim(p_every) AND cron_schedule !~ 'seconds' THEN interval '30 seconds' ELSE p_every::interval / 2 END;

    RETURN QUERY
    SELECT
        schedule_statements.cron_database,
        schedule_statements.cron_schedule,
        format(
            'SELECT cron.schedule_in_database(%L, %L, %L, %L)',
            format('etl %s worker %s', current_database(), n.number), schedule_statements.cron_schedule,
            format('CALL etl.scheduled_run(%s, %L%s)', n.number, v_gap, CASE WHEN etl._is_daily(p_every) THEN ', true' ELSE '' END),
            current_database()
        )
    FROM generate_series(1, p_workers) AS n (number)
    ORDER BY n.number;
    -- Jobs of a schedule that had more workers.
    statement := format(
        'SELECT cron.unschedule(j.jobid) FROM cron.job AS j WHERE starts_with(j.jobname, %L) AND substring(j.jobname FROM ''[0-9]+$'')::integer > %s',
        format('etl %s worker ', current_database()), p_workers
    );
    RETURN NEXT;
    -- The history of a job belongs to the role that installs the schedule, which the engine's own maintenance does not run as.
    statement := format(
        'SELECT cron.schedule(%L, ''17 3 * * *'', %L)',
        format('etl %s prune', current_database()),
        format(
            'DELETE FROM cron.job_run_details AS d USING cron.job AS j WHERE j.jobid = d.jobid AND starts_with(j.jobname, %L) AND d.end_time < now() - interval %L',
            format('etl %s ', current_database()), etl.get_setting('runs_kept')
        )
    );
    RETURN NEXT;
END
$schedule_statements$;
COMMENT ON FUNCTION etl.schedule_statements(text, integer) IS 'Statements that install the schedule, to be executed in the database of pg_cron.';

CREATE OR REPLACE FUNCTION etl.unschedule_statement()
RETURNS TABLE (cron_database name, statement text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $unschedule_statement$
    SELECT c.cron_database, format('SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j WHERE starts_with(j.jobname, %L)', format('etl %s ', current_database()))
    FROM etl._find_cron() AS c
$unschedule_statement$;
COMMENT ON FUNCTION etl.unschedule_statement() IS 'Statement that removes the jobs of the schedule and returns their number, to be executed in the database of pg_cron.';

-- p_is_executed says that the statements of etl.schedule_statements, which has the other parameters, have been executed already, in another database.
-- Writes jobs of pg_cron, etl.schedule. Errors as etl.schedule_statements; ET013: pg_cron lives in another database, and the detail has the
-- statements.
CREATE OR REPLACE FUNCTION etl.schedule_install(p_every text, p_workers integer DEFAULT 1, p_is_executed boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $schedule_install$
DECLARE
    r_statement record;
BEGIN
    FOR r_statement IN
        SELECT *
        FROM etl.schedule_statements(p_every, p_workers)
    LOOP
        CONTINUE WHEN p_is_executed;
        IF r_statement.cron_database <> current_database() THEN
            RAISE EXCEPTION 'pg_cron lives in database "%", not in "%"', r_statement.cron_database, current_database()
                USING ERRCODE = 'ET013',
                    DETAIL = (SELECT string_agg(s.statement || ';', E'\n') FROM etl.schedule_statements(p_every, p_workers) AS s),
                    HINT = format('Execute the statements of the detail in database "%s", or run: oceanrecords schedule install.', r_statement.cron_database);
        END IF;
        EXECUTE r_statement.statement;
    END LOOP;
    INSERT INTO etl.schedule AS s (every, cron_schedule, workers, cron_database, time_zone)
    VALUES (
        p_every, r_statement.cron_schedule, p_workers, r_statement.cron_database,
        CASE WHEN etl._is_daily(p_every) THEN etl.get_setting('time_zone') ELSE etl._cron_time_zone() END
    )
    ON CONFLICT (is_only) DO UPDATE
    SET every = excluded.every,
        cron_schedule = excluded.cron_schedule,
        workers = excluded.workers,
        cron_database = excluded.cron_database,
        time_zone = excluded.time_zone,
        installed_at = excluded.installed_at;
    RETURN r_statement.cron_schedule;
END
$schedule_install$;
COMMENT ON FUNCTION etl.schedule_install(text, integer, boolean) IS 'Installs the schedule, or changes the existing one; returns it as pg_cron understands it.';

-- A live run goes on. Parameter, tables and errors as of etl.schedule_install.
CREATE OR REPLACE FUNCTION etl.schedule_remove(p_is_executed boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $schedule_remove$
DECLARE
    r_statement record;
    v_jobs bigint := 0;
BEGIN
    SELECT *
    INTO r_statement
    FROM etl.unschedule_statement();
    IF NOT p_is_executed AND r_statement.cron_database <> current_database() THEN
        RAISE EXCEPTION 'pg_cron lives in database "%", not in "%"', r_statement.cron_database, current_database()
            USING ERRCODE = 'ET013',
                DETAIL = r_statement.statement || ';',
                HINT = format('Execute the statement of the detail in database "%s", or run: oceanrecords schedule remove.', r_statement.cron_database);
    ELSIF NOT p_is_executed THEN
        EXECUTE r_statement.statement INTO v_jobs;
    END IF;
    DELETE FROM etl.schedule;
    RETURN v_jobs;
END
$schedule_remove$;
COMMENT ON FUNCTION etl.schedule_remove(boolean) IS 'Removes the schedule; returns the number of jobs removed.';

-- p_worker is the number of the job. Starts closer than p_gap count as one. If p_is_daily, one start per day of the business is enough: further ones
-- end without a record. Writes etl.scheduled_start, and what a run writes. ET015: no run was started; those of etl.work. A live run (ET001) is no
-- error.
CREATE OR REPLACE PROCEDURE etl.scheduled_run(p_worker integer DEFAULT 1, p_gap interval DEFAULT '30 seconds', p_is_daily boolean DEFAULT false)
LANGUAGE plpgsql
AS $scheduled_run$
DECLARE
    r_start etl.scheduled_start;
BEGIN
    r_start := etl._scheduled_start(p_worker, p_gap, p_is_daily);
    COMMIT;
    CASE r_start.outcome
        WHEN 'started', 'joined' THEN
            CALL etl.work(r_start.run_id);
        WHEN 'failed' THEN
            RAISE EXCEPTION 'no run was started: %', r_start.message
                USING ERRCODE = 'ET015', HINT = 'To see every start, run: oceanrecords schedule history.';
        ELSE
            NULL;
    END CASE;
END
$scheduled_run$;
COMMENT ON PROCEDURE etl.scheduled_run(integer, interval, boolean) IS 'The statement of the schedule''s jobs: starts a run or joins the one that another job has just started, and executes it.';

-- Decides what a scheduled start does, and records it; returns the record.
CREATE OR REPLACE FUNCTION etl._scheduled_start(p_worker integer, p_gap interval, p_is_daily boolean)
RETURNS etl.scheduled_start
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_scheduled_start$
DECLARE
    r_start etl.scheduled_start;
    r_last etl.scheduled_start;
    v_running bigint;
    v_today timestamptz := date_trunc('day', now(), etl.get_setting('time_zone'));
BEGIN
    -- From here on, jobs that are due at the same time follow one another.
    BEGIN
        PERFORM etl._lock_start();
    EXCEPTION
        WHEN SQLSTATE 'ET060' THEN
            INSERT INTO etl.scheduled_start (worker, outcome, message)
            VALUES (p_worker, 'left', 'left: ' || SQLERRM)
            RETURNING * INTO r_start;
            RETURN r_start;
    END;
    SELECT r.run_id
    INTO v_running
    FROM etl.run AS r
    WHERE r.status = 'running';
    SELECT s.*
    INTO r_last
    FROM etl.scheduled_start AS s
    WHERE s.outcome = 'started'
    ORDER BY s.start_id DESC
    LIMIT 1;

    IF r_last.fired_at > clock_timestamp() - p_gap THEN
        r_start.run_id := r_last.run_id;
        IF v_running = r_last.run_id THEN
            r_start.outcome := 'joined';
            r_start.message := format('joined run %s', r_last.run_id);
        ELSE
            r_start.outcome := 'left';
            r_start.message := format('left: run %s of the same start has ended', r_last.run_id);
        END IF;
    ELSIF p_is_daily AND greatest(r_last.fired_at, (SELECT s.installed_at FROM etl.schedule AS s)) >= v_today THEN
        RETURN r_start;
    ELSE
        BEGIN
            r_start.run_id := etl.start_run(p_origin => 'pg_cron');
            r_start.outcome := 'started';
            r_start.message := CASE
                WHEN r_start.run_id = v_running THEN format('resumed run %s, which had been interrupted', r_start.run_id)
                ELSE format('started run %s', r_start.run_id)
            END;
        EXCEPTION
            WHEN SQLSTATE 'ET001' THEN
                r_start.run_id := v_running;
                r_start.outcome := 'left';
                r_start.message := format('left: run %s was running', v_running);
            WHEN OTHERS THEN
                r_start.run_id := NULL;
                r_start.outcome := 'failed';
                r_start.message := format('%s (%s)', SQLERRM, SQLSTATE);
        END;
    END IF;
    INSERT INTO etl.scheduled_start (worker, outcome, run_id, message)
    VALUES (p_worker, r_start.outcome, r_start.run_id, r_start.message)
    RETURNING * INTO r_start;
    RETURN r_start;
END
$_scheduled_start$;

-- The jobs of the schedule, each with the last failure that pg_cron recorded, such as a refused connection. None if
-- pg_cron lives in another database, or this role may not look into it.
CREATE OR REPLACE FUNCTION etl._cron_jobs()
RETURNS TABLE (job_id bigint, job_name text, schedule text, command text, username text, is_active boolean, last_error text, last_error_at timestamptz)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cron_jobs$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_namespace AS n
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'job'
        WHERE n.nspname = 'cron'
            AND has_schema_privilege(n.oid, 'USAGE')
    ) THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE
        $sql$SELECT j.jobid, j.jobname::text, j.schedule, j.command, j.username, j.active, d.return_message, d.start_time
FROM cron.job AS j
LEFT JOIN LATERAL (
    SELECT r.return_message, r.start_time
    FROM cron.job_run_details AS r
    WHERE r.jobid = j.jobid
        AND r.status = 'failed'
    ORDER BY r.runid DESC
    LIMIT 1
) AS d ON true
WHERE starts_with(j.jobname, format('etl %s ', current_database()))$sql$;
END
$_cron_jobs$;

CREATE OR REPLACE VIEW etl.schedule_status AS
SELECT
    n.worker,
    s.every,
    s.cron_schedule,
    s.cron_database,
    s.installed_at,
    j.job_id,
    j.command,
    j.username,
    j.is_active,
    l.fired_at AS last_fired_at,
    l.outcome AS last_outcome,
    l.message AS last_message,
    j.last_error AS cron_error,
    j.last_error_at AS cron_error_at,
    s.time_zone
FROM etl.schedule AS s
CROSS JOIN LATERAL generate_series(1, s.workers) AS n (worker)
LEFT JOIN etl._cron_jobs() AS j ON j.job_name = format('etl %s worker %s', current_database(), n.worker)
LEFT JOIN LATERAL (
    SELECT t.fired_at, t.outcome, t.message
    FROM etl.scheduled_start AS t
    WHERE t.worker = n.worker
    ORDER BY t.start_id DESC
    LIMIT 1
) AS l ON true;
COMMENT ON VIEW etl.schedule_status IS 'The schedule, one row per job.';
COMMENT ON COLUMN etl.schedule_status.job_id IS 'Job of pg_cron; NULL if pg_cron lives in another database, or the job was removed.';
COMMENT ON COLUMN etl.schedule_status.command IS 'Statement of the job.';
COMMENT ON COLUMN etl.schedule_status.username IS 'Role that executes it.';
COMMENT ON COLUMN etl.schedule_status.is_active IS 'Whether pg_cron executes it.';
COMMENT ON COLUMN etl.schedule_status.last_fired_at IS 'Last start.';
COMMENT ON COLUMN etl.schedule_status.last_outcome IS 'Its outcome: started, joined, left or failed.';
COMMENT ON COLUMN etl.schedule_status.last_message IS 'The same in words.';
COMMENT ON COLUMN etl.schedule_status.cron_error IS 'Last failure that pg_cron recorded.';
COMMENT ON COLUMN etl.schedule_status.cron_error_at IS 'When that was.';

CREATE OR REPLACE VIEW etl.schedule_history AS
SELECT
    s.start_id,
    s.fired_at,
    s.worker,
    s.outcome,
    s.message,
    s.run_id,
    r.status AS run_status,
    r.seconds AS run_seconds,
    r.rows_written
FROM etl.scheduled_start AS s
LEFT JOIN etl.run_status AS r USING (run_id);
COMMENT ON VIEW etl.schedule_history IS 'Every start of the scheduler, with the outcome of its run.';
COMMENT ON COLUMN etl.schedule_history.run_id IS 'Run that it started, joined or found.';
COMMENT ON COLUMN etl.schedule_history.run_status IS 'Status of that run.';
COMMENT ON COLUMN etl.schedule_history.run_seconds IS 'Duration of the run in seconds.';
