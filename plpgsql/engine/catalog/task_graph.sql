-- The graph of tasks: one task per step of an object, and an edge where one waits for another.

/*
Orders tasks by their critical path: what most work waits for comes first, so that workers end together.
Parameters: p_tasks, the tasks; p_weights, how much work each is, in any unit.
Returns:    the tasks and their places, from 1.
Source:     list scheduling by critical path: R. L. Graham, Bounds on Multiprocessing Timing Anomalies, 1969.
*/
CREATE OR REPLACE FUNCTION etl._critical_path(p_tasks text[], p_weights bigint[])
RETURNS TABLE (task text, place bigint)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_critical_path$
    WITH RECURSIVE weight (task, weight) AS (
        SELECT *
        FROM unnest(p_tasks, p_weights)
    ),
    path (task, weight) AS (
        SELECT w.task, w.weight
        FROM weight AS w
        UNION
        SELECT w.task, p.weight + w.weight
        FROM path AS p
        JOIN etl.task_edge AS e ON e.task = p.task
        JOIN weight AS w ON w.task = e.predecessor
    )
    SELECT p.task, row_number() OVER (ORDER BY max(p.weight) DESC, p.task)
    FROM path AS p
    GROUP BY p.task
$_critical_path$;
COMMENT ON FUNCTION etl._critical_path(text[], bigint[]) IS 'Orders tasks by their critical path: what most work waits for comes first.';

/*
Whether a transformation view is made of mirrors alone, as far as PostgreSQL can tell: then what it gives is settled when they are merged,
whatever is loaded meanwhile. Not when it reads a star, or calls a function that is not the engine's: nobody knows what that reads.
Parameters: p_view, the view; views that it reads are followed.
*/
CREATE OR REPLACE FUNCTION etl._reads_mirrors_only(p_view regclass)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reads_mirrors_only$
    WITH RECURSIVE reads (classid, objid) AS (
        SELECT 'pg_class'::regclass::oid, p_view::oid
        UNION
        SELECT d.refclassid, d.refobjid
        FROM reads AS v
        JOIN pg_rewrite AS w ON v.classid = 'pg_class'::regclass AND w.ev_class = v.objid
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
    )
    SELECT NOT EXISTS (
        SELECT
        FROM reads AS r
        LEFT JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        LEFT JOIN pg_proc AS f ON r.classid = 'pg_proc'::regclass AND f.oid = r.objid
        WHERE c.relkind NOT IN ('v', 'S') AND c.relnamespace::regnamespace::text <> ALL ('{stage,etl}')
            OR f.pronamespace::regnamespace::text <> 'etl'
    )
$_reads_mirrors_only$;
COMMENT ON FUNCTION etl._reads_mirrors_only(regclass) IS 'Whether a transformation view is made of mirrors alone, as far as PostgreSQL can tell.';

