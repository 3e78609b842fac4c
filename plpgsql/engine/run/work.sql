-- A worker: it claims one task after the other and executes each in one transaction, until the run ends.
--
-- etl.work commits, so it can have neither a SET clause nor SECURITY DEFINER: every name is qualified.

-- Ends a run if none of its tasks is left, and returns whether it has ended. It has succeeded if all tasks did and no row went to quarantine. Writes
-- etl.run; removes its workers from etl.worker.
CREATE OR REPLACE FUNCTION etl._end_run(p_run_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_end_run$
DECLARE
    r_run etl.run;
BEGIN
    IF EXISTS (SELECT FROM etl.task_run AS t WHERE t.run_id = p_run_id AND t.status IN ('pending', 'running')) THEN
        RETURN false;
    END IF;
    UPDATE etl.run AS r
    SET status = (
            SELECT CASE
                WHEN bool_and(t.status = 'succeeded') IS NOT FALSE
                    THEN CASE WHEN EXISTS (SELECT FROM etl._left_out(p_run_id)) THEN 'partial' ELSE 'succeeded' END
                -- If only checks were due, the warehouse was complete without any task.
                WHEN bool_or(t.status = 'succeeded') OR (r.only_tasks IS NULL AND bool_and(t.kind IN ('check', 'maintain'))) THEN 'partial'
                ELSE 'failed'
            END
            FROM etl.task_run AS t
            WHERE t.run_id = p_run_id
        ),
        ended_at = clock_timestamp()
    WHERE r.run_id = p_run_id
        AND r.status = 'running'
    RETURNING r.* INTO r_run;
    IF FOUND THEN
        -- This worker removes itself. The others have died, or are about to find no task left.
        DELETE FROM etl.worker AS w
        WHERE w.run_id = p_run_id
            AND w.pid <> pg_backend_pid();
        PERFORM pg_notify('etl_progress', jsonb_build_object(
            'run_id', p_run_id,
            'task', NULL,
            'status', r_run.status,
            'seconds', round(extract(epoch FROM r_run.ended_at - r_run.started_at), 3)
        )::text);
        PERFORM etl._alert_run(r_run);
    END IF;
    RETURN true;
END
$_end_run$;

-- Registers this session as a worker of a run, in etl.worker. It takes its lock before its row is visible, under a random key: a session that takes the
-- same key later neither blocks the worker nor counts as the worker (etl._is_live). What a cancelled CALL of this session left behind is removed.
CREATE OR REPLACE FUNCTION etl._enlist(p_run_id bigint)
RETURNS etl.worker
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_enlist$
DECLARE
    r_worker etl.worker;
    v_key bigint;
BEGIN
    PERFORM etl._discharge(w)
    FROM etl.worker AS w
    WHERE w.pid = pg_backend_pid();
    LOOP
        v_key := ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint;
        EXIT WHEN pg_try_advisory_lock(v_key);
    END LOOP;
    INSERT INTO etl.worker (run_id, pid, lock_key)
    VALUES (p_run_id, pg_backend_pid(), v_key)
    RETURNING * INTO r_worker;
    RETURN r_worker;
END
$_enlist$;

-- Removes a worker of this session, and releases its lock.
CREATE OR REPLACE FUNCTION etl._discharge(p_worker etl.worker)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_discharge$
BEGIN
    DELETE FROM etl.worker AS w
    WHERE w.worker_id = p_worker.worker_id;
    -- The row may be of an earlier session with the same process id, whose lock this one does not hold.
    PERFORM pg_advisory_unlock(p_worker.lock_key)
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
        AND l.pid = pg_backend_pid()
        AND l.objsubid = 1
        AND ((l.classid::bigint << 32) | l.objid::bigint) = p_worker.lock_key;
END
$_discharge$;

-- Begins a transaction of a worker that executes tasks, or none (NULL), and locks the rows of the tasks until it ends: workers without a ready task
-- wait for that (etl._await_progress). The settings of the session do not matter in it, no statement waits longer for a lock than the setting
-- wait_limit allows, and COMMIT does not wait for the disk. A crash may lose the last transactions, but never part of one: data and watermark are
-- lost together, and loaded again. If tables are distributed over nodes, COMMIT waits: otherwise a crash could lose the coordinator's part of a
-- transaction whose other parts the nodes have kept. A small batch then uses one connection to each node: more of them, and a savepoint in each, cost
-- more than they save.
CREATE OR REPLACE FUNCTION etl._begin_transaction(p_tasks etl.task_run[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_transaction$
BEGIN
    PERFORM etl._pin_session();
    PERFORM etl._limit_waits();
    IF NOT etl._is_distributed(NULL) THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF NOT EXISTS (SELECT FROM etl.load_state AS l WHERE l.needs_reload OR l.loaded_batch_id IS NULL)
        AND (SELECT sum(e.rows_extracted) FROM etl.extraction AS e WHERE e.batch_id = (SELECT max(b.batch_id) FROM etl.batch AS b)) < 10000
    THEN
        PERFORM set_config('citus.max_adaptive_executor_pool_size', '1', true);
    END IF;
    PERFORM
    FROM etl.task_run AS t
    JOIN unnest(p_tasks) AS c USING (run_id, task)
    FOR NO KEY UPDATE OF t;
END
$_begin_transaction$;

-- Waits for the row lock of a running task of the run: until it has ended or its worker has died, at most a second, as another task may end sooner.
-- COMMIT must follow.
CREATE OR REPLACE FUNCTION etl._await_progress(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $_await_progress$
DECLARE
    v_task text := (
        SELECT t.task
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.status = 'running'
        ORDER BY t.started_at
        LIMIT 1
    );
    v_is_held boolean := false;
BEGIN
    BEGIN
        PERFORM
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.task = v_task
        FOR SHARE NOWAIT;
    EXCEPTION
        WHEN lock_not_available THEN
            v_is_held := true;
    END;
    IF NOT v_is_held THEN
        -- Its worker is between two transactions, waits until the source answers again, or has died.
        PERFORM pg_sleep(0.01);
        RETURN;
    END IF;
    PERFORM
    FROM etl.task_run AS t
    WHERE t.run_id = p_run_id
        AND t.task = v_task
    FOR SHARE;
EXCEPTION
    WHEN lock_not_available THEN
        NULL;
END
$_await_progress$;

-- Any number of sessions may call it at once, each outside a transaction block; by default it works on the run that is running. ET006: no run is running;
-- 57014: the worker was cancelled; 55P03: a lock is not granted within the setting wait_limit.
CREATE OR REPLACE PROCEDURE etl.work(p_run_id bigint DEFAULT NULL)
LANGUAGE plpgsql
AS $work$
DECLARE
    v_run_id bigint := p_run_id;
    v_status text;
    r_worker etl.worker;
    v_tasks etl.task_run[];
    v_outcomes etl.task_run[];
    r_task etl.task_run;
    v_is_reading boolean;  -- from the source
    v_going_on boolean := true;
BEGIN
    -- Workers wait for each other and must then see what the others did, whatever the session's default is: each transaction begins with it.
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SELECT r.run_id, r.status
    INTO v_run_id, v_status
    FROM etl.run AS r
    WHERE CASE WHEN p_run_id IS NULL THEN r.status = 'running' ELSE r.run_id = p_run_id END;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no run to work on'
            USING ERRCODE = 'ET006', HINT = 'To start one: CALL etl.run().';
    ELSIF v_status <> 'running' THEN
        -- It had no task, or other workers have ended it.
        RETURN;
    END IF;
    r_worker := etl._enlist(v_run_id);
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;

    WHILE v_going_on LOOP
        PERFORM etl._begin_transaction(NULL);
        SELECT pg_catalog.array_agg(t)
        INTO v_tasks
        FROM etl._claim(v_run_id, r_worker.worker_id) AS t;
        IF v_tasks IS NULL THEN
            EXIT WHEN etl._end_run(v_run_id);
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            PERFORM etl._await_progress(v_run_id);
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
            CONTINUE;
        END IF;
        v_is_reading := v_tasks[1].kind = 'extract';
        IF v_is_reading THEN
            -- No statement may come between these two: even the evaluation of a condition takes a snapshot.
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
        ELSE
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        END IF;
        PERFORM etl._begin_transaction(v_tasks);
        FOREACH r_task IN ARRAY CASE WHEN v_is_reading THEN ARRAY(SELECT t FROM etl._complete_unchanged(v_tasks) AS t) ELSE v_tasks END
        LOOP
            v_going_on := etl._perform(r_task) AND v_going_on;
        END LOOP;
        IF v_is_reading THEN
            v_outcomes := etl._end_batch(v_tasks);
            IF v_outcomes IS NOT NULL THEN
                ROLLBACK;
                SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
                PERFORM etl._begin_transaction(NULL);
                PERFORM etl._note_outcomes(v_outcomes);
            END IF;
        END IF;
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    END LOOP;
    PERFORM etl._discharge(r_worker);
    COMMIT;

    IF NOT v_going_on THEN
        RAISE EXCEPTION 'run % was stopped during %', v_run_id, r_task.task
            USING ERRCODE = '57014', HINT = 'Finished tasks stay. The next run resumes it.';
    END IF;
END
$work$;
COMMENT ON PROCEDURE etl.work(bigint) IS 'Executes tasks of a run until it ends, together with any other worker.';
