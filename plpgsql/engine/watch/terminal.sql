-- What the command line shows: objects with their place in the graph, failing tasks, problems, and the verdict on the warehouse's health.

CREATE OR REPLACE VIEW etl.object_status AS
WITH edge AS (
    SELECT DISTINCT p.object AS upstream, t.object AS downstream
    FROM etl.task_edge AS e
    JOIN etl.task AS t ON t.task = e.task AND t.kind NOT IN ('check', 'maintain')
    JOIN etl.task AS p ON p.task = e.predecessor AND p.object <> t.object
)
SELECT
    o.object,
    k.kind,
    n.nspname AS layer,
    c.relname AS table_name,
    coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0)::bigint, 0) AS row_estimate,
    w.batch_id,
    w.complete_until,
    coalesce(w.is_stale, t.position IS NOT NULL) AS is_stale,
    array(SELECT e.upstream FROM edge AS e
        WHERE e.downstream = o.object
        ORDER BY e.upstream) AS upstream,
    array(SELECT e.downstream FROM edge AS e
        WHERE e.upstream = o.object
        ORDER BY e.downstream) AS downstream,
    array(SELECT m.tag FROM etl.object_tag AS m
        WHERE m.object = o.object
        ORDER BY m.tag) AS tags,
    t.position,
    p.placement
FROM etl.object AS o
CROSS JOIN LATERAL (SELECT CASE o.kind WHEN 'source' THEN 'source table' ELSE o.kind END AS kind) AS k
LEFT JOIN etl.object_placement AS p ON p.object = o.object AND p.kind = o.kind
LEFT JOIN pg_class AS c ON c.oid = o.table_name
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN etl.watermark_status AS w ON w.object = o.object AND w.kind = k.kind
LEFT JOIN (
    SELECT m.object, min(m.position) AS position
    FROM etl.task AS m
    WHERE m.kind <> 'extract'
    GROUP BY m.object
) AS t ON t.object = o.object;
-- Version 1.0.0 had a view of the edges, which etl.object_status read.
DROP VIEW IF EXISTS etl.object_edge;
COMMENT ON VIEW etl.object_status IS 'Source tables, dimensions, facts and aggregates: number of rows, watermark, and neighbours in the graph.';
COMMENT ON COLUMN etl.object_status.object IS 'Name.';
COMMENT ON COLUMN etl.object_status.kind IS 'source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.object_status.layer IS 'Schema of the table.';
COMMENT ON COLUMN etl.object_status.table_name IS 'Table of the warehouse that holds its rows.';
COMMENT ON COLUMN etl.object_status.row_estimate IS 'Number of rows according to the server''s statistics.';
COMMENT ON COLUMN etl.object_status.batch_id IS 'Watermark: last batch that it contains; NULL if it was never loaded.';
COMMENT ON COLUMN etl.object_status.complete_until IS 'Timestamp of the source up to which it is complete.';
COMMENT ON COLUMN etl.object_status.is_stale IS 'Whether a task loads it, and its lag exceeds the setting stale_after or it was never loaded.';
COMMENT ON COLUMN etl.object_status.upstream IS 'Objects that it is loaded from.';
COMMENT ON COLUMN etl.object_status.downstream IS 'Objects that are loaded from it.';
COMMENT ON COLUMN etl.object_status.tags IS 'Its tags, see etl.object_tag.';
COMMENT ON COLUMN etl.object_status.position IS 'Order of the objects.';
COMMENT ON COLUMN etl.object_status.placement IS 'Where its table is, or would be, on a cluster: distributed, reference or local.';

CREATE OR REPLACE VIEW etl.failing_task AS
SELECT t.task, t.kind, t.object, t.run_id, t.ended_at AS failed_at, t.attempts, t.sqlstate, t.message, t.detail, t.hint
FROM (
    SELECT DISTINCT ON (r.task) r.*
    FROM etl.task_run AS r
    WHERE r.status = 'failed'
    ORDER BY r.task, r.run_id DESC
) AS t
JOIN etl.task AS k ON k.task = t.task
WHERE k.is_enabled
    AND NOT EXISTS (
        SELECT
        FROM etl.task_run AS s
        WHERE s.run_id > t.run_id
            AND s.task = t.task
            AND s.status = 'succeeded'
    )
    -- A run with nothing new records no tasks.
    AND NOT EXISTS (
        SELECT
        FROM etl.run AS r
        WHERE r.run_id > t.run_id
            AND r.status = 'succeeded'
            AND r.only_tasks IS NULL
    );
