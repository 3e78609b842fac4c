-- Runs on a schedule, by pg_cron: as many jobs as there are workers, all of them alike and due at the same moment.
--
-- Whichever job comes first starts the run, the others join it. So no worker ever waits for a run that has not begun, and none is
-- left out because it came a moment too early. The lock on the start of runs puts them in line.
--   * A start that finds a run at work which is not this moment's leaves at once, successfully.
--   * pg_cron makes up for starts that fell due while a job was still at work, one after the other and without a pause. One is
--     as good as all of them: a start leaves when the schedule has started a run less than half an interval ago.
-- Every start is noted in etl.scheduled_start. What became of a run is told by etl.run; cron.job_run_details knows only whether
-- a statement returned.
--
-- pg_cron lives in one database of a server, cron.database_name. Where that is not this one, the statements to be executed there
-- are told by etl.schedule_statements; the command line executes them.

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
COMMENT ON FUNCTION etl._cron_time_zone() IS 'Time zone of pg_cron''s schedules: cron.timezone, GMT by default.';

CREATE OR REPLACE FUNCTION etl._is_daily(p_every text)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_is_daily$
    SELECT p_every !~ '[*/,]' AND trim(p_every) !~ '^(\S+\s+){4}\S+$' AND p_every::interval = interval '1 day'
$_is_daily$;
COMMENT ON FUNCTION etl._is_daily(text) IS 'Whether a schedule is one run a day: then it follows the day of the business.';

