-- The graph of tasks: one task per step of an object, and an edge where one waits for another.

-- Derives tasks and edges from the catalog: a source table is extracted, then staged; a dimension or fact is loaded after the stage tasks that it
-- depends on succeeded; a fact after its dimensions have ended, however they ended, and after the facts succeeded that an enforced foreign key of its
-- table refers to; an aggregate after the facts or the finer aggregate that feed it; checks after everything else has ended, maintenance after the
-- checks. Among tasks that are free the order is that of their kinds along this graph, then of their names, on a cluster the tables on several nodes
-- last. Settings of a task (max_attempts, is_enabled) are kept.
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
        SELECT o.kind || ':' || o.object, o.kind, o.object
        FROM etl.object AS o
        WHERE o.kind <> 'source'
            AND o.view_name IS NOT NULL
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
        SELECT 'stage:' || s.source_table AS task, 'extract:' || s.source_table AS predecessor, 'success' AS wait_for
        FROM etl.source_table AS s
        UNION ALL
        SELECT t.task, 'stage:' || p.source_table, 'success'
        FROM etl.dependency AS p
        JOIN etl.task AS t ON t.object = p.object AND t.kind IN ('dimension', 'fact')
        UNION
        SELECT 'fact:' || k.fact, t.task, 'end'
        FROM etl.fact_dimension AS k
        JOIN etl.task AS t ON t.kind = 'dimension' AND t.object = k.dimension
        UNION
        SELECT 'fact:' || f.fact, 'fact:' || referenced.fact, 'success'
        FROM etl.fact AS f
        JOIN pg_constraint AS c ON c.conrelid = f.fact_table AND c.contype = 'f'
        JOIN etl.fact AS referenced ON referenced.fact_table = c.confrelid AND referenced.fact <> f.fact
        -- From PostgreSQL 18 on a foreign key may be declared without being enforced.
        WHERE coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
        UNION
        SELECT 'aggregate:' || l.aggregate, 'fact:' || l.fact, 'end'
        FROM etl.aggregate_fact AS l
        UNION
        SELECT 'aggregate:' || a.aggregate, 'aggregate:' || a.finer_aggregate, 'end'
        FROM etl.aggregate AS a
        WHERE a.finer_aggregate IS NOT NULL
        UNION
        SELECT 'check:quality', t.task, 'end'
        FROM etl.task AS t
        WHERE t.kind IN ('stage', 'dimension', 'fact', 'aggregate')
        UNION
        VALUES ('maintain:history', 'check:quality', 'end')
    ),
    removed AS (
        DELETE FROM etl.task_edge AS e
        WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.task = e.task AND w.predecessor = e.predecessor)
    )
    INSERT INTO etl.task_edge AS e (task, predecessor, wait_for)
    SELECT w.task, w.predecessor, w.wait_for
    FROM wanted AS w
    ON CONFLICT (task, predecessor) DO NOTHING;

    UPDATE etl.task AS t
    SET position = p.position
    FROM (
        -- Tables on several nodes are extracted last: the savepoints of those before need not reach the nodes.
        SELECT k.task, b.base + row_number() OVER (
                PARTITION BY k.kind
                ORDER BY (SELECT bool_or(etl._is_distributed(o.table_name)) FROM etl.object AS o WHERE o.object = k.object), k.object
            )
        FROM etl.task AS k
        JOIN (
            VALUES ('extract', 1000), ('stage', 2000), ('dimension', 3000), ('fact', 4000), ('aggregate', 5000), ('check', 6000), ('maintain', 7000)
        ) AS b (kind, base) USING (kind)
    ) AS p (task, position)
    WHERE t.task = p.task
        AND t.position <> p.position;
END
$_build_tasks$;
