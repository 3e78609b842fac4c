-- Runs and the workers that share them. A task of a run is a row of etl.task_run. A worker claims a ready task, executes it in one transaction,
-- and goes on until the run has none left. Nothing else schedules.
--
-- Liveness rests on locks, which end with their session or transaction, never on heartbeats, times or process ids alone (base/lock.sql):
--   * Every worker holds a lock of its own. A run marked as running without a live worker has died, and is resumed. A task marked as running
--     whose worker is not alive is reclaimed.
--   * The transaction that executes a task holds the task's row. A worker without a ready task waits for that lock, thus for the task's end.
--
-- The orchestrating procedures commit, so they can have neither a SET clause nor SECURITY DEFINER: every name is qualified.

-- The caller then executes CALL etl.work() with the run's number. If the source is unchanged and no load is pending, the run has already ended as
-- succeeded, unless checks or the maintenance are due. A run that is resumed extracts all source tables again, on a new snapshot: it brings the
-- warehouse up to now, not to the time at which it died. p_only are tasks or objects that the run is confined to (all by default); p_full_refresh
-- objects (source tables, dimensions, facts, aggregates, or 'all') that are recomputed; p_origin is who asks. ET001: a run is live; ET002: an object
-- or task does not exist; ET003: a view was changed and does not fit the catalog; ET060: another session keeps runs from starting; 55P03: a lock is
-- not granted within the setting wait_limit.
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
        PERFORM etl._refuse_beside_run(r_run.run_id, format('Wait until it ends, or join it: CALL etl.work(%s).', r_run.run_id));
    END IF;
    PERFORM etl._check_names(p_only, p_full_refresh);
    PERFORM etl._add_load_states();

    IF r_run.run_id IS NOT NULL AND p_only IS NULL AND p_full_refresh IS NULL THEN
        DELETE FROM etl.worker AS w
        WHERE w.run_id = r_run.run_id;
        UPDATE etl.run AS r
        SET resumed = r.resumed + 1
        WHERE r.run_id = r_run.run_id;
        UPDATE etl.task_run AS t
        SET status = 'pending',
            attempts = 0,
            worker_id = NULL,
            worker_pid = NULL
        WHERE t.run_id = r_run.run_id;
        RETURN r_run.run_id;
    ELSIF r_run.run_id IS NOT NULL THEN
        -- Another kind of run is wanted: the dead one ends with what it has done; the rest is still pending.
        UPDATE etl.task_run AS t
        SET status = 'skipped',
            message = 'The run died and was not resumed.',
            ended_at = clock_timestamp()
        WHERE t.run_id = r_run.run_id
            AND t.status IN ('pending', 'running');
        PERFORM etl._end_run(r_run.run_id);
    END IF;

    PERFORM etl._alert_if_stale();
    PERFORM etl._request_refresh(p_full_refresh);
    v_reasons := etl._request_changed();
    IF v_reasons IS NOT NULL THEN
        -- A view that was replaced may read other mirrors than etl.build() has checked, or their deleted rows.
        PERFORM etl._check_reads();
        PERFORM etl._remove_deleted_rows();
        v_reasons := nullif(v_reasons, '{}');
    END IF;
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
            WHEN t.kind = 'check' THEN EXISTS (SELECT FROM etl._due_checks(NULL))
            WHEN t.kind = 'maintain' THEN etl._is_maintenance_due()
            ELSE false
        END;
    IF v_is_idle THEN
        PERFORM etl._end_run(r_run.run_id);
    END IF;
    RETURN r_run.run_id;
END
$start_run$;
COMMENT ON FUNCTION etl.start_run(text[], text[], text) IS 'Starts a run, or resumes the last one if it died; returns its number. Error ET001 if a run is live.';

-- Call it outside a transaction block. Parameters and errors as those of etl.start_run.
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
COMMENT ON PROCEDURE etl.run(text[], text[], text) IS 'Starts a run, or resumes the last one if it died, and executes its tasks until it ends.';
