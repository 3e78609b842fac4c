-- Events: notifications, and the call of the user's procedure.

-- Sends a notification about a task on channel etl_progress.
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

-- A CALL of the alert hook with three parameters, every name quoted (ET010: there is no such procedure). p_hook is a procedure's name, with or
-- without its parameter types.
CREATE OR REPLACE FUNCTION etl._hook_call(p_hook text)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_hook_call$
DECLARE
    v_call text;
BEGIN
    SELECT format('CALL %I.%I($1::text, $2::text, $3::jsonb)', n.nspname, p.proname)
    INTO v_call
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid = to_regprocedure(CASE WHEN p_hook LIKE '%(%' THEN p_hook ELSE p_hook || '(text, text, jsonb)' END)
        AND p.prokind = 'p'
        AND oidvectortypes(p.proargtypes) = 'text, text, jsonb';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the setting alert_hook names no procedure with parameters (text, text, jsonb): %', p_hook
            USING ERRCODE = 'ET010', HINT = 'Write its name with its schema, such as ops.page, or leave the setting empty.';
    END IF;
    RETURN v_call;
END
$_hook_call$;