COMMENT ON VIEW etl.failing_task IS 'Tasks whose last outcome is a failure, also when later runs did not include them.';
COMMENT ON COLUMN etl.failing_task.task IS 'Task.';
COMMENT ON COLUMN etl.failing_task.run_id IS 'Run in which it failed last.';
COMMENT ON COLUMN etl.failing_task.failed_at IS 'When that was.';
COMMENT ON COLUMN etl.failing_task.attempts IS 'Attempts in that run.';
COMMENT ON COLUMN etl.failing_task.message IS 'Error message.';

CREATE OR REPLACE VIEW etl.problem AS
SELECT
    'stale' AS kind,
    NULL::text AS object,
    CASE
        WHEN s.age IS NULL THEN 'an object was never loaded'
        ELSE format('complete until %s UTC; limit: %s', to_char(s.complete_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), etl._in_words(s.stale_after))
    END AS message,
    'Run: oceanrecords run' AS remedy
FROM etl.staleness AS s
WHERE s.is_stale
    AND EXISTS (SELECT FROM etl.run)
UNION ALL
SELECT 'run', t.object::text, format('%s failed in run %s: %s', t.task, t.run_id, t.message), 'See: oceanrecords status'
FROM etl.failing_task AS t
UNION ALL
SELECT
    'check',
    c.check_name,
    CASE c.status WHEN 'error' THEN format('its query cannot be executed: %s', c.message) ELSE format('%s violating rows', c.violations) END,
    'See: oceanrecords check'
FROM etl.check_status AS c
WHERE c.is_enabled
    AND c.severity = 'fail'
    AND c.status IN ('failed', 'error')
UNION ALL
SELECT
    'queue', q.fact::text,
    format('rows that have waited for %s for more than %s: %s', q.dimension, etl.get_setting('queue_old_after'), q.old_entries),
    format('See: oceanrecords queue --fact %s', q.fact)
FROM etl.queue_status AS q
WHERE q.old_entries > 0
UNION ALL
SELECT
    'quarantine', q.object::text,
    format('rows that have been in quarantine for more than %s: %s', etl.get_setting('queue_old_after'), count(*)),
    format('See: oceanrecords quarantine %s', q.object)
FROM etl.quarantine AS q
WHERE clock_timestamp() - q.quarantined_at > etl.get_setting('queue_old_after')::interval
    AND q.accepted_at IS NULL
GROUP BY q.object;
COMMENT ON VIEW etl.problem IS 'Problems of the warehouse; empty if it is healthy. Decides the exit status of doctor, status --fail and check --fail.';
COMMENT ON COLUMN etl.problem.kind IS 'stale, run, check, queue or quarantine.';
COMMENT ON COLUMN etl.problem.object IS 'Object or quality check; NULL for the whole warehouse.';
COMMENT ON COLUMN etl.problem.message IS 'What is wrong.';
COMMENT ON COLUMN etl.problem.remedy IS 'Command that solves it or shows more.';

CREATE OR REPLACE VIEW etl.health AS
SELECT 1 AS position, 'last run' AS topic, h.status, NULL::text AS object, h.message, h.remedy
FROM (SELECT) AS one
LEFT JOIN LATERAL (
    SELECT *
    FROM etl.run_status AS s
    ORDER BY s.run_id DESC
    LIMIT 1
) AS r ON true
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN r.status IN ('succeeded', 'running') THEN 'ok' ELSE 'warning' END,
        CASE
            WHEN r.run_id IS NULL THEN 'nothing has been loaded yet'
            ELSE format('%s %s ago (run %s)', r.status, etl._in_words(clock_timestamp() - coalesce(r.ended_at, r.started_at)), r.run_id)
        END,
        CASE
            WHEN r.run_id IS NULL THEN 'Run: oceanrecords run'
            WHEN r.status NOT IN ('succeeded', 'running') THEN 'See: oceanrecords status. Then run: oceanrecords run'
            ELSE ''
        END
) AS h (status, message, remedy)
UNION ALL
SELECT 2, 'freshness', 'ok', NULL, format('complete until %s ago; limit: %s', etl._in_words(s.age), etl._in_words(s.stale_after)), ''
FROM etl.staleness AS s
WHERE NOT s.is_stale
    AND s.age IS NOT NULL
