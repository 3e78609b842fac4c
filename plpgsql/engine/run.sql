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

CREATE OR REPLACE FUNCTION etl._lock_class(p_kind text)
RETURNS integer
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_lock_class$
    -- First keys of the project's advisory locks: arbitrary numbers that other users of the database are unlikely to take.
    SELECT CASE p_kind WHEN 'start' THEN 7254601 WHEN 'run' THEN 7254602 WHEN 'task' THEN 7254603 WHEN 'aggregate' THEN 7254604 WHEN 'claim' THEN 7254605 WHEN 'versions' THEN 7254606 END
$_lock_class$;
COMMENT ON FUNCTION etl._lock_class(text) IS 'First key of the advisory locks on the start of runs, on a run, on a task, on an aggregate, on the claims of a run, on the versions of a dimension.';

CREATE OR REPLACE FUNCTION etl._lock_number(p_id bigint)
RETURNS integer
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_lock_number$
    SELECT (p_id % 2147483647)::integer
$_lock_number$;
COMMENT ON FUNCTION etl._lock_number(bigint) IS 'Second key of an advisory lock.';

CREATE OR REPLACE FUNCTION etl._is_held(p_kind text, p_id bigint)
RETURNS boolean
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_is_held$
    -- A session whose CALL was cancelled keeps its locks but does nothing: one that is idle does not count. Without track_activities
    -- nobody can tell.
    SELECT EXISTS (
        SELECT
        FROM pg_locks AS l
        LEFT JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory'
            AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND l.classid = etl._lock_class(p_kind)::oid
            AND l.objid = etl._lock_number(p_id)::oid
            AND l.objsubid = 2
            AND l.granted
            AND coalesce(a.state, '') NOT LIKE 'idle%'
            AND (p_kind <> 'run' OR l.pid <> pg_backend_pid())
    )
$_is_held$;
COMMENT ON FUNCTION etl._is_held(text, bigint) IS 'Whether a session that is at work holds the advisory lock on a run (another session) or a task.';

