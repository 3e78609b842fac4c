-- Seconds that the latest run took; NULL when it did not succeed.
SELECT CASE WHEN r.status = 'succeeded' THEN extract(epoch FROM r.ended_at - r.started_at) END
FROM etl.run AS r
ORDER BY r.run_id DESC
LIMIT 1