/*
An interval or cron expression as pg_cron understands it. A cron expression, and every interval but 1 day, means the time zone of pg_cron. 1 day
is the business's (setting time_zone): pg_cron knows no other time zone than its own, so the jobs come every hour, at the minute at which that
day begins, and the first one of a day starts the run (etl._scheduled_start). So daylight saving is heeded, and a server that was down at
midnight makes up for it.
Parameters: p_every, such as 5 minutes, 1 hour, 30 seconds, or a cron expression of five fields; p_cron_version, version of pg_cron.
Returns:    the schedule.
Errors:     ET014 when it cannot be expressed.
*/
CREATE OR REPLACE FUNCTION etl._cron_schedule(p_every text, p_cron_version text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cron_schedule$
DECLARE
    v_interval interval;
    v_seconds numeric;
    v_supported text := 'whole minutes that divide an hour (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30), whole hours that divide a day '
        || '(1, 2, 3, 4, 6, 8, 12), 1 day, or a cron expression of five fields';
BEGIN
    IF trim(p_every) ~ '^(\S+\s+){4}\S+$' THEN
        RETURN trim(p_every);
    END IF;
    BEGIN
        v_interval := p_every::interval;
    EXCEPTION
        WHEN invalid_datetime_format OR datetime_field_overflow OR interval_field_overflow THEN
            RAISE EXCEPTION '"%" is neither an interval nor a cron expression', p_every
                USING ERRCODE = 'ET014', HINT = format('Write %s.', v_supported);
    END;
    v_seconds := extract(epoch FROM v_interval);

    IF v_seconds BETWEEN 1 AND 59 AND v_seconds = trunc(v_seconds) THEN
        IF string_to_array(regexp_replace(p_cron_version, '[^0-9.].*$', ''), '.')::integer[] >= '{1,5}' THEN
            RETURN format('%s seconds', trunc(v_seconds));
        END IF;
        RAISE EXCEPTION 'pg_cron % cannot start anything every %', p_cron_version, p_every
            USING ERRCODE = 'ET014',
                DETAIL = 'Seconds are understood from pg_cron 1.5 on.',
                HINT = format('Write %s.', v_supported);
    END IF;
    RETURN CASE
        WHEN v_seconds = 60 THEN '* * * * *'
        WHEN v_seconds > 0 AND v_seconds < 3600 AND v_seconds % 60 = 0 AND 3600 % v_seconds = 0 THEN format('*/%s * * * *', trunc(v_seconds / 60))
        WHEN v_seconds = 3600 THEN '0 * * * *'
        WHEN v_seconds > 0 AND v_seconds < 86400 AND v_seconds % 3600 = 0 AND 86400 % v_seconds = 0 THEN format('0 */%s * * *', trunc(v_seconds / 3600))
        WHEN v_seconds = 86400 THEN format(
            '%s * * * *',
            extract(minute FROM date_trunc('day', now(), etl.get_setting('time_zone')) AT TIME ZONE etl._cron_time_zone())
        )
        ELSE etl._refuse_interval(p_every, v_supported)
    END;
END
$_cron_schedule$;
COMMENT ON FUNCTION etl._cron_schedule(text, text) IS 'An interval or cron expression as pg_cron understands it; error ET014 when it cannot be expressed.';

CREATE OR REPLACE FUNCTION etl._refuse_interval(p_every text, p_supported text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refuse_interval$
BEGIN
    RAISE EXCEPTION 'cron has no schedule for every %', p_every
        USING ERRCODE = 'ET014', HINT = format('Write %s.', p_supported);
END
$_refuse_interval$;
COMMENT ON FUNCTION etl._refuse_interval(text, text) IS 'Raises ET014: an interval that cron cannot express.';

/*
Refuses a role that may not schedule jobs, with the statements that let it. To be called in the database of pg_cron.
Errors: ET018.
*/
CREATE OR REPLACE FUNCTION etl._check_cron_rights()
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_cron_rights$
BEGIN
    IF NOT (
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
END
$_check_cron_rights$;
COMMENT ON FUNCTION etl._check_cron_rights() IS 'Refuses a role that may not schedule jobs, with the statements that let it (ET018).';

/*
Where pg_cron is on this server.
Returns:    its database and its version.
Errors:     ET012 when the server does not have it, or has not loaded it, or nobody has created it in this database, where it belongs;
            ET018 when this role may not use it.
*/
CREATE OR REPLACE FUNCTION etl._find_cron()
RETURNS TABLE (cron_database name, cron_version text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_cron$
DECLARE
    v_package text := format('postgresql-%s-cron', current_setting('server_version_num')::integer / 10000);
    v_installed text;
    v_is_hidden boolean := false;
BEGIN
    BEGIN
        cron_database := current_setting('cron.database_name', true);
    EXCEPTION
        WHEN insufficient_privilege THEN
            -- Only superusers and pg_read_all_settings may know; but where it is, it is.
            cron_database := (SELECT current_database() FROM pg_extension AS e WHERE e.extname = 'pg_cron');
            v_is_hidden := cron_database IS NULL;
    END;
    SELECT e.installed_version, coalesce(e.installed_version, e.default_version)
    INTO v_installed, cron_version
    FROM pg_available_extensions AS e
    WHERE e.name = 'pg_cron';

    IF cron_version IS NULL THEN
        RAISE EXCEPTION 'this server does not have pg_cron'
            USING ERRCODE = 'ET012',
                HINT = format(
                    'Install its package (%s on Debian and Ubuntu), set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', restart the server, then CREATE EXTENSION pg_cron.',
                    v_package, current_database()
                );
    ELSIF v_is_hidden THEN
        RAISE EXCEPTION 'role "%" may not know in which database pg_cron lives', current_user
            USING ERRCODE = 'ET018', HINT = format('Let a superuser do: GRANT pg_read_all_settings TO %I;', current_user);
    ELSIF cron_database IS NULL THEN
        RAISE EXCEPTION 'this server has not loaded pg_cron'
            USING ERRCODE = 'ET012',
                HINT = format(
                    'Its package (%s) is there. Set shared_preload_libraries = ''pg_cron'' and cron.database_name = ''%s'', restart the server, then CREATE EXTENSION pg_cron.',
                    v_package, current_database()
                );
    ELSIF cron_database = current_database() AND v_installed IS NULL THEN
        RAISE EXCEPTION 'pg_cron is loaded, but does not exist in database "%"', cron_database
            USING ERRCODE = 'ET012', HINT = 'CREATE EXTENSION pg_cron;';
    ELSIF cron_database = current_database() THEN
        PERFORM etl._check_cron_rights();
    END IF;
    RETURN NEXT;
END
$_find_cron$;
COMMENT ON FUNCTION etl._find_cron() IS 'Database and version of pg_cron on this server; error ET012 with what is missing.';

/*
Statements that install the schedule, to be executed in the database of pg_cron. They change jobs that are there in place.
Parameters: p_every, interval or cron expression; p_workers, number of jobs that share each run.
Returns:    the database and the statements, in their order.
Errors:     ET012 when pg_cron is missing, ET018 when this role may not use it, ET014 when the interval cannot be expressed or the
            number of workers makes no sense.
*/
CREATE OR REPLACE FUNCTION etl.schedule_statements(p_every text, p_workers integer DEFAULT 1)
RETURNS TABLE (cron_database name, cron_schedule text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $schedule_statements$
DECLARE
    r_cron record;
    v_job text;
    v_gap interval;
BEGIN
    IF p_workers IS NULL OR p_workers NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'a schedule needs 1 to 64 workers, not %', coalesce(p_workers::text, 'NULL')
            USING ERRCODE = 'ET014';
    END IF;
    SELECT *
    INTO r_cron
    FROM etl._find_cron();
    cron_database := r_cron.cron_database;
    cron_schedule := etl._cron_schedule(p_every, r_cron.cron_version);
    -- What counts as the same moment: half an interval, of a cron expression half of the minute that is its finest step.
    v_gap := CASE WHEN etl._is_daily(p_every) OR cron_schedule = trim(p_every) AND cron_schedule !~ 'seconds' THEN interval '30 seconds' ELSE p_every::interval / 2 END;

    FOR v_number IN 1..p_workers
    LOOP
        v_job := format('etl %s worker %s', current_database(), v_number);
        statement := format(
            'SELECT cron.schedule_in_database(%L, %L, %L, %L)',
            v_job, cron_schedule,
            format('CALL etl.scheduled_run(%s, %L%s)', v_number, v_gap, CASE WHEN etl._is_daily(p_every) THEN ', true' ELSE '' END),
            current_database()
        );
        RETURN NEXT;
    END LOOP;
    -- Jobs of a schedule that had more workers.
    statement := format(
        'SELECT cron.unschedule(j.jobid) FROM cron.job AS j WHERE j.jobname LIKE %L AND substring(j.jobname FROM ''[0-9]+$'')::integer > %s',
        etl._job_pattern() || 'worker %', p_workers
    );
    RETURN NEXT;
    -- The history of a job belongs to the role that installs the schedule, which the engine's own maintenance does not run as.
    statement := format(
        'SELECT cron.schedule(%L, ''17 3 * * *'', %L)',
        format('etl %s prune', current_database()),
        format(
            'DELETE FROM cron.job_run_details AS d USING cron.job AS j WHERE j.jobid = d.jobid AND j.jobname LIKE %L AND d.end_time < now() - interval %L',
            etl._job_pattern(), etl.get_setting('runs_kept')
        )
    );
    RETURN NEXT;
END
$schedule_statements$;
COMMENT ON FUNCTION etl.schedule_statements(text, integer) IS 'Statements that install the schedule, to be executed in the database of pg_cron.';

/*
Installs the schedule, or changes the one that is there.
Parameters: p_every, interval (5 minutes, 1 hour) or cron expression; p_workers, number of jobs that share each run.
Returns:    the schedule as pg_cron understands it.
Writes:     jobs of pg_cron, etl.schedule.
Errors:     ET012 when pg_cron is missing, ET013 with the statements when it lives in another database, ET014 when the interval cannot
            be expressed.
*/
CREATE OR REPLACE FUNCTION etl.schedule_install(p_every text, p_workers integer DEFAULT 1)
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
        IF r_statement.cron_database <> current_database() THEN
            RAISE EXCEPTION 'pg_cron lives in database "%", not in "%"', r_statement.cron_database, current_database()
                USING ERRCODE = 'ET013',
                    DETAIL = (SELECT string_agg(s.statement || ';', E'\n') FROM etl.schedule_statements(p_every, p_workers) AS s),
                    HINT = format('Execute the statements of the detail in database "%s", or let the command line do it: oceanrecords schedule install.', r_statement.cron_database);
        END IF;
        EXECUTE r_statement.statement;
    END LOOP;
    PERFORM etl._note_schedule(p_every, p_workers);
    RETURN r_statement.cron_schedule;
END
$schedule_install$;
COMMENT ON FUNCTION etl.schedule_install(text, integer) IS 'Installs the schedule, or changes the one that is there.';

/*
Notes that the statements of the schedule have been executed.
Parameters: as those of etl.schedule_install.
Writes:     etl.schedule.
*/
CREATE OR REPLACE FUNCTION etl._note_schedule(p_every text, p_workers integer)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_note_schedule$
    INSERT INTO etl.schedule AS s (every, cron_schedule, workers, cron_database, time_zone)
    SELECT p_every, t.cron_schedule, p_workers, t.cron_database, CASE WHEN etl._is_daily(p_every) THEN etl.get_setting('time_zone') ELSE etl._cron_time_zone() END
    FROM etl.schedule_statements(p_every, p_workers) AS t
    LIMIT 1
    ON CONFLICT (is_only) DO UPDATE
    SET every = excluded.every,
        cron_schedule = excluded.cron_schedule,
        workers = excluded.workers,
        cron_database = excluded.cron_database,
        time_zone = excluded.time_zone,
        installed_at = excluded.installed_at
$_note_schedule$;
COMMENT ON FUNCTION etl._note_schedule(text, integer) IS 'Notes that the statements of the schedule have been executed.';

/*
Removes the schedule. Runs that are at work go on.
Returns:    number of jobs removed.
Writes:     jobs of pg_cron, etl.schedule.
Errors:     ET012 when pg_cron is missing, ET013 with the statement when it lives in another database.
*/
CREATE OR REPLACE FUNCTION etl.schedule_remove()
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $schedule_remove$
DECLARE
    v_database name := (SELECT c.cron_database FROM etl._find_cron() AS c);
    v_jobs bigint;
BEGIN
    IF v_database <> current_database() THEN
        RAISE EXCEPTION 'pg_cron lives in database "%", not in "%"', v_database, current_database()
            USING ERRCODE = 'ET013',
                DETAIL = etl._removal_statement() || ';',
                HINT = format('Execute the statement of the detail in database "%s", or let the command line do it: oceanrecords schedule remove.', v_database);
    END IF;
    EXECUTE etl._removal_statement() INTO v_jobs;
    DELETE FROM etl.schedule;
    RETURN v_jobs;
END
$schedule_remove$;
COMMENT ON FUNCTION etl.schedule_remove() IS 'Removes the schedule; returns the number of jobs removed.';

CREATE OR REPLACE FUNCTION etl._removal_statement()
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_removal_statement$
    SELECT format('SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j WHERE j.jobname LIKE %L', etl._job_pattern())
$_removal_statement$;
COMMENT ON FUNCTION etl._removal_statement() IS 'Statement that removes the jobs, to be executed in the database of pg_cron.';

/*
What the jobs execute: starts a run and works on it, joins the run that another job has just started, or leaves.
Parameters: p_worker, which of the jobs this is; p_gap, starts less than this apart count as the same one; p_is_daily, whether one start a day
            of the business is enough: further ones leave without a trace.
Writes:     etl.scheduled_start, and what a run writes.
Errors:     those of etl.start_run and etl.work, but for ET001 (a run is live), at which it leaves successfully.
*/
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
                USING ERRCODE = 'ET015', HINT = 'SELECT * FROM etl.schedule_history shows every start.';
        ELSE
            NULL;
    END CASE;
END
$scheduled_run$;
COMMENT ON PROCEDURE etl.scheduled_run(integer, interval, boolean) IS 'What the jobs of the schedule execute: starts a run or joins the one that another job has just started, and works on it.';

/*
Decides what a scheduled start does, and notes it.
Parameters: as those of etl.scheduled_run.
Returns:    the noted start.
Writes:     etl.scheduled_start, and as etl.start_run.
*/
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
    -- The jobs of one moment come one after the other from here on.
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
            r_start.message := format('left: run %s of the same moment has ended', r_last.run_id);
        END IF;
    ELSIF p_is_daily AND greatest(r_last.fired_at, (SELECT s.installed_at FROM etl.schedule AS s)) >= v_today THEN
        RETURN r_start;
    ELSE
        BEGIN
            r_start.run_id := etl.start_run(p_origin => 'pg_cron');
            r_start.outcome := 'started';
            r_start.message := CASE
                WHEN r_start.run_id = v_running THEN format('took up run %s, which had been interrupted', r_start.run_id)
                ELSE format('started run %s', r_start.run_id)
            END;
        EXCEPTION
            WHEN SQLSTATE 'ET001' THEN
                r_start.run_id := v_running;
                r_start.outcome := 'left';
                r_start.message := format('left: run %s was at work', v_running);
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
COMMENT ON FUNCTION etl._scheduled_start(integer, interval, boolean) IS 'Decides what a scheduled start does, and notes it.';

/*
The jobs of the schedule, where pg_cron lives in this database; none where it lives in another one.
Returns:    jobs, with the last failure that pg_cron noted (such as a refused connection, of which the engine knows nothing).
*/
CREATE OR REPLACE FUNCTION etl._cron_jobs()
RETURNS TABLE (job_id bigint, job_name text, schedule text, command text, username text, is_active boolean, last_error text, last_error_at timestamptz)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_cron_jobs$
BEGIN
    IF NOT etl._may_see_cron() THEN
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
WHERE j.jobname LIKE $1$sql$
    USING etl._job_pattern();
END
$_cron_jobs$;
COMMENT ON FUNCTION etl._cron_jobs() IS 'The jobs of the schedule, where pg_cron lives in this database.';

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
COMMENT ON VIEW etl.schedule_status IS 'The schedule, one row a job.';
COMMENT ON COLUMN etl.schedule_status.worker IS 'Which of the jobs that share a run.';
COMMENT ON COLUMN etl.schedule_status.every IS 'Interval or cron expression as it was asked for.';
COMMENT ON COLUMN etl.schedule_status.cron_schedule IS 'The same as pg_cron understands it.';
COMMENT ON COLUMN etl.schedule_status.cron_database IS 'Database that pg_cron lives in.';
COMMENT ON COLUMN etl.schedule_status.installed_at IS 'When the schedule was installed or last changed.';
COMMENT ON COLUMN etl.schedule_status.job_id IS 'Job of pg_cron; NULL where that lives in another database, or the job is gone.';
COMMENT ON COLUMN etl.schedule_status.command IS 'What the job executes.';
COMMENT ON COLUMN etl.schedule_status.username IS 'Role that executes it.';
COMMENT ON COLUMN etl.schedule_status.is_active IS 'Whether pg_cron executes it.';
COMMENT ON COLUMN etl.schedule_status.last_fired_at IS 'Last start.';
COMMENT ON COLUMN etl.schedule_status.last_outcome IS 'What it did: started, joined, left, failed.';
COMMENT ON COLUMN etl.schedule_status.last_message IS 'The same in words.';
COMMENT ON COLUMN etl.schedule_status.cron_error IS 'Last failure that pg_cron noted.';
COMMENT ON COLUMN etl.schedule_status.cron_error_at IS 'When that was.';
COMMENT ON COLUMN etl.schedule_status.time_zone IS 'Time zone in which it fires.';

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
COMMENT ON VIEW etl.schedule_history IS 'Every start that the scheduler made, and what became of its run.';
COMMENT ON COLUMN etl.schedule_history.start_id IS 'Number of the start.';
COMMENT ON COLUMN etl.schedule_history.fired_at IS 'When it came.';
COMMENT ON COLUMN etl.schedule_history.worker IS 'Which of the jobs.';
COMMENT ON COLUMN etl.schedule_history.outcome IS 'started, joined, left, failed.';
COMMENT ON COLUMN etl.schedule_history.message IS 'The same in words, such as: left: run 17 was at work.';
COMMENT ON COLUMN etl.schedule_history.run_id IS 'Run that it started, joined or found.';
COMMENT ON COLUMN etl.schedule_history.run_status IS 'What became of that run.';
COMMENT ON COLUMN etl.schedule_history.run_seconds IS 'How long the run took, in seconds.';
COMMENT ON COLUMN etl.schedule_history.rows_written IS 'Rows that the run wrote to the stars.';
