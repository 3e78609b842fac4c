-- Who works on a run, and who may begin something that must not go on beside one.
--
-- Any login can take any advisory lock and see in pg_locks which are taken. So nothing waits for an advisory lock here, and none is proof by
-- itself. What excludes others is a lock on a row that only the engine's roles can lock. Row locks end with their transaction; that a worker is
-- alive, from one transaction to the next, is told by a session lock under a random key of its own, which it holds before anybody can know the
-- key. It counts only for the process that noted it, and only where that process's login may work on runs (etl._enlist).

-- The engine is not replaced under a live run: whoever installs it waits here, as a version before this one knows how to.
DO $await_no_run$
BEGIN
    IF to_regprocedure('etl._await_no_run()') IS NOT NULL THEN
        PERFORM etl._await_no_run();
    END IF;
END
$await_no_run$;

/*
Whether a worker is alive: another session than this one, at work, and with the rights of the engine. A session whose CALL was cancelled keeps
its lock but is idle. What a session does may be hidden from the caller (track_activities, another role): then it counts as at work.
Parameters: p_pid, p_lock_key, of etl.worker.
*/
CREATE OR REPLACE FUNCTION etl._is_live(p_pid integer, p_lock_key bigint)
RETURNS boolean
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_is_live$
    SELECT EXISTS (
        SELECT
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a USING (pid)
        WHERE l.pid = p_pid
            AND l.pid <> pg_backend_pid()
            AND l.locktype = 'advisory'
            AND l.granted
            AND l.mode = 'ExclusiveLock'
            AND l.objsubid = 1
            AND l.database = a.datid
            AND a.datname = current_database()
            AND ((l.classid::bigint << 32) | l.objid::bigint) = p_lock_key
            AND coalesce(a.state, '') NOT LIKE 'idle%'
            AND EXISTS (
                SELECT
                FROM pg_roles AS r
                CROSS JOIN pg_proc AS p
                WHERE p.pronamespace = 'etl'::regnamespace
                    AND p.proname = '_enlist'
                    AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
                    AND pg_has_role(a.usesysid, r.oid, 'MEMBER')
            )
    )
$_is_live$;
COMMENT ON FUNCTION etl._is_live(integer, bigint) IS 'Whether a worker is alive: another session, at work, that holds the lock under this key.';

CREATE OR REPLACE FUNCTION etl._live_run()
RETURNS bigint
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_live_run$
    SELECT r.run_id
    FROM etl.run AS r
    WHERE r.status = 'running'
        AND EXISTS (SELECT FROM etl.worker AS w WHERE w.run_id = r.run_id AND etl._is_live(w.pid, w.lock_key))
$_live_run$;
COMMENT ON FUNCTION etl._live_run() IS 'The run that another session works on; NULL where there is none.';

/*
Names sessions for whoever has to wait for them.
Parameters: p_pids, their process ids.
Returns:    a sentence; NULL where none of them is there any more.
*/
CREATE OR REPLACE FUNCTION etl._describe_sessions(p_pids integer[])
RETURNS text
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_describe_sessions$
    SELECT 'Held by ' || string_agg(
        format(
            'process id %s (role "%s", application "%s"%s)',
            a.pid, a.usename, a.application_name, ', in this transaction since ' || date_trunc('second', a.xact_start)
        ),
        ', ' ORDER BY a.pid
    ) || '.'
    FROM pg_stat_activity AS a
    WHERE a.pid = ANY (p_pids)
$_describe_sessions$;
COMMENT ON FUNCTION etl._describe_sessions(integer[]) IS 'Names sessions, with role and application, for whoever has to wait for them.';

/*
Keeps others from starting a run, migrating, repairing or forgetting until the transaction ends. Workers may still join a run that is live.
Errors: ET060 when another session keeps it for 15 seconds, or for the time that the setting wait_limit allows, with its process id, role and
        application.
Locks:  the row of etl.run_control. It is asked for again and again: who waits in an exception block would hold it by a subtransaction, which
        tells nobody whose it is.
*/
CREATE OR REPLACE FUNCTION etl._lock_start()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_lock_start$
DECLARE
    v_until timestamptz := clock_timestamp() + least(etl.get_setting('wait_limit')::interval, '15 seconds');
    v_holders integer[];
BEGIN
    LOOP
        PERFORM
        FROM etl.run_control
        FOR UPDATE SKIP LOCKED;
        EXIT WHEN FOUND;
        IF clock_timestamp() > v_until THEN
            v_holders := ARRAY(
                SELECT l.pid
                FROM etl.run_control AS c
                JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid::text = c.xmax::text
            );
            RAISE EXCEPTION 'another session is starting a run, or migrates, repairs or forgets'
                USING ERRCODE = 'ET060',
                    DETAIL = coalesce(etl._describe_sessions(v_holders), 'It has ended just now.'),
                    HINT = format('Wait until it has ended%s.', coalesce(format(', or end it: SELECT pg_terminate_backend(%s)', v_holders[1]), ''));
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$_lock_start$;
COMMENT ON FUNCTION etl._lock_start() IS 'Keeps others from starting a run, migrating, repairing or forgetting until the transaction ends; error ET060 names who does.';

/*
Raises ET001: a run is live. Its hint is the caller's, its detail names the workers.
Parameters: p_run_id, the run; p_hint, what to do.
*/
CREATE OR REPLACE FUNCTION etl._refuse_beside_run(p_run_id bigint, p_hint text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_beside_run$
BEGIN
    RAISE EXCEPTION 'run % is at work since %', p_run_id, (SELECT date_trunc('second', r.started_at) FROM etl.run AS r WHERE r.run_id = p_run_id)
        USING ERRCODE = 'ET001',
            DETAIL = coalesce(etl._describe_sessions(ARRAY(SELECT w.pid FROM etl.worker AS w WHERE w.run_id = p_run_id)), ''),
            HINT = p_hint;
END
$_refuse_beside_run$;
COMMENT ON FUNCTION etl._refuse_beside_run(bigint, text) IS 'Raises ET001: a run is live, with its workers.';

/*
Waits until no run is live, and keeps new ones from starting until the transaction ends. The transaction must be READ COMMITTED.
Errors: ET001 when a run is still live after the time that the setting wait_limit allows, ET060 as etl._lock_start.
Locks:  as etl._lock_start.
*/
CREATE OR REPLACE FUNCTION etl._await_no_run()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_await_no_run$
DECLARE
    v_until timestamptz := clock_timestamp() + etl.get_setting('wait_limit')::interval;
    v_run_id bigint;
BEGIN
    PERFORM etl._lock_start();
    LOOP
        v_run_id := etl._live_run();
        EXIT WHEN v_run_id IS NULL;
        IF clock_timestamp() > v_until THEN
            PERFORM etl._refuse_beside_run(v_run_id, 'Try again when it has ended, or raise the setting wait_limit.');
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$_await_no_run$;
COMMENT ON FUNCTION etl._await_no_run() IS 'Waits until no run is live, and keeps new ones from starting until the transaction ends; error ET001 when that takes too long.';
