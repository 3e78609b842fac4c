-- Claims: a worker takes a task that is free to start, takes over one whose worker died, and passes over what is idle.

/*
Claims the next task of a run that is free to start. Extractions are claimed all at once:
they share a snapshot, which brings all mirrors to one moment. Idle tasks on the way are passed over.
Parameters: p_run_id, the run.
Returns:    the claimed tasks; none when nothing can start at present.
Writes:     etl.task_run, as etl._pass_over. Takes a session lock on each claimed task.
*/
CREATE OR REPLACE FUNCTION etl._claim(p_run_id bigint)
RETURNS SETOF etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- The rows of the newest run are not in the statistics: a plan for its number always looks cheaper than one for any, and to make it each
-- time takes six times as long as to find the task.
SET plan_cache_mode = force_generic_plan
AS $_claim$
DECLARE
    r_task etl.task_run;
    r_present record;
    v_may_overlap boolean := false;
BEGIN
    -- One claim after the other. Two at once would share the extractions out, on two snapshots; and of what one is passing over the other
    -- would find neither the tasks nor what they free, and look again and again.
    PERFORM pg_advisory_xact_lock(etl._lock_class('claim'), etl._lock_number(p_run_id));
    SELECT
        bool_or(t.status = 'running') AS is_running,
        bool_or(t.status IN ('failed', 'skipped')) AS is_blocked,
        bool_or(t.status = 'pending' AND t.kind = 'extract') AS is_extracting,
        sum(t.rows_read) = 0 AND bool_and(t.status = CASE t.kind WHEN 'extract' THEN 'succeeded' ELSE 'pending' END) AS is_quiet
    INTO r_present
    FROM etl.task_run AS t
    WHERE t.run_id = p_run_id;
    IF r_present.is_blocked THEN
        PERFORM etl._skip_blocked(p_run_id);
    END IF;

    IF r_present.is_extracting THEN
        FOR r_task IN
            SELECT t.*
            FROM etl.task_run AS t
            WHERE t.run_id = p_run_id
                AND t.status = 'pending'
                AND t.kind = 'extract'
            ORDER BY t.position
        LOOP
            r_task := etl._begin_task(r_task);
            RETURN NEXT r_task;
        END LOOP;
        RETURN;
    END IF;
    IF r_present.is_quiet THEN
        -- Nothing was extracted. As a rule nothing has anything to do then: one look at all takes a third of one after the other.
        PERFORM etl._pass_over(array_agg(t))
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.kind IN ('stage', 'dimension', 'fact', 'aggregate');
    END IF;

    LOOP
        SELECT t.*
        INTO r_task
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.status = 'pending'
            AND t.kind <> 'extract'
            AND NOT EXISTS (
                SELECT
                FROM etl.task_edge AS e
                JOIN etl.task_run AS p ON p.run_id = p_run_id AND p.task = e.predecessor
                WHERE e.task = t.task
                    AND CASE p.status
                        WHEN 'pending' THEN true
                        WHEN 'running' THEN NOT (v_may_overlap AND e.may_overlap)
                        -- One that has failed since this claim began has not been followed up yet.
                        ELSE e.wait_for = 'success' AND p.status <> 'succeeded'
                    END
            )
        ORDER BY t.position
        LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN NOT r_present.is_running;
            -- Nothing else can start. Is what the others wait for still being worked on?
            r_present.is_running := false;
            CONTINUE WHEN etl._take_over(p_run_id);
            -- Beside some tasks at work others may start. In the end they must see what those have committed meanwhile.
            v_may_overlap := current_setting('transaction_isolation') = 'read committed';
            CONTINUE;
        END IF;

        CONTINUE WHEN etl._pass_over(ARRAY[r_task]);
        r_task := etl._begin_task(r_task);
        RETURN NEXT r_task;
        EXIT;
    END LOOP;
END
$_claim$;
COMMENT ON FUNCTION etl._claim(bigint) IS 'Claims the next task of a run that is free to start, or all its extractions; passes over the idle ones on the way.';

CREATE OR REPLACE FUNCTION etl._begin_task(p_task etl.task_run)
RETURNS etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_task$
DECLARE
    r_task etl.task_run;
BEGIN
    UPDATE etl.task_run AS t
    SET status = 'running',
        -- Each attempt has a lock of its own: that of an earlier one may have been kept by a session whose CALL was cancelled.
        task_run_id = DEFAULT,
        attempts = t.attempts + 1,
        worker_pid = pg_backend_pid(),
        started_at = clock_timestamp(),
        ended_at = NULL
    WHERE t.run_id = p_task.run_id
        AND t.task = p_task.task
    RETURNING t.* INTO r_task;
    PERFORM pg_advisory_lock(etl._lock_class('task'), etl._lock_number(r_task.task_run_id));
    PERFORM etl._notify(r_task);
    RETURN r_task;
END
$_begin_task$;
COMMENT ON FUNCTION etl._begin_task(etl.task_run) IS 'Notes that this session works on a task, and locks it.';