/*
Starts a run, or takes up the last one when it died. Whoever gets the run's number works on it with CALL etl.work(number).
Parameters: p_only, tasks or objects that the run is confined to (all by default); p_full_refresh, objects (source tables,
            dimensions, facts, aggregates, or 'all') that are rebuilt; p_origin, who asks.
Returns:    the run.
Writes:     etl.run, etl.task_run, for a full refresh etl.watermark and etl.load_state, for a first load as etl._plan_filling and
            etl._defer_constraints.
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
        AND t.kind NOT IN ('fill', 'constrain')
        AND (p_only IS NULL OR t.task = ANY (p_only) OR t.object = ANY (p_only));
    PERFORM etl._plan_filling(r_run.run_id);
    PERFORM etl._defer_constraints(r_run.run_id);
    RETURN r_run.run_id;
END
$start_run$;
COMMENT ON FUNCTION etl.start_run(text[], text[], text) IS 'Starts a run, or takes up the last one when it died; returns its number. Error ET001 when a run is live.';

CREATE OR REPLACE FUNCTION etl._check_names(p_only text[], p_full_refresh text[])
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_names$
DECLARE
    v_name text;
BEGIN
    FOREACH v_name IN ARRAY coalesce(p_only, '{}') || coalesce(p_full_refresh, '{}')
    LOOP
        IF NOT EXISTS (SELECT FROM etl.task AS t WHERE v_name IN (t.task, t.object))
            AND NOT coalesce(v_name = 'all' AND v_name = ANY (p_full_refresh), false)
        THEN
            RAISE EXCEPTION 'there is no task or object "%"', v_name
                USING ERRCODE = 'ET002', HINT = 'SELECT task, object FROM etl.task lists them.';
        END IF;
    END LOOP;
END
$_check_names$;
COMMENT ON FUNCTION etl._check_names(text[], text[]) IS 'Raises ET002 when a name is neither a task nor an object.';

/*
Asks for the rebuilding of objects: a source table is extracted anew and compared with its mirror, a dimension or fact goes
over all its keys. Surrogate keys stay. What was asked for stays asked for until a load has succeeded.
Parameters: p_objects, names of source tables, dimensions, facts, aggregates, or 'all'.
Writes:     etl.watermark, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._request_refresh(p_objects text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_request_refresh$
BEGIN
    DELETE FROM etl.watermark AS w
    WHERE w.source_table = ANY (p_objects)
        OR 'all' = ANY (p_objects);
    PERFORM etl._request_reload((
        SELECT array_agg(l.object)
        FROM etl.load_state AS l
        WHERE l.object = ANY (p_objects)
            OR 'all' = ANY (p_objects)
    ));
END
$_request_refresh$;
COMMENT ON FUNCTION etl._request_refresh(text[]) IS 'Asks for the rebuilding of objects by the next load.';

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
Claims the next task of a run that is free to start. Extractions are claimed all at once, when no mirror is being filled any more:
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
        bool_or(t.kind = 'fill') AS is_first_load,
        bool_or(t.kind = 'fill' AND t.status = 'running') AS is_filling,
        bool_or(t.status = 'pending' AND t.kind = 'extract')
            AND NOT bool_or(t.status IN ('pending', 'running') AND t.kind = 'fill') AS is_extracting,
        sum(t.rows_read) = 0 AND bool_and(t.status = CASE t.kind WHEN 'extract' THEN 'succeeded' ELSE 'pending' END) AS is_quiet
    INTO r_present
    FROM etl.task_run AS t
    WHERE t.run_id = p_run_id;
    IF r_present.is_blocked THEN
        PERFORM etl._skip_blocked(p_run_id);
    END IF;

    IF r_present.is_extracting THEN
        IF r_present.is_first_load THEN
            PERFORM etl._order_first_load(p_run_id);
        END IF;
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
            -- A load that began ahead of it (etl._find_ahead) would clear the keys that this adds unseen.
            AND NOT (t.kind = 'stage' AND r_present.is_first_load AND EXISTS (
                SELECT
                FROM etl.task_edge AS e
                JOIN etl.task_run AS s ON s.run_id = p_run_id AND s.task = e.task
                WHERE e.predecessor = t.task
                    AND s.status = 'running'
            ))
        ORDER BY t.position
        LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN NOT r_present.is_running;
            -- Nothing else can start. Is what the others wait for still being worked on?
            r_present.is_running := false;
            CONTINUE WHEN etl._take_over(p_run_id);
            IF NOT r_present.is_filling THEN
                -- Beside some tasks at work others may start. In the end they must see what those have committed meanwhile.
                v_may_overlap := current_setting('transaction_isolation') = 'read committed';
                CONTINUE;
            END IF;
            r_task := etl._find_ahead(p_run_id);
            EXIT WHEN r_task.task IS NULL;
        END IF;

        CONTINUE WHEN etl._pass_over(ARRAY[r_task]);
        r_task := etl._begin_task(r_task);
        RETURN NEXT r_task;
        EXIT;
    END LOOP;
END
$_claim$;
COMMENT ON FUNCTION etl._claim(bigint) IS 'Claims the next task of a run that is free to start, or all its extractions; passes over the idle ones on the way.';

/*
Finds a dimension that can be filled while the last mirrors are being filled, the smallest one: its own mirrors are full. What the extraction
brings besides is merged afterwards, and loaded when the dimension's turn comes. The worker would wait for the largest mirror instead, a
twentieth of a first load by two workers.
Parameters: p_run_id, the run.
Returns:    the task; NULL when there is none.
*/
CREATE OR REPLACE FUNCTION etl._find_ahead(p_run_id bigint)
RETURNS etl.task_run
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_find_ahead$
    SELECT t.*
    FROM etl.task_run AS t
    JOIN etl.load_state AS l ON l.object = t.object AND l.needs_reload
    JOIN etl.dimension AS d ON d.dimension = t.object
    WHERE t.run_id = p_run_id
        AND t.kind = 'dimension'
        AND t.status = 'pending'
        AND NOT EXISTS (
            SELECT
            FROM etl.dependency AS n
            LEFT JOIN etl.watermark AS w USING (source_table)
            WHERE n.object = t.object
                AND w.source_table IS NULL
        )
    ORDER BY etl._estimated_rows(d.transform_view), t.position
    LIMIT 1
$_find_ahead$;
COMMENT ON FUNCTION etl._find_ahead(bigint) IS 'Finds a dimension that can be filled while the last mirrors are being filled.';

/*
Whether a dimension's task was begun ahead of those that it waits for (etl._find_ahead): it has its turn yet.
Parameters: p_task, the task.
*/
CREATE OR REPLACE FUNCTION etl._is_ahead(p_task etl.task_run)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_ahead$
    SELECT EXISTS (
        SELECT
        FROM etl.task_edge AS e
        JOIN etl.task_run AS p ON p.run_id = p_task.run_id AND p.task = e.predecessor
        WHERE e.task = p_task.task
            AND p.status = 'pending'
    )
$_is_ahead$;
COMMENT ON FUNCTION etl._is_ahead(etl.task_run) IS 'Whether a dimension''s task was begun ahead of those that it waits for: it has its turn yet.';

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

