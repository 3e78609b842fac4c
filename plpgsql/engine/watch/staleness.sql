-- Freshness of the warehouse, and alerts.
--
-- An alert is a row of etl.alert, a notification on channel etl_alert, and a call of the hook, a procedure of the user. The hook runs in the
-- engine's transaction, inside an exception guard: its failure is recorded and stops nothing.

-- An age as people say it, such as 6 minutes: in the largest unit of which it has two.
CREATE OR REPLACE FUNCTION etl._in_words(p_age interval)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_in_words$
    SELECT format('%s %s%s', a.units, a.unit, CASE a.units WHEN 1 THEN '' ELSE 's' END)
    FROM (
        SELECT u.unit, u.seconds, trunc(extract(epoch FROM p_age) / u.seconds) AS units
        FROM (VALUES ('day', 86400), ('hour', 3600), ('minute', 60), ('second', 1)) AS u (unit, seconds)
    ) AS a
    WHERE a.units >= 2
        OR a.seconds = 1
    ORDER BY a.seconds DESC
    LIMIT 1
$_in_words$;

CREATE OR REPLACE VIEW etl.staleness AS
SELECT
    w.complete_until,
    clock_timestamp() - w.complete_until AS age,
    etl.get_setting('stale_after')::interval AS stale_after,
    -- A warehouse without declarations is not stale.
    w.is_declared AND (w.complete_until IS NULL OR clock_timestamp() - w.complete_until > etl.get_setting('stale_after')::interval) AS is_stale,
    s.run_id AS last_success_run_id,
    s.ended_at AS last_success_at,
    f.run_id AS last_failure_run_id,
    f.status AS last_failure_status,
    f.ended_at AS last_failure_at,
    (
        SELECT count(*)
        FROM etl.run AS r
        WHERE r.status IN ('partial', 'failed')
            AND r.run_id > coalesce(s.run_id, 0)
    ) AS consecutive_failures
FROM (
    -- The oldest object counts. If an object was never loaded, the age is unknown.
    SELECT CASE WHEN bool_and(m.complete_until IS NOT NULL) THEN min(m.complete_until) END AS complete_until, count(*) > 0 AS is_declared
    FROM etl.watermark_status AS m
) AS w
LEFT JOIN LATERAL (
    SELECT r.run_id, r.ended_at
    FROM etl.run AS r
    WHERE r.status = 'succeeded'
    ORDER BY r.run_id DESC
    LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT r.run_id, r.status, r.ended_at
    FROM etl.run AS r
    WHERE r.status IN ('partial', 'failed')
    ORDER BY r.run_id DESC
    LIMIT 1
) AS f ON true;
COMMENT ON VIEW etl.staleness IS 'Freshness of the warehouse, and the last runs that succeeded and failed. One row.';
COMMENT ON COLUMN etl.staleness.complete_until IS 'Time of the source up to which every object is complete; NULL if an object was never loaded.';
COMMENT ON COLUMN etl.staleness.age IS 'Lag: time that has passed since.';
COMMENT ON COLUMN etl.staleness.stale_after IS 'Limit of the lag: setting stale_after.';
COMMENT ON COLUMN etl.staleness.is_stale IS 'Whether the lag exceeds the limit, or is unknown.';
COMMENT ON COLUMN etl.staleness.last_success_run_id IS 'Last run that succeeded.';
COMMENT ON COLUMN etl.staleness.last_success_at IS 'When that ended.';
COMMENT ON COLUMN etl.staleness.last_failure_run_id IS 'Last run that ended partial or failed.';
COMMENT ON COLUMN etl.staleness.last_failure_status IS 'Status of that run.';
COMMENT ON COLUMN etl.staleness.last_failure_at IS 'When that ended.';
COMMENT ON COLUMN etl.staleness.consecutive_failures IS 'Runs that did not succeed since the last success.';

