-- The latest run: its tasks, its seconds, and the seconds within the tasks. What is between them is the engine's scheduling.
SELECT
    count(*) AS tasks,
    extract(epoch FROM r.ended_at - r.started_at) AS seconds,
    sum(extract(epoch FROM t.ended_at - t.started_at)) AS seconds_in_tasks
FROM (
    SELECT *
    FROM etl.run
    ORDER BY run_id DESC
    LIMIT 1
) AS r
JOIN etl.task_run AS t USING (run_id)
GROUP BY
    r.run_id,
    r.started_at,
    r.ended_at
