-- Runs, tasks, watermarks, the reprocessing queue, quarantine, and the SQL of a task.

CREATE OR REPLACE VIEW etl.run_status AS
SELECT
    r.run_id,
    CASE
        WHEN r.status = 'running'
            AND NOT EXISTS (
                SELECT
                FROM etl.worker AS w
                WHERE w.run_id = r.run_id
                    AND etl._is_live(w.pid, w.lock_key)
            )
            THEN 'interrupted'
        ELSE r.status
    END AS status,
    r.origin,
    r.only_tasks,
    r.full_refresh,
    r.resumed,
    r.started_at,
    r.ended_at,
    extract(epoch FROM coalesce(r.ended_at, clock_timestamp()) - r.started_at) AS seconds,
    t.tasks,
    t.succeeded,
    t.failed,
    t.skipped,
    t.rows_written,
    t.rows_queued,
    t.rows_quarantined,
    (
        SELECT b.compared_because
        FROM etl.batch AS b
        WHERE b.run_id = r.run_id
            AND b.compared_because IS NOT NULL
        ORDER BY b.batch_id DESC
        LIMIT 1
    ) AS compared_because
FROM etl.run AS r
CROSS JOIN LATERAL (
    SELECT
        count(*) AS tasks,
        count(*) FILTER (WHERE s.status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE s.status = 'failed') AS failed,
        count(*) FILTER (WHERE s.status = 'skipped') AS skipped,
        coalesce(sum(s.rows_inserted + s.rows_updated + s.rows_deleted) FILTER (WHERE s.kind IN ('dimension', 'fact', 'aggregate')), 0)::bigint AS rows_written,
        coalesce(sum(s.rows_queued), 0)::bigint AS rows_queued,
        coalesce(sum(s.rows_quarantined), 0)::bigint AS rows_quarantined
    FROM etl.task_run AS s
    WHERE s.run_id = r.run_id
) AS t;
COMMENT ON VIEW etl.run_status IS 'Runs with their outcome; a run whose workers died is interrupted until it is resumed.';
COMMENT ON COLUMN etl.run_status.run_id IS 'Run.';
COMMENT ON COLUMN etl.run_status.status IS 'running, interrupted, succeeded, partial or failed.';
COMMENT ON COLUMN etl.run_status.resumed IS 'How often it was resumed.';
COMMENT ON COLUMN etl.run_status.seconds IS 'Duration in seconds; up to now if it has not ended.';
COMMENT ON COLUMN etl.run_status.tasks IS 'Number of tasks.';
COMMENT ON COLUMN etl.run_status.succeeded IS 'Tasks that succeeded.';
COMMENT ON COLUMN etl.run_status.failed IS 'Tasks that failed.';
COMMENT ON COLUMN etl.run_status.skipped IS 'Tasks that were skipped because an upstream task did not succeed.';
COMMENT ON COLUMN etl.run_status.rows_written IS 'Rows inserted, updated and marked as deleted in dimensions, facts and aggregates.';

CREATE OR REPLACE VIEW etl.task_status AS
SELECT
    t.run_id,
    t.task,
    t.kind,
    t.object,
    t.status,
    t.attempts,
    t.started_at,
    t.ended_at,
    extract(epoch FROM coalesce(t.ended_at, CASE WHEN t.status = 'running' THEN clock_timestamp() END) - t.started_at) AS seconds,
    t.rows_read,
    t.rows_inserted,
    t.rows_updated,
    t.rows_deleted,
    t.rows_queued,
    t.rows_quarantined,
    t.sqlstate,
    t.message,
    t.detail,
    t.hint,
    t.context,
    t.position,
    CASE WHEN t.status = 'running' THEN etl.describe_sessions(pg_blocking_pids(t.worker_pid)) END AS waits_for
FROM etl.task_run AS t
WHERE t.run_id = (SELECT max(r.run_id) FROM etl.run AS r);
COMMENT ON VIEW etl.task_status IS 'Tasks of the latest run; order them by position.';
COMMENT ON COLUMN etl.task_status.run_id IS 'Run.';
COMMENT ON COLUMN etl.task_status.seconds IS 'Duration of the last attempt in seconds; up to now if it is running.';
COMMENT ON COLUMN etl.task_status.position IS 'Order of the tasks.';
COMMENT ON COLUMN etl.task_status.waits_for IS 'Sessions that hold a lock for which the task waits; NULL if it does not wait.';

CREATE OR REPLACE VIEW etl.watermark_status AS
SELECT
    'source table' AS kind,
    s.source_table AS object,
    w.batch_id,
    w.read_at AS complete_until,
    clock_timestamp() - w.read_at AS lag,
    w.read_at IS NULL OR clock_timestamp() - w.read_at > (SELECT etl.get_setting('stale_after')::interval) AS is_stale
FROM etl.source_table AS s
LEFT JOIN etl.watermark AS w USING (source_table)
UNION ALL
SELECT
    t.kind,
    l.object,
    l.loaded_batch_id,
    b.read_at,
    clock_timestamp() - b.read_at,
    b.read_at IS NULL OR clock_timestamp() - b.read_at > (SELECT etl.get_setting('stale_after')::interval)
