SELECT count(*)
FROM etl.run
WHERE ended_at IS NOT NULL
