-- The statements of compiled routines, planned at build: the build reports what PostgreSQL refuses, not the first run.

-- Refuses declarations whose statements PostgreSQL cannot plan: a key query of the wrong shape, a lookup by another type, a value that cannot be
-- cast, a measure that cannot be summed.
-- Errors: ET003.
CREATE OR REPLACE FUNCTION etl._check_plans()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_plans$
BEGIN
    PERFORM etl._refuse_unplannable(
        p.object, format('its key query for "%s" does not return its business key (%s)', p.source_table, etl._list(o.business_key)),
        etl._render(
            $template$WITH changed AS (
    SELECT *
    FROM {{delta}}
)
SELECT {{w.key}}
FROM {{key_table}} AS w
UNION ALL
(
    {{query}}
)$template$,
            jsonb_build_object(
                'delta', format('delta.%I', p.source_table), 'query', p.key_query, 'key', to_jsonb(o.business_key),
                'key_table', format('work.%I', p.object || '_key')
            )
        ),
        'Write a SELECT that returns the business key, column by column, from "changed" (the changed rows, before and after).'
    )
    FROM etl.dependency AS p
    JOIN (
        SELECT d.dimension, d.business_key FROM etl.dimension AS d WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT f.fact, f.business_key FROM etl.fact AS f
    ) AS o (object, business_key) USING (object)
    WHERE NOT etl._is_to_be_declared(p.object);

    PERFORM etl._refuse_unplannable(
        d.dimension, 'its transformation cannot be loaded',
        etl._expected_dimension_sql(
            d.dimension, format('work.%I', d.dimension || '_key'), p_arguments => '{"run_id": "0::bigint", "now": "now()", "batch_at": "now()"}'
        ),
        'Correct the view or the declaration.'
    )
    FROM etl.dimension AS d
    WHERE d.transform_view IS NOT NULL
        AND NOT etl._is_to_be_declared(d.dimension);

    PERFORM etl._refuse_unplannable(f.fact, 'its transformation cannot be loaded', etl._expected_fact_sql(f.fact, 'true'), 'Correct the view or the declaration.')
    FROM etl.fact AS f
    WHERE NOT etl._is_to_be_declared(f.fact);

    PERFORM etl._refuse_unplannable(
        a.aggregate, 'its groups cannot be summed',
        format(
            'SELECT %s FROM (%s) AS e FULL JOIN %s AS a USING (%s)',
            etl._list(a.measures, 'coalesce(e.%1$I, 0) - coalesce(a.%1$I, 0)'), etl._expected_aggregate_sql(a.aggregate), a.aggregate_table, etl._list(a.group_key)
        ),
        'Measures must be numbers, and the group key must have an equality.'
    )
    FROM etl.aggregate AS a
    WHERE NOT etl._is_to_be_declared(a.aggregate);
END
$_check_plans$;
