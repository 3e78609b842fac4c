-- Claims: a worker takes a ready task, or reclaims one whose worker died.

-- Ready tasks of a run: all dependencies are met. In their order.
CREATE OR REPLACE FUNCTION etl._free_tasks(p_run_id bigint)
RETURNS SETOF etl.task_run
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
-- The statistics do not cover the newest run. So a plan for its number always looks cheaper than a generic one, and making it each time takes
-- six times as long as finding the tasks.
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

-- Claims the next ready task of a run that has something to do, and returns it; none if no task is ready. Extractions are claimed together: they share
-- a snapshot, so that all mirrors show the same point in time. Before, tasks are skipped whose upstream tasks had to succeed and did not, no-op tasks are
-- completed, and tasks whose workers died are released: pending again or, after too many attempts, failed. Writes etl.task_run. The run's row is
-- locked, so that claims follow one another: two at once would divide the extractions between two snapshots.
CREATE OR REPLACE FUNCTION etl._claim(p_run_id bigint, p_worker_id bigint)
RETURNS SETOF etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_claim$
DECLARE
    v_ready etl.task_run[];
    r_task etl.task_run;
BEGIN
    PERFORM
    FROM etl.run AS r
    WHERE r.run_id = p_run_id
    FOR NO KEY UPDATE;
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
        CONTINUE WHEN FOUND;
        v_ready := ARRAY(SELECT t FROM etl._free_tasks(p_run_id) AS t);
        IF cardinality(v_ready) > 0 THEN
            CONTINUE WHEN etl._complete_noop_tasks(p_run_id, v_ready);
            EXIT;
        END IF;
        UPDATE etl.task_run AS t
        SET status = CASE WHEN t.attempts < t.max_attempts THEN 'pending' ELSE 'failed' END,
            sqlstate = '57P01',
            message = format('The worker with process id %s died while it held the task.', t.worker_pid),
            ended_at = clock_timestamp()
        FROM (
            SELECT o.task
            FROM etl.task_run AS o
            WHERE o.run_id = p_run_id
                AND o.status = 'running'
                AND NOT EXISTS (SELECT FROM etl.worker AS w WHERE w.worker_id = o.worker_id AND etl._is_live(w.pid, w.lock_key))
            FOR UPDATE SKIP LOCKED
        ) AS d
        WHERE t.run_id = p_run_id
            AND t.task = d.task;
        EXIT WHEN NOT FOUND;
    END LOOP;
    FOR r_task IN
        UPDATE etl.task_run AS t
        SET status = 'running',
            attempts = t.attempts + 1,
            worker_id = p_worker_id,
            worker_pid = pg_backend_pid(),
            started_at = clock_timestamp(),
            ended_at = NULL
        FROM unnest(v_ready) AS r
        WHERE t.run_id = p_run_id
            AND t.task = r.task
            AND (r.task = v_ready[1].task OR r.kind = 'extract' AND v_ready[1].kind = 'extract')
        RETURNING t.*
    LOOP
        PERFORM etl._notify(r_task);
        RETURN NEXT r_task;
    END LOOP;
END
$_claim$;
