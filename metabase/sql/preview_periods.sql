-- Periods that a page offers. A file has the quarters and months of the last year, a served page has all of them.
-- Parameters: is_served.
SELECT
    kind,
    period,
    first_day,
    last_day
FROM kpi.period
WHERE kind = 'preset'
    OR %(is_served)s
    OR last_day >= (
        SELECT whole_until - interval '1 year'
        FROM kpi.freshness
    )
ORDER BY position, first_day DESC
