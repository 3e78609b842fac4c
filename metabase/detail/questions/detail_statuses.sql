SELECT DISTINCT status_name AS status
FROM analysis.dim_status
WHERE status_key > 0
ORDER BY status_name
