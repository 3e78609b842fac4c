-- Checks of every warehouse, free of any business. Those of every run read small tables only.

SELECT etl.define_check(
    'freshness',
    'warn',
    'No object is stale: no lag exceeds the setting stale_after.',
    $sql$SELECT s.kind, s.object, s.complete_until, s.lag
FROM etl.watermark_status AS s
WHERE s.is_stale$sql$,
    '0',
    NULL
);

SELECT etl.define_check(
    'queue_age',
    'warn',
    'No row in the reprocessing queue is older than the setting queue_old_after.',
    $sql$SELECT s.fact, s.dimension, s.old_entries, s.oldest
FROM etl.queue_status AS s
WHERE s.old_entries > 0$sql$,
    '0',
    NULL
);

SELECT etl.define_check(
    'quarantine_empty',
    'warn',
    'No row is in quarantine.',
    $sql$SELECT q.object, q.row_key, q.reason
FROM etl.quarantine AS q$sql$,
    '0',
    NULL
);

SELECT etl.define_check(
    'calendar_ahead',
    'warn',
    'The calendar reaches at least two years ahead. To extend it: SELECT dwh.extend_calendar(first day, last day).',
    $sql$SELECT max(d.full_date) AS last_day
FROM dwh.dim_date AS d
HAVING max(d.full_date) < current_date + interval '2 years' IS NOT FALSE$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'rows_have_keys',
    'fail',
    'No transformation view returns a row without a value in its key: such a row is not loaded.',
    $sql$SELECT r.object, r.row_count
FROM etl.keyless_rows() AS r$sql$,
    '1 day',
    NULL
);

SELECT etl.define_check(
    'aggregates_equal_facts',
    'fail',
    'Every aggregate equals the sum of its facts.',
    $sql$SELECT d.aggregate, d.group_key, d.expected, d.actual
FROM etl.aggregate_differences() AS d$sql$,
    '7 days',
    NULL
);

SELECT etl.define_check(
    'permissions_as_declared',
    'warn',
    'No role has privileges that are not declared, and the sensitivity of every column is declared.',
    $sql$SELECT 'privilege' AS kind, g.grantee AS role, format('%s on %s %s.%s', g.privilege, g.object_kind, g.schema_name, g.object_name) AS found
FROM etl.direct_grant AS g
UNION ALL
SELECT p.object_kind, NULL, format('%s.%s', p.schema_name, p.object_name)
FROM etl.permission_gap AS p
WHERE p.object_kind = 'column'$sql$,
    '1 day'
);