-- Raises an alert: records it, notifies channel etl_alert, calls the hook. p_kind is run, check or stale, p_message one sentence, p_details the same
-- for programs.
CREATE OR REPLACE FUNCTION etl._alert(p_kind text, p_message text, p_details jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_alert$
DECLARE
    r_alert etl.alert;
BEGIN
    INSERT INTO etl.alert (kind, message, details, hook)
    VALUES (p_kind, p_message, p_details, nullif(trim(etl.get_setting('alert_hook')), ''))
    RETURNING * INTO r_alert;
    -- A notification holds 8000 bytes at most.
    PERFORM pg_notify('etl_alert', jsonb_build_object(
        'alert_id', r_alert.alert_id,
        'kind', p_kind,
        'message', left(p_message, 500),
        'details', CASE WHEN octet_length(p_details::text) < 4000 THEN p_details END
    )::text);
    IF r_alert.hook IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        -- With the privileges of the role that set it, if they are bound (etl._bind_hook).
        EXECUTE CASE
            WHEN obj_description(to_regprocedure('audit._call_hook(text, text, jsonb)'), 'pg_proc') = r_alert.hook THEN 'SELECT audit._call_hook($1, $2, $3)'
            ELSE etl._hook_call(r_alert.hook)
        END
        USING p_kind, p_message, p_details;
    EXCEPTION
        -- The run goes on whatever the hook does, even after a timeout or a cancellation.
        WHEN query_canceled OR assert_failure OR OTHERS THEN
            GET STACKED DIAGNOSTICS r_alert.hook_sqlstate = RETURNED_SQLSTATE, r_alert.hook_error = MESSAGE_TEXT;
    END;
    IF r_alert.hook_sqlstate IS NOT NULL THEN
        UPDATE etl.alert AS a
        SET hook_sqlstate = r_alert.hook_sqlstate,
            hook_error = r_alert.hook_error
        WHERE a.alert_id = r_alert.alert_id;
    END IF;
END
$_alert$;

-- Raises an alert if the warehouse is stale; not before the first run has succeeded.
CREATE OR REPLACE FUNCTION etl._alert_if_stale()
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_alert_if_stale$
    SELECT etl._alert(
        'stale',
        format(
            'The warehouse %s; limit: %s.',
            coalesce('is ' || etl._in_words(s.age) || ' old', 'holds an object that has never been loaded'), etl._in_words(s.stale_after)
        ),
        to_jsonb(s)
    )
    FROM etl.staleness AS s
    WHERE s.is_stale
        AND EXISTS (SELECT FROM etl.run AS r WHERE r.status = 'succeeded')
$_alert_if_stale$;

-- Rows that a run put or left in quarantine and that are not accepted, if they are more than the setting
-- quarantine_tolerated, by object.
CREATE OR REPLACE FUNCTION etl._left_out(p_run_id bigint)
RETURNS TABLE (object name, row_count bigint)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_left_out$
    SELECT q.object, count(*)
    FROM etl.quarantine AS q
    WHERE q.run_id = p_run_id
        AND q.accepted_at IS NULL
    GROUP BY q.object
    HAVING count(*) > etl.get_setting('quarantine_tolerated')::bigint
$_left_out$;

-- Raises an alert for a run that ended partial or failed.
CREATE OR REPLACE FUNCTION etl._alert_run(p_run etl.run)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_alert_run$
DECLARE
    v_tasks jsonb;
BEGIN
    IF p_run.status NOT IN ('partial', 'failed') THEN
        RETURN;
    END IF;
    SELECT coalesce(jsonb_agg(
        jsonb_build_object('task', t.task, 'status', t.status, 'sqlstate', t.sqlstate, 'message', left(t.message, 500))
        ORDER BY t.position
    ), '[]')
    INTO v_tasks
    FROM etl.task_run AS t
    WHERE t.run_id = p_run.run_id
        AND t.status <> 'succeeded';
    PERFORM etl._alert(
        'run',
        format('Run %s ended %s: %s.', p_run.run_id, p_run.status, concat_ws(
            '; ',
            (
                SELECT string_agg(format('%s %s', o.value ->> 'task', o.value ->> 'status'), ', ' ORDER BY o.position)
                FROM jsonb_array_elements(v_tasks) WITH ORDINALITY AS o (value, position)
                WHERE o.position <= 5
            ) || CASE WHEN jsonb_array_length(v_tasks) > 5 THEN format(' and %s more', jsonb_array_length(v_tasks) - 5) ELSE '' END,
            (SELECT 'in quarantine: ' || string_agg(format('%s of %s', o.row_count, o.object), ', ' ORDER BY o.object) FROM etl._left_out(p_run.run_id) AS o)
        )),
        jsonb_build_object('run_id', p_run.run_id, 'status', p_run.status, 'tasks', v_tasks, 'quarantined', (
            SELECT coalesce(jsonb_object_agg(o.object, o.row_count), '{}')
            FROM etl._left_out(p_run.run_id) AS o
        ))
    );
END
$_alert_run$;