UNION ALL
SELECT
    3,
    CASE p.kind WHEN 'stale' THEN 'freshness' WHEN 'run' THEN 'tasks' WHEN 'check' THEN 'checks' ELSE p.kind END,
    'failed', p.object, p.message, p.remedy
FROM etl.problem AS p
UNION ALL
SELECT
    4, 'checks', 'warning', c.check_name,
    CASE c.status WHEN 'error' THEN format('its query cannot be executed: %s', c.message) ELSE format('%s violating rows', c.violations) END,
    'See: oceanrecords check'
FROM etl.check_status AS c
WHERE c.is_enabled
    AND c.severity = 'warn'
    AND c.status IN ('failed', 'error')
UNION ALL
SELECT 5, 'reconciliation', h.status, NULL, h.message || format(' (%s UTC)', to_char(r.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')), h.remedy
FROM (
    SELECT *
    FROM etl.reconciliation AS l
    ORDER BY l.reconciliation_id DESC
    LIMIT 1
) AS r
CROSS JOIN LATERAL (
    SELECT
        CASE r.status WHEN 'equal' THEN 'ok' ELSE 'warning' END,
        CASE r.status
            WHEN 'equal' THEN 'source, mirrors, star schemas and aggregates agree'
            WHEN 'different' THEN format('%s differing rows', r.differences) || CASE WHEN r.repair_requested_at IS NULL THEN '' ELSE ', repair requested' END
            ELSE 'nothing differed, but not everything could be compared'
        END || coalesce('; only ' || array_to_string(r.objects, ', '), ''),
        CASE r.status WHEN 'equal' THEN '' ELSE 'Run: oceanrecords reconcile' END
) AS h (status, message, remedy)
UNION ALL
SELECT
    6, 'schedule', CASE l.outcome WHEN 'failed' THEN 'warning' ELSE 'ok' END, NULL,
    concat_ws('; ', format('every %s, %s worker(s)', s.every, s.workers), l.message),
    CASE l.outcome WHEN 'failed' THEN 'See: oceanrecords schedule history' ELSE '' END
FROM etl.schedule AS s
LEFT JOIN LATERAL (
    SELECT t.outcome, t.message
    FROM etl.scheduled_start AS t
    ORDER BY t.start_id DESC
    LIMIT 1
) AS l ON true;
COMMENT ON VIEW etl.health IS 'Verdict on the warehouse: the last run, freshness, problems (etl.problem), checks, reconciliation, schedule.';
COMMENT ON COLUMN etl.health.position IS 'Order of the rows.';
COMMENT ON COLUMN etl.health.topic IS 'last run, freshness, tasks, checks, queue, quarantine, reconciliation or schedule.';
COMMENT ON COLUMN etl.health.status IS 'ok; warning; failed for a row of etl.problem.';
COMMENT ON COLUMN etl.health.object IS 'Object or quality check; NULL for the whole warehouse.';
COMMENT ON COLUMN etl.health.message IS 'What was found.';
COMMENT ON COLUMN etl.health.remedy IS 'Command that solves it or shows more; empty if all is well.';

-- Extractions read all tables on one snapshot, and checks and the maintenance are one task each: a second worker finds no task meanwhile.
CREATE OR REPLACE FUNCTION etl.has_shared_work(p_run_id bigint)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $has_shared_work$
    SELECT EXISTS (
        SELECT
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.kind NOT IN ('extract', 'check', 'maintain')
            AND (t.status = 'running' OR t.ended_at > t.started_at)
    )
$has_shared_work$;
COMMENT ON FUNCTION etl.has_shared_work(bigint) IS 'Whether a run has tasks that a second worker can share.';
