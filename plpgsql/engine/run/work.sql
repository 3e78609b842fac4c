-- A worker: it claims one task after the other and works on each in one transaction, until the run ends.
--
-- etl.work commits, so it can have neither a SET clause nor SECURITY DEFINER: every name is qualified.

/*
Ends a run when none of its tasks is left.
Parameters: p_run_id, the run.
Returns:    whether the run has ended.
Writes:     etl.run.
*/
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
                WHEN bool_and(t.status = 'succeeded') IS NOT FALSE THEN 'succeeded'
                WHEN bool_or(t.status = 'succeeded') THEN 'partial'
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
COMMENT ON FUNCTION etl._end_run(bigint) IS 'Ends a run when none of its tasks is left.';

/*
Waits until a running task of the run has ended or its worker has died, at most a second: another task may end sooner.
Parameters: p_run_id, the run.
*/
CREATE OR REPLACE FUNCTION etl._await_progress(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_await_progress$
BEGIN
    PERFORM etl._await_task((
        SELECT t.task_run_id
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.status = 'running'
        ORDER BY t.started_at
        LIMIT 1
    ));
END
$_await_progress$;
COMMENT ON FUNCTION etl._await_progress(bigint) IS 'Waits until a running task of the run has ended, at most a second.';

/*
Works on a run until it ends. Any number of sessions may do so at once; call it outside a transaction block.
Parameters: p_run_id, the run; by default the one that is running.
Errors:     ET006 when no run is running.
*/
CREATE OR REPLACE PROCEDURE etl.work(p_run_id bigint DEFAULT NULL)
LANGUAGE plpgsql
AS $work$
DECLARE
    v_run_id bigint := p_run_id;
    v_tasks etl.task_run[];
    v_outcomes etl.task_run[];
    r_task etl.task_run;
    v_is_reading boolean;  -- from the source
    v_going_on boolean := true;
BEGIN
    IF v_run_id IS NULL THEN
        SELECT r.run_id
        INTO v_run_id
        FROM etl.run AS r
        WHERE r.status = 'running';
    END IF;
    IF v_run_id IS NULL OR NOT EXISTS (SELECT FROM etl.run AS r WHERE r.run_id = v_run_id) THEN
        RAISE EXCEPTION 'there is no run to work on'
            USING ERRCODE = 'ET006', HINT = 'CALL etl.run() starts one.';
    END IF;
    PERFORM pg_catalog.pg_advisory_lock_shared(etl._lock_class('run'), etl._lock_number(v_run_id));
    -- Somebody who found the run dead a moment ago is still making it ready: let that end first.
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(etl._lock_class('start'), 0);
    COMMIT;

    WHILE v_going_on LOOP
        -- A crash may lose the last moments of what is committed from here on, but never part of a transaction: data and
        -- watermark are lost together, and done again. Waiting for the disk at each task would buy nothing.
        PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
        SELECT pg_catalog.array_agg(t)
        INTO v_tasks
        FROM etl._claim(v_run_id) AS t;
        IF v_tasks IS NULL THEN
            EXIT WHEN etl._end_run(v_run_id);
            COMMIT;
            PERFORM etl._await_progress(v_run_id);
            COMMIT;
            CONTINUE;
        END IF;
        v_is_reading := v_tasks[1].kind = 'extract';
        IF v_is_reading THEN
            -- Nothing may come between these two: even the evaluation of a condition would take a snapshot.
            COMMIT;
            SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
        ELSE
            COMMIT;
        END IF;
        PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
        FOREACH r_task IN ARRAY v_tasks
        LOOP
            v_going_on := etl._perform(r_task) AND v_going_on;
        END LOOP;
        IF v_is_reading THEN
            v_outcomes := etl._end_batch(v_tasks);
            IF v_outcomes IS NOT NULL THEN
                ROLLBACK;
                PERFORM etl._note_outcomes(v_outcomes);
            END IF;
        END IF;
        COMMIT;
        FOREACH r_task IN ARRAY v_tasks
        LOOP
            PERFORM pg_catalog.pg_advisory_unlock(etl._lock_class('task'), etl._lock_number(r_task.task_run_id));
        END LOOP;
    END LOOP;
    COMMIT;
    PERFORM pg_catalog.pg_advisory_unlock_shared(etl._lock_class('run'), etl._lock_number(v_run_id));

    IF NOT v_going_on THEN
        RAISE EXCEPTION 'run % was stopped while it worked on %', v_run_id, r_task.task
            USING ERRCODE = '57014', HINT = 'What it has finished stays; the next run goes on from there.';
    END IF;
END
$work$;
COMMENT ON PROCEDURE etl.work(bigint) IS 'Works on a run until it ends, beside any other worker.';
