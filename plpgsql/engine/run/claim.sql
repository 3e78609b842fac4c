-- Claims: a worker takes a task that is free to start, and takes over one whose worker died.

/*
Tasks of a run that are free to start: all that they wait for is over, and was a success where it has to be.
Parameters: p_run_id, the run.
*/
CREATE OR REPLACE FUNCTION etl._free_tasks(p_run_id bigint)
RETURNS SETOF etl.task_run
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
-- The rows of the newest run are not in the statistics: a plan for its number always looks cheaper than one for any, and to make it each
-- time takes six times as long as to find the tasks.
SET plan_cache_mode = force_generic_plan
AS $_free_tasks$
    SELECT t.*
    FROM etl.task_run AS t
    WHERE t.run_id = p_run_id
        AND t.status = 'pending'
        AND NOT EXISTS (
            SELECT
            FROM etl.task_edge AS e
            JOIN etl.task_run AS p ON p.run_id = p_run_id AND p.task = e.predecessor
            WHERE e.task = t.task
                AND CASE
                    WHEN p.status IN ('pending', 'running') THEN true
                    ELSE e.wait_for = 'success' AND p.status <> 'succeeded'
                END
        )
    ORDER BY t.position
$_free_tasks$;
COMMENT ON FUNCTION etl._free_tasks(bigint) IS 'Tasks of a run that are free to start, in their order.';

/*
Claims the next task of a run that is free to start. Extractions are claimed all at once, when all of them are free: they share a snapshot,
which brings all mirrors to one moment.
Parameters: p_run_id, the run; p_worker_id, the worker that claims.
Returns:    the claimed tasks; none when nothing can start at present.
Writes:     etl.task_run.
Locks:      the run's row: one claim after the other. Two at once would share the extractions out, on two snapshots.
*/
CREATE OR REPLACE FUNCTION etl._claim(p_run_id bigint, p_worker_id bigint)
RETURNS SETOF etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_claim$
DECLARE
    v_free etl.task_run[];
BEGIN
    PERFORM
    FROM etl.run AS r
    WHERE r.run_id = p_run_id
    FOR NO KEY UPDATE;
    LOOP
        PERFORM etl._skip_blocked(p_run_id);
        v_free := ARRAY(SELECT t FROM etl._free_tasks(p_run_id) AS t);
        -- An extraction that still waits keeps the others back.
        IF EXISTS (
            SELECT
            FROM etl.task_run AS t
            WHERE t.run_id = p_run_id
                AND t.status = 'pending'
                AND t.kind = 'extract'
                AND t.task NOT IN (SELECT f.task FROM unnest(v_free) AS f)
        ) THEN
            v_free := ARRAY(SELECT f FROM unnest(v_free) AS f WHERE f.kind <> 'extract');
        END IF;
        EXIT WHEN cardinality(v_free) > 0 OR NOT etl._take_over(p_run_id);
    END LOOP;
    RETURN QUERY
    SELECT b.*
    FROM unnest(v_free) AS f
    CROSS JOIN LATERAL etl._begin_task(f.run_id, f.task, p_worker_id) AS b
    WHERE CASE (v_free[1]).kind WHEN 'extract' THEN f.kind = 'extract' ELSE f.task = (v_free[1]).task END;
END
$_claim$;
COMMENT ON FUNCTION etl._claim(bigint, bigint) IS 'Claims the next task of a run that is free to start, or all its extractions.';

CREATE OR REPLACE FUNCTION etl._begin_task(p_run_id bigint, p_task text, p_worker_id bigint)
RETURNS etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_task$
DECLARE
    r_task etl.task_run;
BEGIN
    UPDATE etl.task_run AS t
    SET status = 'running',
        attempts = t.attempts + 1,
        worker_id = p_worker_id,
        worker_pid = pg_backend_pid(),
        started_at = clock_timestamp(),
        ended_at = NULL
    WHERE t.run_id = p_run_id
        AND t.task = p_task
    RETURNING t.* INTO r_task;
    PERFORM etl._notify(r_task);
    RETURN r_task;
END
$_begin_task$;
COMMENT ON FUNCTION etl._begin_task(bigint, text, bigint) IS 'Notes that a worker, this session, works on a task.';

/*
Frees the tasks whose workers died, to be done again or, after too many attempts, failed.
Parameters: p_run_id, the run.
Returns:    whether there were any.
Writes:     etl.task_run.
*/
CREATE OR REPLACE FUNCTION etl._take_over(p_run_id bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_take_over$
DECLARE
    r_task etl.task_run;
    v_found boolean := false;
BEGIN
    FOR r_task IN
        SELECT t.*
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.status = 'running'
            AND NOT EXISTS (
                SELECT
                FROM etl.worker AS w
                WHERE w.worker_id = t.worker_id
                    AND etl._is_live(w.pid, w.lock_key)
            )
        FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE etl.task_run AS t
        SET status = CASE WHEN t.attempts < t.max_attempts THEN 'pending' ELSE 'failed' END,
            sqlstate = '57P01',
            message = format('The worker with process id %s died while it held the task.', t.worker_pid),
            ended_at = clock_timestamp()
        WHERE t.run_id = r_task.run_id
            AND t.task = r_task.task;
        v_found := true;
    END LOOP;
    RETURN v_found;
END
$_take_over$;
COMMENT ON FUNCTION etl._take_over(bigint) IS 'Frees the tasks whose workers died.';

CREATE OR REPLACE FUNCTION etl._skip_blocked(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_skip_blocked$
BEGIN
    LOOP
        UPDATE etl.task_run AS t
        SET status = 'skipped',
            started_at = NULL,
            ended_at = clock_timestamp(),
            sqlstate = NULL,
            message = format('%s did not succeed.', b.predecessor),
            detail = NULL,
            hint = NULL,
            context = NULL
        FROM (
            SELECT DISTINCT ON (e.task) e.task, e.predecessor
            FROM etl.task_edge AS e
            JOIN etl.task_run AS p ON p.run_id = p_run_id AND p.task = e.predecessor
            WHERE e.wait_for = 'success'
                AND p.status IN ('failed', 'skipped')
            ORDER BY e.task, e.predecessor
        ) AS b
        WHERE t.run_id = p_run_id
            AND t.task = b.task
            AND t.status = 'pending';
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$_skip_blocked$;
COMMENT ON FUNCTION etl._skip_blocked(bigint) IS 'Skips the tasks whose predecessors had to succeed and did not.';