/*
Derives tasks and edges from the catalog: a source table is extracted, then staged; a dimension or fact
is loaded after the stage tasks that it depends on succeeded; a fact after its dimensions have ended, however they ended, and after the
facts that its table refers to succeeded; an aggregate after the facts or the finer aggregate that feed it; checks after everything else has
ended, maintenance after the checks.
Writes: etl.task, etl.task_edge. Settings of a task (max_attempts, is_enabled) are kept.
*/
CREATE OR REPLACE FUNCTION etl._build_tasks()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_build_tasks$
BEGIN
    WITH wanted AS (
        SELECT k.kind || ':' || s.source_table AS task, k.kind, s.source_table AS object
        FROM etl.source_table AS s
        CROSS JOIN (VALUES ('extract'), ('stage')) AS k (kind)
        UNION ALL
        SELECT 'dimension:' || d.dimension, 'dimension', d.dimension
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT 'fact:' || f.fact, 'fact', f.fact
        FROM etl.fact AS f
        UNION ALL
        SELECT 'aggregate:' || a.aggregate, 'aggregate', a.aggregate
        FROM etl.aggregate AS a
        UNION ALL
        VALUES ('check:quality', 'check', 'quality'), ('maintain:history', 'maintain', 'history')
    ),
    removed AS (
        DELETE FROM etl.task AS t
        WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.task = t.task)
    )
    INSERT INTO etl.task (task, kind, object, position)
    SELECT w.task, w.kind, w.object, 0
    FROM wanted AS w
    ON CONFLICT (task) DO NOTHING;

    WITH wanted AS (
        SELECT 'stage:' || s.source_table AS task, 'extract:' || s.source_table AS predecessor, 'success' AS wait_for, false AS may_overlap
        FROM etl.source_table AS s
        UNION ALL
        SELECT t.task, 'stage:' || p.source_table, 'success', false
        FROM etl.dependency AS p
        JOIN etl.task AS t ON t.object = p.object AND t.kind IN ('dimension', 'fact')
        UNION
        SELECT 'fact:' || k.fact, t.task, 'end', false
        FROM etl.fact_dimension AS k
        JOIN etl.task AS t ON t.kind = 'dimension' AND t.object = k.dimension
        UNION
        SELECT 'fact:' || f.fact, 'fact:' || referenced.fact, 'success', false
        FROM etl.fact AS f
        -- Before version 18 every foreign key is enforced, and the column is not there.
        JOIN pg_constraint AS c ON c.conrelid = f.fact_table AND c.contype = 'f' AND to_jsonb(c) -> 'conenforced' IS DISTINCT FROM 'false'
        JOIN etl.fact AS referenced ON referenced.fact_table = c.confrelid AND referenced.fact <> f.fact
        UNION
        SELECT 'aggregate:' || l.aggregate, 'fact:' || l.fact, 'end', false
        FROM etl.aggregate_fact AS l
        UNION
        SELECT 'aggregate:' || a.aggregate, 'aggregate:' || a.finer_aggregate, 'end', false
        FROM etl.aggregate AS a
        WHERE a.finer_aggregate IS NOT NULL
        UNION
        SELECT 'check:quality', t.task, 'end', false
        FROM etl.task AS t
        WHERE t.kind IN ('stage', 'dimension', 'fact', 'aggregate')
        UNION
        VALUES ('maintain:history', 'check:quality', 'end', false)
    ),
    removed AS (
        DELETE FROM etl.task_edge AS e
        WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.task = e.task AND w.predecessor = e.predecessor)
    )
    INSERT INTO etl.task_edge AS e (task, predecessor, wait_for, may_overlap)
    SELECT w.task, w.predecessor, w.wait_for, w.may_overlap
    FROM wanted AS w
    ON CONFLICT (task, predecessor) DO UPDATE
    SET may_overlap = excluded.may_overlap
    WHERE e.may_overlap <> excluded.may_overlap;

    UPDATE etl.task AS t
    SET position = p.position
    FROM (
        SELECT k.task, b.base + row_number() OVER (PARTITION BY k.kind ORDER BY k.object)
        FROM etl.task AS k
        JOIN (VALUES ('extract', 100), ('check', 600), ('maintain', 700)) AS b (kind, base) USING (kind)
        UNION ALL
        SELECT c.task, 200 + c.place
        FROM (
            -- What a run will find to do is not known before; to merge a table is about half of loading what depends on it.
            SELECT array_agg(l.task) AS tasks, array_agg(CASE l.kind WHEN 'stage' THEN 1 ELSE 2 END::bigint) AS weights
            FROM etl.task AS l
            WHERE l.kind IN ('stage', 'dimension', 'fact', 'aggregate')
        ) AS w
        CROSS JOIN LATERAL etl._critical_path(w.tasks, w.weights) AS c
    ) AS p (task, position)
    WHERE t.task = p.task
        AND t.position <> p.position;
END
$_build_tasks$;
COMMENT ON FUNCTION etl._build_tasks() IS 'Derives tasks and their edges from the catalog.';
