-- Runs and the workers that share them. Nothing else schedules: a task is a row of etl.task_run, a worker claims one that is
-- free to start, works on it in one transaction, and goes on until the run has no more.
--
-- Who is alive is told by locks, which end with their session or transaction, never by times or process ids alone (base/lock.sql):
--   * every worker holds a lock of its own: a run marked as running that no such worker works on has died, and is resumed; a task marked as
--     running whose worker is not alive is taken over;
--   * the transaction that works on a task holds the task's row: who has nothing to do waits for that lock, thus for the task's end.
--
-- The orchestrating procedures commit, so they can have neither a SET clause nor SECURITY DEFINER: every name is qualified.

/*
Starts a run, or takes up the last one when it died. Whoever gets the run's number works on it with CALL etl.work(number). When nothing has
changed in the source and nothing waits, the run has ended already, as succeeded, unless checks or the maintenance are due.
Parameters: p_only, tasks or objects that the run is confined to (all by default); p_full_refresh, objects (source tables,
            dimensions, facts, aggregates, or 'all') that are rebuilt; p_origin, who asks.
Returns:    the run.
Writes:     etl.run, etl.task_run, for objects that are to be rebuilt etl.watermark and etl.load_state,
            when nothing has changed as etl._is_idle.
Errors:     ET001 when a run is live, ET002 when an object or task does not exist, ET060 when another session keeps runs from starting.
*/
CREATE OR REPLACE FUNCTION etl.start_run(
    p_only text[] DEFAULT NULL,
    p_full_refresh text[] DEFAULT NULL,
    p_origin text DEFAULT 'sql'
) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $start_run$
DECLARE
    r_run etl.run;
    v_reasons jsonb;
    v_is_idle boolean;
BEGIN
    PERFORM etl._pin_session();
    PERFORM etl._lock_start();
    -- A worker that joins waits for this lock; one that has joined is seen.
    SELECT *
    INTO r_run
    FROM etl.run AS r
    WHERE r.status = 'running'
    FOR UPDATE;
    IF etl._live_run() IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(r_run.run_id, format('Wait for its end, or join it as one more worker: CALL etl.work(%s).', r_run.run_id));
    END IF;

    PERFORM etl._check_names(p_only, p_full_refresh);
    IF r_run.run_id IS NOT NULL THEN
        IF p_only IS NULL AND p_full_refresh IS NULL THEN
            PERFORM etl._resume_run(r_run.run_id);
            RETURN r_run.run_id;
        END IF;
        -- Another kind of run is wanted: the dead one is closed with what it has done; what it left is still pending.
        PERFORM etl._abandon_run(r_run.run_id);
    END IF;

    PERFORM etl._alert_if_stale();
    PERFORM etl._request_refresh(p_full_refresh);
    v_reasons := etl._request_changed();
    v_is_idle := p_only IS NULL AND p_full_refresh IS NULL AND v_reasons IS NULL AND etl._is_idle();
    INSERT INTO etl.run (origin, only_tasks, full_refresh, reload_reasons)
    VALUES (p_origin, p_only, p_full_refresh, v_reasons)
    RETURNING * INTO r_run;
    INSERT INTO etl.task_run (run_id, task, kind, object, position, max_attempts)
    SELECT r_run.run_id, t.task, t.kind, t.object, t.position, t.max_attempts
    FROM etl.task AS t
    WHERE t.is_enabled
        AND (p_only IS NULL OR t.task = ANY (p_only) OR t.object = ANY (p_only))
        AND CASE
            WHEN NOT v_is_idle THEN true
            WHEN t.kind = 'check' THEN etl._are_checks_due()
            WHEN t.kind = 'maintain' THEN etl._is_maintenance_due()
            ELSE false
        END;
    IF v_is_idle THEN
        PERFORM etl._end_run(r_run.run_id);
    END IF;
    RETURN r_run.run_id;
END
$start_run$;
COMMENT ON FUNCTION etl.start_run(text[], text[], text) IS 'Starts a run, or takes up the last one when it died; returns its number. Error ET001 when a run is live.';

/*
Makes a dead run ready to be taken up again. It brings the warehouse up to now, not to the moment at which it died: all source tables are
extracted again, on a new snapshot; those that have arrived bring only what is new since.
Parameters: p_run_id, the run.
Writes:     etl.run, etl.task_run, etl.worker.
*/
CREATE OR REPLACE FUNCTION etl._resume_run(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_resume_run$
BEGIN
    DELETE FROM etl.worker AS w
    WHERE w.run_id = p_run_id;
    UPDATE etl.run AS r
    SET resumed = r.resumed + 1
    WHERE r.run_id = p_run_id;

    UPDATE etl.task_run AS t
    SET status = 'pending',
        attempts = 0,
        worker_id = NULL,
        worker_pid = NULL
    WHERE t.run_id = p_run_id;
END
$_resume_run$;
COMMENT ON FUNCTION etl._resume_run(bigint) IS 'Makes a dead run ready to be taken up again.';

CREATE OR REPLACE FUNCTION etl._abandon_run(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_abandon_run$
BEGIN
    UPDATE etl.task_run AS t
    SET status = 'skipped',
        message = 'The run died and was not taken up again.',
        ended_at = clock_timestamp()
    WHERE t.run_id = p_run_id
        AND t.status IN ('pending', 'running');
    PERFORM etl._end_run(p_run_id);
END
$_abandon_run$;
COMMENT ON FUNCTION etl._abandon_run(bigint) IS 'Closes a dead run with what it has done.';

/*
Starts a run, or takes up the last one when it died, and works on it until it ends. Call it outside a transaction block.
Parameters: as those of etl.start_run.
Errors:     ET001 when a run is live, ET002 when an object or task does not exist.
*/
CREATE OR REPLACE PROCEDURE etl.run(
    p_only text[] DEFAULT NULL,
    p_full_refresh text[] DEFAULT NULL,
    p_origin text DEFAULT 'sql'
)
LANGUAGE plpgsql
AS $run$
DECLARE
    v_run_id bigint;
BEGIN
    v_run_id := etl.start_run(p_only, p_full_refresh, p_origin);
    COMMIT;
    CALL etl.work(v_run_id);
END
$run$;
COMMENT ON PROCEDURE etl.run(text[], text[], text) IS 'Starts a run, or takes up the last one when it died, and works on it until it ends.';
