-- Runs and the workers that share them. Nothing else schedules: a task is a row of etl.task_run, a worker claims one that is
-- free to start, works on it in one transaction, and goes on until the run has no more.
--
-- Who is alive is told by advisory locks, which end with their session, never by times or process ids:
--   * every worker holds a shared lock on its run: a run marked as running that nobody holds has died, and is resumed;
--   * the worker that claimed a task holds a lock on it: a task marked as running that nobody holds is taken over.
-- Locks are taken before the claim is committed, so that whoever sees the claim sees the lock. A worker with nothing to do waits for
-- the lock of a running task, thus for that task's end, and not for the clock.
--
-- The orchestrating procedures commit, so they can have neither a SET clause nor SECURITY DEFINER: every name is qualified.

/*
Starts a run, or takes up the last one when it died. Whoever gets the run's number works on it with CALL etl.work(number).
Parameters: p_only, tasks or objects that the run is confined to (all by default); p_full_refresh, objects (source tables,
            dimensions, facts, aggregates, or 'all') that are rebuilt; p_origin, who asks.
Returns:    the run.
Writes:     etl.run, etl.task_run, for a full refresh etl.watermark and etl.load_state.
Errors:     ET001 when a run is live, ET002 when an object or task does not exist.
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
BEGIN
    PERFORM pg_advisory_xact_lock(etl._lock_class('start'), 0);
    SELECT *
    INTO r_run
    FROM etl.run AS r
    WHERE r.status = 'running';

    IF FOUND AND etl._is_held('run', r_run.run_id) THEN
        RAISE EXCEPTION 'run % is at work since %', r_run.run_id, date_trunc('second', r_run.started_at)
            USING ERRCODE = 'ET001', HINT = format('Wait for its end, or join it as one more worker: CALL etl.work(%s).', r_run.run_id);
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
    INSERT INTO etl.run (origin, only_tasks, full_refresh)
    VALUES (p_origin, p_only, p_full_refresh)
    RETURNING * INTO r_run;
    INSERT INTO etl.task_run (run_id, task, kind, object, position, max_attempts)
    SELECT r_run.run_id, t.task, t.kind, t.object, t.position, t.max_attempts
    FROM etl.task AS t
    WHERE t.is_enabled
        AND (p_only IS NULL OR t.task = ANY (p_only) OR t.object = ANY (p_only));
    RETURN r_run.run_id;
END
$start_run$;
COMMENT ON FUNCTION etl.start_run(text[], text[], text) IS 'Starts a run, or takes up the last one when it died; returns its number. Error ET001 when a run is live.';

/*
Makes the unfinished tasks of a dead run ready to start. When a source table has not reached stage, all are extracted again on
a new snapshot, so that tables of one batch do not tear; those that have arrived, or were filled, bring only what is new since. What was
loaded already is loaded again then, as that may be new to it.
Parameters: p_run_id, the run.
Writes:     etl.run, etl.task_run.
*/
CREATE OR REPLACE FUNCTION etl._resume_run(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_resume_run$
BEGIN
    UPDATE etl.run AS r
    SET resumed = r.resumed + 1
    WHERE r.run_id = p_run_id;

    UPDATE etl.task_run AS t
    SET status = 'pending',
        attempts = 0,
        worker_pid = NULL
    WHERE t.run_id = p_run_id
        AND (
            t.status = 'running'
            OR (
                t.kind IN ('extract', 'stage', 'dimension', 'fact', 'aggregate')
                AND EXISTS (
                    SELECT
                    FROM etl.task_run AS s
                    WHERE s.run_id = p_run_id
                        AND s.kind = 'stage'
                        AND s.status NOT IN ('succeeded', 'skipped')
                )
            )
        );
END
$_resume_run$;
COMMENT ON FUNCTION etl._resume_run(bigint) IS 'Makes the unfinished tasks of a dead run ready to start.';

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
