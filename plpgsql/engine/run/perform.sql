-- What a task does, by its kind.

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
            WHEN 'extract' THEN etl._extract(p_task.object, p_task.run_id)
            WHEN 'stage' THEN etl._stage(p_task.object, p_task.run_id)
            WHEN 'dimension' THEN etl._load_dimension(p_task.object, p_task.run_id)
            WHEN 'fact' THEN etl._load_fact(p_task.object, p_task.run_id)
            WHEN 'aggregate' THEN etl._load_aggregate(p_task.object, p_task.run_id)
            WHEN 'check' THEN etl._check_quality(p_task.run_id)
            WHEN 'maintain' THEN etl._maintain(p_task.run_id)
        END;
        r_task.status := 'succeeded';
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
                WHEN NOT v_going_on THEN 'pending'
                -- Serialization and deadlock, resources, lock not available, connection (57P0 and HV00N come from a source that is
                -- another server: shut down, crashed, starting), system error.
                WHEN r_task.attempts < r_task.max_attempts AND r_task.sqlstate ~ '^(40|53|55P03|08|57P0|58|HV00N)' THEN 'pending'
                ELSE 'failed'
            END;
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