/*
Orders tasks of a run by their critical path, now that their sizes can be told.
Parameters: p_run_id, the run; p_tasks, tasks up to its facts; p_weights, how much work each is, in rows. An aggregate is as much as its facts.
Writes:     etl.task_run (position).
*/
CREATE OR REPLACE FUNCTION etl._order_tasks(p_run_id bigint, p_tasks text[], p_weights bigint[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_order_tasks$
    WITH given (task, weight) AS (
        SELECT *
        FROM unnest(p_tasks, p_weights)
    ),
    present AS (
        SELECT array_agg(t.task) AS tasks, array_agg(o.weight) AS weights
        FROM (
            SELECT g.task, g.weight
            FROM given AS g
            UNION ALL
            SELECT 'aggregate:' || a.aggregate, coalesce(sum(g.weight), 0)::bigint
            FROM etl.aggregate AS a
            LEFT JOIN etl.aggregate_fact AS r USING (aggregate)
            LEFT JOIN given AS g ON g.task = 'fact:' || r.fact
            GROUP BY a.aggregate
        ) AS o (task, weight)
        JOIN etl.task_run AS t ON t.run_id = p_run_id AND t.task = o.task AND t.status = 'pending'
    )
    UPDATE etl.task_run AS t
    SET position = 300 + c.place
    FROM present AS p
    CROSS JOIN LATERAL etl._critical_path(p.tasks, p.weights) AS c
    WHERE t.run_id = p_run_id
        AND t.task = c.task
$_order_tasks$;
COMMENT ON FUNCTION etl._order_tasks(bigint, text[], bigint[]) IS 'Orders tasks of a run by their critical path.';

/*
Orders the dimensions, facts and aggregates of a first load.
Parameters: p_run_id, the run; its mirrors are full, so that the planner can tell the sizes.
Writes:     etl.task_run (position).
*/
CREATE OR REPLACE FUNCTION etl._order_first_load(p_run_id bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_order_first_load$
    SELECT etl._order_tasks(p_run_id, array_agg(o.kind || ':' || o.object), array_agg(etl._estimated_rows(o.transform_view)))
    FROM (
        SELECT 'dimension', d.dimension, d.transform_view
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT 'fact', f.fact, f.transform_view
        FROM etl.fact AS f
    ) AS o (kind, object, transform_view)
    JOIN etl.load_state AS l ON l.object = o.object AND l.needs_reload
$_order_first_load$;
COMMENT ON FUNCTION etl._order_first_load(bigint) IS 'Orders the dimensions, facts and aggregates of a first load.';

/*
Orders what follows the extraction of a large batch, other than in a first load. Of a tenth of a million orders, with their lines, one worker
merged first the one and then the other, while the other worker had nothing left to do: a twelfth of the run.
Parameters: p_run_id, the run.
Writes:     etl.task_run (position).
*/
CREATE OR REPLACE FUNCTION etl._order_batch(p_run_id bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_order_batch$
    WITH extracted AS (
        SELECT e.source_table, e.rows_extracted
        FROM etl.extraction AS e
        WHERE e.batch_id = (SELECT max(b.batch_id) FROM etl.batch AS b WHERE b.run_id = p_run_id)
            AND NOT EXISTS (SELECT FROM etl.task_run AS t WHERE t.run_id = p_run_id AND t.kind = 'fill')
    )
    SELECT etl._order_tasks(p_run_id, array_agg(o.task), array_agg(o.weight))
    FROM (
        SELECT 'stage:' || e.source_table, e.rows_extracted
        FROM extracted AS e
        UNION ALL
        -- As in etl._build_tasks, to merge is half the work of loading.
        SELECT t.task, 2 * sum(e.rows_extracted)::bigint
        FROM extracted AS e
        JOIN etl.dependency AS p USING (source_table)
        JOIN etl.task AS t ON t.object = p.object AND t.kind IN ('dimension', 'fact')
        GROUP BY t.task
    ) AS o (task, weight)
$_order_batch$;
COMMENT ON FUNCTION etl._order_batch(bigint) IS 'Orders what follows the extraction of a large batch.';

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
            WHEN t.kind = 'constrain' THEN EXISTS (SELECT FROM etl.deferred_constraint AS d WHERE d.fact = t.object)
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
        PERFORM etl._move_load_state(v_objects);
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

CREATE OR REPLACE FUNCTION etl._notify(p_task etl.task_run)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_notify$
    SELECT pg_notify('etl_progress', jsonb_build_object(
        'run_id', p_task.run_id,
        'task', p_task.task,
        'kind', p_task.kind,
        'status', p_task.status,
        'rows_read', p_task.rows_read,
        'rows_inserted', p_task.rows_inserted,
        'rows_updated', p_task.rows_updated,
        'rows_deleted', p_task.rows_deleted,
        'rows_queued', p_task.rows_queued,
        'rows_quarantined', p_task.rows_quarantined,
        'seconds', round(extract(epoch FROM p_task.ended_at - p_task.started_at), 3),
        'message', left(p_task.message, 500)
    )::text)
$_notify$;
COMMENT ON FUNCTION etl._notify(etl.task_run) IS 'Tells listeners on channel etl_progress about a task.';

/*
Does what a claimed task is for and notes the outcome, in the calling transaction: data, watermark and outcome are
committed together. A failure is undone and noted; it never reaches the caller.
Parameters: p_task, the claimed task.
Writes:     what the task writes, etl.task_run.
Returns:    whether the worker may go on: false when it was told to stop (SQLSTATE 57014, by a person or by statement_timeout).
*/
CREATE OR REPLACE FUNCTION etl._perform(p_task etl.task_run)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_perform$
DECLARE
    r_task etl.task_run := p_task;
    r_result etl.load_result;
    v_going_on boolean := true;
BEGIN
    -- Extractions are claimed together and done one after the other: the clock starts here.
    r_task.started_at := clock_timestamp();
    BEGIN
        r_result := CASE p_task.kind
            WHEN 'fill' THEN etl._fill_mirror(p_task.object, p_task.run_id)
            WHEN 'extract' THEN etl._extract(p_task.object, p_task.run_id)
            WHEN 'stage' THEN etl._stage(p_task.object, p_task.run_id)
            WHEN 'dimension' THEN etl._load_dimension(p_task.object, p_task.run_id)
            WHEN 'fact' THEN etl._load_fact(p_task.object, p_task.run_id)
            WHEN 'aggregate' THEN etl._load_aggregate(p_task.object, p_task.run_id)
            WHEN 'constrain' THEN etl._constrain(p_task.object, p_task.run_id)
            WHEN 'check' THEN etl._check_quality(p_task.run_id)
            WHEN 'maintain' THEN etl._maintain(p_task.run_id)
        END;
        r_task.status := CASE WHEN p_task.kind = 'dimension' AND etl._is_ahead(p_task) THEN 'pending' ELSE 'succeeded' END;
        r_task.rows_read := r_result.rows_read;
        r_task.rows_inserted := r_result.rows_inserted;
        r_task.rows_updated := r_result.rows_updated;
        r_task.rows_deleted := r_result.rows_deleted;
        r_task.rows_queued := r_result.rows_queued;
        r_task.rows_quarantined := r_result.rows_quarantined;
        IF p_task.kind = 'check' THEN
            -- A verdict, not an error: what the checks found stays.
            r_task := etl._judge_checks(r_task);
        END IF;
    EXCEPTION
        WHEN query_canceled OR OTHERS THEN
            GET STACKED DIAGNOSTICS
                r_task.sqlstate = RETURNED_SQLSTATE,
                r_task.message = MESSAGE_TEXT,
                r_task.detail = PG_EXCEPTION_DETAIL,
                r_task.hint = PG_EXCEPTION_HINT,
                r_task.context = PG_EXCEPTION_CONTEXT;
            v_going_on := r_task.sqlstate <> '57014';
            r_task.status := CASE
                -- What it waited for decides whether it is begun again or skipped.
                WHEN NOT v_going_on OR r_task.sqlstate = 'ET048' THEN 'pending'
                -- Serialization and deadlock, resources, lock not available, connection (57P0 and HV00N come from a source that is
                -- another server: shut down, crashed, starting), system error.
                WHEN r_task.attempts < r_task.max_attempts AND r_task.sqlstate ~ '^(40|53|55P03|08|57P0|58|HV00N)' THEN 'pending'
                ELSE 'failed'
            END;
            IF p_task.kind IN ('fill', 'extract') THEN
                PERFORM etl._note_source_lost(r_task.sqlstate);
            END IF;
    END;
    r_task.ended_at := clock_timestamp();
    UPDATE etl.task_run AS t
    SET status = r_task.status,
        started_at = r_task.started_at,
        ended_at = r_task.ended_at,
        rows_read = r_task.rows_read,
        rows_inserted = r_task.rows_inserted,
        rows_updated = r_task.rows_updated,
        rows_deleted = r_task.rows_deleted,
        rows_queued = r_task.rows_queued,
        rows_quarantined = r_task.rows_quarantined,
        sqlstate = r_task.sqlstate,
        message = r_task.message,
        detail = nullif(r_task.detail, ''),
        hint = nullif(r_task.hint, ''),
        context = r_task.context
    WHERE t.run_id = r_task.run_id
        AND t.task = r_task.task
    -- As it was noted: a trigger may hold values of rows back from the message.
    RETURNING t.* INTO r_task;
    PERFORM etl._notify(r_task);
    RETURN v_going_on;
END
$_perform$;
COMMENT ON FUNCTION etl._perform(etl.task_run) IS 'Does what a claimed task is for and notes the outcome.';

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
        v_is_reading := v_tasks[1].kind IN ('fill', 'extract');
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