/*
Whether tasks will find nothing to do but move a watermark: nothing was extracted, nothing is pending, no reload was asked for, no foreign
key is set aside any more.
Parameters: p_tasks, the tasks.
*/
CREATE OR REPLACE FUNCTION etl._is_idle(p_tasks etl.task_run[])
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_idle$
DECLARE
    r_present record;
    v_is_idle boolean;
BEGIN
    SELECT
        bool_or(CASE
            WHEN t.kind = 'stage' THEN EXISTS (
                SELECT
                FROM etl.batch AS b
                JOIN etl.extraction AS e USING (batch_id)
                WHERE b.run_id = t.run_id
                    AND e.source_table = t.object
                    AND e.rows_extracted > 0
                    AND NOT e.is_bulk
            )
            WHEN t.kind IN ('dimension', 'fact', 'aggregate') THEN EXISTS (
                SELECT FROM etl.load_state AS l WHERE l.object = t.object AND l.needs_reload
                UNION ALL
                SELECT FROM etl.reprocessing_queue AS q WHERE q.fact = t.object AND q.is_ready
                UNION ALL
                SELECT FROM etl.quarantine AS q WHERE q.object = t.object
            )
            ELSE true
        END) AS has_work,
        string_agg(
            format('SELECT FROM work.%I', t.object || CASE t.kind WHEN 'aggregate' THEN '_difference' ELSE '_key' END),
            E'\nUNION ALL\n'
        ) FILTER (WHERE t.kind IN ('dimension', 'fact', 'aggregate')) AS looks
    INTO r_present
    FROM unnest(p_tasks) AS t;
    IF r_present.has_work OR r_present.looks IS NULL THEN
        RETURN NOT r_present.has_work;
    END IF;
    EXECUTE format('SELECT NOT EXISTS (%s)', r_present.looks) INTO v_is_idle;
    RETURN v_is_idle;
END
$_is_idle$;
COMMENT ON FUNCTION etl._is_idle(etl.task_run[]) IS 'Whether tasks will find nothing to do but move a watermark.';

/*
Passes over tasks that will find nothing to do: their watermarks move, and they have succeeded. To claim one would take a transaction before
and one after, and its first time in a session the compilation of all that it would not do: half of a run with nothing new.
Parameters: p_tasks, the tasks, of one run.
Returns:    whether they were passed over, all or none. When their idleness cannot even be told they are not: then they fail by themselves, and that
            is noted.
Writes:     etl.task_run, etl.watermark, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._pass_over(p_tasks etl.task_run[])
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_pass_over$
DECLARE
    v_objects name[];
    v_locked integer;
    r_task etl.task_run;
BEGIN
    IF NOT etl._is_idle(p_tasks) THEN
        RETURN false;
    END IF;
    v_objects := ARRAY(SELECT t.object FROM unnest(p_tasks) AS t WHERE t.kind IN ('dimension', 'fact', 'aggregate'));
    IF cardinality(v_objects) > 0 THEN
        PERFORM
        FROM etl.load_state AS l
        WHERE l.object = ANY (v_objects)
            AND NOT l.needs_reload
        FOR UPDATE SKIP LOCKED;
        GET DIAGNOSTICS v_locked = ROW_COUNT;
        IF v_locked < cardinality(v_objects) THEN
            -- A reload is asked for just now. A claim waits for nobody.
            RETURN false;
        END IF;
        PERFORM etl._advance_load_state(v_objects);
    END IF;
    PERFORM etl._move_watermark(e.source_table, e.batch, e.complete_until)
    FROM (
        SELECT DISTINCT ON (e.source_table) e.source_table, b AS batch, e.complete_until
        FROM unnest(p_tasks) AS t
        JOIN etl.batch AS b USING (run_id)
        JOIN etl.extraction AS e ON e.batch_id = b.batch_id AND e.source_table = t.object
        WHERE t.kind = 'stage'
        ORDER BY e.source_table, e.batch_id DESC
    ) AS e;
    FOR r_task IN
        UPDATE etl.task_run AS t
        SET status = 'succeeded',
            attempts = t.attempts + 1,
            -- Of one that was filled ahead, what was noted then stays.
            worker_pid = CASE WHEN t.rows_read > 0 THEN t.worker_pid ELSE pg_backend_pid() END,
            started_at = CASE WHEN t.rows_read > 0 THEN t.started_at ELSE c.moment END,
            ended_at = CASE WHEN t.rows_read > 0 THEN t.ended_at ELSE c.moment END
        FROM unnest(p_tasks) AS p
        CROSS JOIN (SELECT clock_timestamp()) AS c (moment)
        WHERE t.run_id = p.run_id
            AND t.task = p.task
        RETURNING t.*
    LOOP
        PERFORM etl._notify(r_task);
    END LOOP;
    RETURN true;
EXCEPTION
    WHEN OTHERS THEN
        RETURN false;
END
$_pass_over$;
COMMENT ON FUNCTION etl._pass_over(etl.task_run[]) IS 'Passes over tasks that will find nothing to do; returns whether it did.';

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
            AND NOT etl._is_held('task', t.task_run_id)
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
