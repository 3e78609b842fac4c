-- Which workers of a run are alive, and which sessions may start something that excludes runs.
--
-- Any login can take any advisory lock and can read in pg_locks which are taken. So nothing here waits for an advisory lock, and none is proof
-- by itself. Mutual exclusion rests on a lock on a row that only the engine's roles can lock. Row locks end with their transaction. Liveness
-- must outlast a transaction: each worker holds a session lock under a random key that it takes before it publishes the key in etl.worker. The
-- lock counts only for the process that registered it, and only if the login of that process may execute etl._enlist().

-- A new version of the engine is not installed under a live run. The routine of the version before waits for its end.
DO $await_no_run$
BEGIN
    IF to_regprocedure('etl.await_no_run()') IS NOT NULL THEN
        PERFORM etl.await_no_run();
    END IF;
END
$await_no_run$;

-- Whether another session with this process id is active, holds the lock of etl.worker and has the engine's privileges. A session whose CALL was
-- cancelled still holds its lock but is idle. A session whose state the caller may not see counts as active.
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

-- The run that a worker in another session executes; NULL if there is none.
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

CREATE OR REPLACE FUNCTION etl.describe_sessions(p_pids integer[])
RETURNS text
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $describe_sessions$
    SELECT 'Held by ' || string_agg(
        format(
            'process id %s (role "%s", application "%s"%s)',
            a.pid, a.usename, a.application_name, ', in this transaction since ' || date_trunc('second', a.xact_start)
        ),
        ', ' ORDER BY a.pid
    ) || '.'
    FROM pg_stat_activity AS a
    WHERE a.pid = ANY (p_pids)
$describe_sessions$;
COMMENT ON FUNCTION etl.describe_sessions(integer[]) IS 'Sentence that names sessions by process id, role and application; NULL if all of them have ended.';

-- After a lock timeout PostgreSQL no longer knows which session was in the way: these are the candidates.
CREATE OR REPLACE FUNCTION etl.lock_holders()
RETURNS integer[]
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $lock_holders$
    SELECT ARRAY(
        SELECT l.pid
        FROM pg_locks AS l
        JOIN pg_class AS c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'f')
        WHERE l.locktype = 'relation'
            AND l.granted
            AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND c.relnamespace <> 'pg_catalog'::regnamespace
            AND l.pid <> pg_backend_pid()
            AND NOT EXISTS (SELECT FROM etl.worker AS w WHERE w.pid = l.pid)
        GROUP BY l.pid
        ORDER BY
            min(array_position(
                '{AccessExclusiveLock,ExclusiveLock,ShareRowExclusiveLock,ShareLock,ShareUpdateExclusiveLock,RowExclusiveLock,RowShareLock}', l.mode
            )),
            l.pid
        LIMIT 3
    )
$lock_holders$;
COMMENT ON FUNCTION etl.lock_holders() IS 'Sessions, workers excepted, that hold locks on tables; the strongest lock first, three at most.';

-- Until the transaction ends, no statement waits longer for a lock than the setting wait_limit allows, or lock_timeout
-- if that is shorter.
CREATE OR REPLACE FUNCTION etl._limit_waits()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_limit_waits$
DECLARE
    v_limit interval := etl.get_setting('wait_limit')::interval;
    v_own interval := current_setting('lock_timeout')::interval;
BEGIN
    IF v_own = interval '0' OR v_own > v_limit THEN
        PERFORM set_config('lock_timeout', greatest(1, least(extract(epoch FROM v_limit) * 1000, 2147483647))::bigint::text, true);
    END IF;
END
$_limit_waits$;

-- Keeps other sessions from starting a run, migrating, repairing or forgetting until the transaction ends, by a lock on the row of etl.run_control.
-- Workers may still join a live run. ET060 if another session holds the lock for 15 seconds, or for the setting wait_limit if that is shorter. The
-- lock is polled: a waiter inside an exception block would get it in a subtransaction, whose id does not lead to the process.
CREATE OR REPLACE FUNCTION etl._lock_start()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_lock_start$
DECLARE
    v_until timestamptz := clock_timestamp() + least(etl.get_setting('wait_limit')::interval, '15 seconds');
    v_holders integer[];
BEGIN
    PERFORM etl._limit_waits();
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
                    DETAIL = coalesce(etl.describe_sessions(v_holders), 'It has just ended.'),
                    HINT = format('Wait until it has ended%s.', coalesce(format(', or end it: SELECT pg_terminate_backend(%s)', v_holders[1]), ''));
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$_lock_start$;

-- Raises ET001 if a run is live (p_run_id is not NULL). The detail names its workers, the hint is the caller's.
CREATE OR REPLACE FUNCTION etl._refuse_beside_run(p_run_id bigint, p_hint text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_beside_run$
BEGIN
    IF p_run_id IS NOT NULL THEN
        RAISE EXCEPTION 'run % is already running', p_run_id
            USING ERRCODE = 'ET001',
                DETAIL = concat_ws(
                    ' ',
                    (SELECT format('Started at %s.', date_trunc('second', r.started_at)) FROM etl.run AS r WHERE r.run_id = p_run_id),
                    etl.describe_sessions(ARRAY(SELECT w.pid FROM etl.worker AS w WHERE w.run_id = p_run_id))
                ),
                HINT = p_hint;
    END IF;
END
$_refuse_beside_run$;

-- Waits until no run is live (ET001 after the setting wait_limit), and keeps new ones from starting until the transaction ends (ET060). The
-- transaction must be READ COMMITTED.
CREATE OR REPLACE FUNCTION etl.await_no_run()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $await_no_run$
DECLARE
    v_until timestamptz := clock_timestamp() + etl.get_setting('wait_limit')::interval;
    v_run_id bigint;
    v_noticed bigint;
BEGIN
    PERFORM etl._lock_start();
    LOOP
        v_run_id := etl._live_run();
        EXIT WHEN v_run_id IS NULL;
        IF v_run_id IS DISTINCT FROM v_noticed THEN
            RAISE NOTICE 'waiting until run % ends', v_run_id;
            v_noticed := v_run_id;
        END IF;
        IF clock_timestamp() > v_until THEN
            PERFORM etl._refuse_beside_run(v_run_id, 'Try again when it has ended, or raise the setting wait_limit.');
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$await_no_run$;
COMMENT ON FUNCTION etl.await_no_run() IS 'Waits until no run is live, with a notice if it waits, and keeps new ones from starting until the transaction ends.';
