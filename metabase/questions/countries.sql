SELECT country
FROM kpi.country
ORDER BY country
