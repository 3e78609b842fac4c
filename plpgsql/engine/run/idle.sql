-- What has nothing to do: a whole run with nothing new, and single tasks of a run (no-op tasks).

-- Compiles pending_objects(): the dimensions, facts and aggregates whose next load has something to do. Writes schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_pending_objects()
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_pending_objects$
    SELECT etl._create_compiled(
        'pending_objects',
        '',
        E'name[]\nSTABLE',
        'Dimensions, facts and aggregates whose next load has something to do.',
        etl._render(
            $template$BEGIN
    RETURN ARRAY(
        SELECT l.object FROM etl.load_state AS l WHERE l.needs_reload OR l.loaded_batch_id IS NULL{{looks}}
    );
END$template$,
            jsonb_build_object('looks', coalesce(string_agg(
                format(E'\nUNION ALL\n(SELECT %L FROM work.%I LIMIT 1)', o.object, o.object || CASE o.kind WHEN 'aggregate' THEN '_difference' ELSE '_key' END)
                || CASE o.kind
                    WHEN 'fact' THEN format(E'\nUNION ALL\n(SELECT q.fact FROM etl.reprocessing_queue AS q WHERE q.is_ready AND q.fact = %L LIMIT 1)', o.object)
                    ELSE ''
                END,
                '' ORDER BY o.kind, o.object
            ), ''))
        )
    )
    FROM etl.object AS o
    JOIN etl.load_state AS l USING (object)
    WHERE o.kind <> 'source'
        AND NOT etl._is_to_be_declared(o.object)
$_compile_pending_objects$;

-- Whether the source is unchanged and no load has anything to do: then the warehouse is complete up to now. If that cannot be determined the
-- answer is no: the tasks find out, and record where they fail. If it is so, writes the watermarks (etl._is_source_unchanged) and etl.load_state.
CREATE OR REPLACE FUNCTION etl._is_idle()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- If a source table is locked, the extraction waits for it, which is recorded, and not the start of the run.
SET lock_timeout = '1s'
AS $_is_idle$
BEGIN
    IF EXISTS (SELECT FROM etl.task AS t WHERE t.is_enabled AND t.object = ANY (compiled.pending_objects())) OR NOT etl._is_source_unchanged() THEN
        RETURN false;
    END IF;
    UPDATE etl.load_state AS l
    SET loaded_batch_id = b.batch_id
    FROM (SELECT max(m.batch_id) FROM etl.batch AS m) AS b (batch_id)
    WHERE l.loaded_batch_id < b.batch_id
        AND EXISTS (SELECT FROM etl.task AS t WHERE t.object = l.object AND t.is_enabled);
    RETURN true;
EXCEPTION
    WHEN OTHERS THEN
        RETURN false;
END
$_is_idle$;

-- Completes those ready tasks of a run that have nothing to do, together; returns whether there were any. All upstream tasks are over, so nothing of
-- this run adds work any more: a task that is found idle is as complete as if a worker had executed it. Writes etl.task_run and etl.load_state.
CREATE OR REPLACE FUNCTION etl._complete_noop_tasks(p_run_id bigint, p_ready etl.task_run[])
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_complete_noop_tasks$
DECLARE
    -- An object that another session is requesting a refresh or a retry of is left to its load, which waits for that session.
    v_idle name[] := ARRAY(
        SELECT l.object
        FROM etl.load_state AS l
        JOIN unnest(p_ready) AS r USING (object)
        WHERE r.kind IN ('dimension', 'fact', 'aggregate')
        FOR UPDATE OF l SKIP LOCKED
    );
    v_now timestamptz := clock_timestamp();
    v_is_any boolean;
BEGIN
    IF cardinality(v_idle) > 0 THEN
        BEGIN
            v_idle := etl._without(v_idle, compiled.pending_objects());
        EXCEPTION
            WHEN OTHERS THEN
                -- The loads find out, and record where they fail.
                v_idle := '{}';
        END;
        PERFORM etl._advance_load_state(v_idle);
    END IF;
    WITH done AS (
        UPDATE etl.task_run AS t
        SET status = 'succeeded',
            attempts = t.attempts + 1,
            started_at = v_now,
            ended_at = v_now
        FROM unnest(p_ready) AS r
        WHERE t.run_id = p_run_id
            AND t.task = r.task
            AND CASE r.kind
                WHEN 'stage' THEN EXISTS (
                    -- The mirror contains the latest batch of the run already.
                    SELECT
                    FROM etl.watermark AS w
                    WHERE w.source_table = r.object
                        AND w.batch_id = (SELECT max(b.batch_id) FROM etl.batch AS b WHERE b.run_id = p_run_id)
                )
                WHEN 'maintain' THEN NOT etl._is_maintenance_due()
                ELSE r.object = ANY (v_idle) AND r.kind IN ('dimension', 'fact', 'aggregate')
            END
        RETURNING t.*
    )
    SELECT count(*) > 0
    INTO v_is_any
    FROM done AS d
    CROSS JOIN LATERAL etl._notify(d);
    RETURN v_is_any;
END
$_complete_noop_tasks$;
