-- The order of the tasks of a run: the task for which most work waits comes first.

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