FROM etl.load_state AS l
JOIN etl.task AS t ON t.object = l.object AND t.kind IN ('dimension', 'fact', 'aggregate')
LEFT JOIN etl.batch AS b ON b.batch_id = l.loaded_batch_id;
COMMENT ON VIEW etl.watermark_status IS 'Watermark of each source table, dimension, fact and aggregate.';
COMMENT ON COLUMN etl.watermark_status.kind IS 'source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.watermark_status.object IS 'Its name.';
COMMENT ON COLUMN etl.watermark_status.batch_id IS 'Watermark: last batch that it contains.';
COMMENT ON COLUMN etl.watermark_status.complete_until IS 'Time of the source up to which it is complete.';
COMMENT ON COLUMN etl.watermark_status.lag IS 'Time that has passed since.';
COMMENT ON COLUMN etl.watermark_status.is_stale IS 'Whether the lag exceeds the setting stale_after.';

CREATE OR REPLACE VIEW etl.queue_status AS
SELECT
    q.fact,
    q.dimension,
    count(*) AS entries,
    count(*) FILTER (WHERE q.is_ready) AS ready,
    min(q.queued_at) AS oldest,
    clock_timestamp() - min(q.queued_at) AS age,
    count(*) FILTER (WHERE clock_timestamp() - q.queued_at > etl.get_setting('queue_old_after')::interval) AS old_entries
FROM etl.reprocessing_queue AS q
GROUP BY q.fact, q.dimension;
COMMENT ON VIEW etl.queue_status IS 'Depth and age of the reprocessing queue.';
COMMENT ON COLUMN etl.queue_status.dimension IS 'Dimension whose member is missing or outdated.';
COMMENT ON COLUMN etl.queue_status.entries IS 'Number of entries.';
COMMENT ON COLUMN etl.queue_status.ready IS 'Entries that the next load retries.';
COMMENT ON COLUMN etl.queue_status.oldest IS 'When the oldest entry was queued.';
COMMENT ON COLUMN etl.queue_status.age IS 'Age of the oldest entry.';
COMMENT ON COLUMN etl.queue_status.old_entries IS 'Entries older than the setting queue_old_after.';

CREATE OR REPLACE VIEW etl.quarantine_status AS
SELECT
    q.object,
    count(*) AS row_count,
    min(q.quarantined_at) AS oldest,
    clock_timestamp() - min(q.quarantined_at) AS age,
    -- A role that may not read rows of the source sees the error without values.
    CASE
        WHEN has_column_privilege('etl.quarantine', 'reason', 'SELECT') THEN (array_agg(q.reason ORDER BY q.tried_at DESC))[1]
        ELSE (array_agg(etl._without_values(q.sqlstate, q.reason) ORDER BY q.tried_at DESC))[1]
    END AS latest_reason,
    count(*) FILTER (WHERE q.accepted_at IS NOT NULL) AS accepted
FROM etl.quarantine AS q
GROUP BY q.object;
COMMENT ON VIEW etl.quarantine_status IS 'Rows in quarantine, by object.';
COMMENT ON COLUMN etl.quarantine_status.row_count IS 'Number of rows.';
COMMENT ON COLUMN etl.quarantine_status.oldest IS 'When the oldest row went to quarantine.';
COMMENT ON COLUMN etl.quarantine_status.age IS 'Age of the oldest.';
COMMENT ON COLUMN etl.quarantine_status.latest_reason IS 'Why the latest row cannot be loaded; without its values if the reader may not see them.';
COMMENT ON COLUMN etl.quarantine_status.accepted IS 'How many of them have been accepted (etl.accept_quarantine).';

-- p_object is a source table, dimension, fact or aggregate, or the name of a task.
CREATE OR REPLACE FUNCTION etl.object_sql(p_object text)
RETURNS TABLE (step integer, title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $object_sql$
BEGIN
    RETURN QUERY
    SELECT row_number() OVER (ORDER BY t.position, s.position, s.title)::integer, t.task || ' - ' || s.title, s.statement
    FROM etl.task AS t
    CROSS JOIN LATERAL (
        SELECT c.position, 'compiled.' || p.proname AS title, pg_get_functiondef(p.oid) AS statement
        FROM (
            VALUES
                ('extract', 'fill_', 1), ('extract', 'compare_', 1), ('extract', 'extract_', 1), ('stage', 'merge_', 1), ('dimension', 'load_', 1),
                ('dimension', 'plan_', 2), ('fact', 'load_', 1), ('fact', 'plan_', 2), ('fact', 'contribute_', 3), ('aggregate', 'load_', 1),
                ('aggregate', 'contribute_', 3)
        ) AS c (kind, prefix, position)
        JOIN pg_proc AS p ON p.pronamespace = 'compiled'::regnamespace AND p.proname = c.prefix || t.object
        WHERE c.kind = t.kind
        UNION ALL
        SELECT 1, q.check_name, q.query FROM etl.quality_check AS q WHERE t.kind = 'check'
        UNION ALL
        SELECT 1, e.title, e.statement FROM etl._maintenance_sql() AS e WHERE t.kind = 'maintain'
    ) AS s
    WHERE p_object IN (t.task, t.object)
    ORDER BY 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no task or object "%"', p_object
            USING ERRCODE = 'ET002', HINT = 'To list the objects, run: oceanrecords ls.';
    END IF;
END
$object_sql$;
COMMENT ON FUNCTION etl.object_sql(text) IS 'The SQL that the tasks of an object execute, in order; error ET002 if there is no such object or task.';
