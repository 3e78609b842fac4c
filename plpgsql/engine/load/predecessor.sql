-- Waiting for the end of another task, by its advisory lock.

/*
Waits until a task that somebody works on has ended or its worker has died, at most a second: whoever holds the lock may do nothing any more.
Parameters: p_task_run_id, number of the attempt; none is waited for when it is NULL.
*/
CREATE OR REPLACE FUNCTION etl._await_task(p_task_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $_await_task$
BEGIN
    PERFORM pg_advisory_lock_shared(etl._lock_class('task'), etl._lock_number(p_task_run_id));
    PERFORM pg_advisory_unlock_shared(etl._lock_class('task'), etl._lock_number(p_task_run_id));
EXCEPTION
    WHEN lock_not_available THEN
        NULL;
END
$_await_task$;
COMMENT ON FUNCTION etl._await_task(bigint) IS 'Waits until a task that somebody works on has ended, at most a second.';

/*
Waits until the tasks have ended beside which a task has started (etl.task_edge.may_overlap): from here on it sees what they did.
Parameters: p_task, the task; p_run_id, the run.
Errors:     ET048 when one of them did not succeed; the task is then to be begun anew.
*/
CREATE OR REPLACE FUNCTION etl._await_predecessors(p_task text, p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_await_predecessors$
DECLARE
    r_task record;
BEGIN
    LOOP
        SELECT t.task, t.task_run_id, t.status
        INTO r_task
        FROM etl.task_edge AS e
        JOIN etl.task_run AS t ON t.run_id = p_run_id AND t.task = e.predecessor
        WHERE e.task = p_task
            AND e.may_overlap
            AND t.status <> 'succeeded'
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        IF r_task.status <> 'running' OR NOT etl._is_held('task', r_task.task_run_id) THEN
            RAISE EXCEPTION '% did not succeed, beside which % has started', r_task.task, p_task
                USING ERRCODE = 'ET048';
        END IF;
        PERFORM etl._await_task(r_task.task_run_id);
    END LOOP;
END
$_await_predecessors$;
COMMENT ON FUNCTION etl._await_predecessors(text, bigint) IS 'Waits until the tasks have ended beside which a task has started; ET048 when one did not succeed.';
