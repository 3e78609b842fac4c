-- Data quality checks: rows of etl.quality_check, each a SELECT of the rows that violate a rule. Every run does those that are due, after its
-- loads.
--
-- The result of a check stays, also if it makes its task fail: the query does not fail, the verdict over all checks does (etl._judge_checks). A
-- check of severity fail whose query cannot be executed fails too: the rule may be violated.

-- Does one check, and returns and records the result; the run is NULL if a person does it.
CREATE OR REPLACE FUNCTION etl._do_check(p_check etl.quality_check, p_run_id bigint)
RETURNS etl.check_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_do_check$
DECLARE
    r_result etl.check_result;
    v_started_at timestamptz := clock_timestamp();
BEGIN
    BEGIN
        -- The line feed ends a comment that the query may end with.
        EXECUTE format(
            $sql$WITH violation AS MATERIALIZED (
%s
)
SELECT
    (SELECT count(*) FROM violation),
    (SELECT jsonb_agg(to_jsonb(s)) FROM (SELECT * FROM violation LIMIT 5) AS s)$sql$,
            regexp_replace(p_check.query, ';\s*(--[^\n]*\s*)*$', '')
        )
        INTO r_result.violations, r_result.sample;
        r_result.status := CASE WHEN r_result.violations = 0 THEN 'passed' ELSE 'failed' END;
    EXCEPTION
        WHEN OTHERS THEN
            r_result.status := 'error';
            r_result.violations := NULL;
            r_result.sample := NULL;
            r_result.message := format('%s (%s)', etl._without_values(SQLSTATE, SQLERRM), SQLSTATE);
    END;
    INSERT INTO etl.check_result (check_name, severity, run_id, status, violations, sample, seconds, message)
    VALUES (
        p_check.check_name, p_check.severity, p_run_id, r_result.status, r_result.violations, r_result.sample,
        extract(epoch FROM clock_timestamp() - v_started_at), r_result.message
    )
    RETURNING * INTO r_result;
    RETURN r_result;
END
$_do_check$;

-- Raises an alert if a check of severity fail did not pass; returns whether that is so.
CREATE OR REPLACE FUNCTION etl._alert_check(p_result etl.check_result)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_alert_check$
BEGIN
    IF p_result.severity <> 'fail' OR p_result.status = 'passed' THEN
        RETURN false;
    END IF;
    PERFORM etl._alert(
        'check',
        CASE p_result.status
            WHEN 'failed' THEN format('Check %s failed. Violating rows: %s.', p_result.check_name, p_result.violations)
            ELSE format('Check %s cannot be executed: %s.', p_result.check_name, p_result.message)
        END,
        -- Every role that can connect receives notifications, and auditors read alerts. Neither may see rows.
        to_jsonb(p_result) - 'sample'
    );
    RETURN true;
END
$_alert_check$;

-- Due or not. Writes etl.check_result; for a failed check of severity fail as etl._alert.
CREATE OR REPLACE FUNCTION etl.run_checks(p_checks text[] DEFAULT NULL)
RETURNS SETOF etl.check_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $run_checks$
DECLARE
    r_check etl.quality_check;
    r_result etl.check_result;
    v_name text;
BEGIN
    SELECT n.name
    INTO v_name
    FROM unnest(p_checks) AS n (name)
    WHERE NOT EXISTS (SELECT FROM etl.quality_check AS q WHERE q.check_name = n.name)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'check "%" does not exist', v_name
            USING ERRCODE = 'ET002', HINT = 'To list the checks, run: oceanrecords check.';
    END IF;
    FOR r_check IN
        SELECT *
        FROM etl.quality_check AS q
        WHERE CASE WHEN p_checks IS NULL THEN q.is_enabled ELSE q.check_name = ANY (p_checks) END
        ORDER BY q.check_name
    LOOP
        r_result := etl._do_check(r_check, NULL);
        PERFORM etl._alert_check(r_result);
        RETURN NEXT r_result;
    END LOOP;
END
$run_checks$;
COMMENT ON FUNCTION etl.run_checks(text[]) IS 'Does checks now, by default all enabled ones; returns the results. Error ET002 if a check does not exist.';

-- The checks that a run must do. NULL is a run that loads nothing; it need not repeat a check of every run that has passed.
CREATE OR REPLACE FUNCTION etl._due_checks(p_run_id bigint)
RETURNS SETOF etl.quality_check
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_due_checks$
    SELECT q.*
    FROM etl.quality_check AS q
    LEFT JOIN LATERAL (
        SELECT r.status, r.checked_at
        FROM etl.check_result AS r
        WHERE r.check_name = q.check_name
        ORDER BY r.result_id DESC
        LIMIT 1
    ) AS c ON true
    WHERE q.is_enabled
        AND (
            q.written_objects IS NULL
            OR EXISTS (
                SELECT
                FROM etl.task_run AS t
                WHERE t.run_id = p_run_id
                    AND t.object = ANY (q.written_objects)
                    AND t.rows_inserted + t.rows_updated + t.rows_deleted > 0
            )
        )
        AND CASE
            WHEN q.run_every = interval '0' THEN p_run_id IS NOT NULL OR c.status IS DISTINCT FROM 'passed'
            -- A new check is first due after one interval, so that it delays neither the initial load nor the next one.
            ELSE q.added_at <= clock_timestamp() - q.run_every
                AND (c.status IS NULL OR c.status = 'error' OR c.checked_at <= clock_timestamp() - q.run_every)
        END
    ORDER BY q.check_name
$_due_checks$;

-- Verdict over the checks of a run: its task, failed with ET011 if a check of severity fail did not pass. Raises an alert for each.
CREATE OR REPLACE FUNCTION etl._judge_checks(p_task etl.task_run)
RETURNS etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_judge_checks$
DECLARE
    r_task etl.task_run := p_task;
    r_result etl.check_result;
    v_failed text[] := ARRAY[]::text[];
BEGIN
    FOR r_result IN
        -- A run that was resumed may have done a check twice: the last result counts.
        SELECT DISTINCT ON (c.check_name) c.*
        FROM etl.check_result AS c
        WHERE c.run_id = p_task.run_id
        ORDER BY c.check_name, c.result_id DESC
    LOOP
        IF etl._alert_check(r_result) THEN
            v_failed := v_failed || CASE r_result.status
                WHEN 'failed' THEN format('%s (violating rows: %s)', r_result.check_name, r_result.violations)
                ELSE format('%s (cannot be executed: %s)', r_result.check_name, r_result.message)
            END;
        END IF;
    END LOOP;
    IF cardinality(v_failed) > 0 THEN
        r_task.status := 'failed';
        r_task.sqlstate := 'ET011';
        r_task.message := format('%s failed: %s', CASE cardinality(v_failed) WHEN 1 THEN 'a check' ELSE 'checks' END, array_to_string(v_failed, ', '));
        r_task.hint := 'To see the first violating rows, run: oceanrecords check.';
    END IF;
    RETURN r_task;
END
$_judge_checks$;

CREATE OR REPLACE VIEW etl.check_status AS
SELECT
    q.check_name,
    q.severity,
    q.description,
    q.run_every,
    q.is_enabled,
    c.status,
    c.violations,
    CASE WHEN has_column_privilege('etl.check_result', 'sample', 'SELECT') THEN c.sample END AS sample,
    c.checked_at,
    c.seconds,
    c.message,
    c.run_id
FROM etl.quality_check AS q
LEFT JOIN LATERAL (
    SELECT r.*
    FROM etl.check_result AS r
    WHERE r.check_name = q.check_name
    ORDER BY r.result_id DESC
    LIMIT 1
) AS c ON true;
COMMENT ON VIEW etl.check_status IS 'Quality checks, each with its last result.';
COMMENT ON COLUMN etl.check_status.check_name IS 'Check.';
COMMENT ON COLUMN etl.check_status.severity IS 'warn or fail.';
COMMENT ON COLUMN etl.check_status.sample IS 'The first few of them; NULL if the reader may not see rows of the source.';

-- A check that compares with the source excludes them on both sides, and so compares as of the watermark.
CREATE OR REPLACE FUNCTION etl.newer_keys(p_source_table name)
RETURNS TABLE (row_key jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $newer_keys$
DECLARE
    r_source etl.source_table;
    r_watermark etl.watermark;
    v_end xid8;
BEGIN
    SELECT *
    INTO r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no source table "%"', p_source_table
            USING ERRCODE = 'ET002', HINT = 'To list them, run: oceanrecords ls kind:source_table.';
    END IF;
    SELECT *
    INTO r_watermark
    FROM etl.watermark AS w
    WHERE w.source_table = p_source_table;
    -- A row that came with a dump has an id of another server. It may be one that this server has not handed out yet: that is no change.
    SELECT pg_snapshot_xmax(p.snapshot)
    INTO v_end
    FROM source.extraction_point AS p;

    IF r_source.change_detection <> 'comparison' THEN
        RETURN QUERY EXECUTE format(
            'SELECT %s FROM source.%I AS s WHERE %s',
            etl._json_key(r_source.key_columns, 's'), p_source_table,
            CASE r_source.change_detection
                WHEN 'snapshot' THEN format(
                    '$1 IS NULL OR (s.%1$I >= pg_snapshot_xmin($1) AND s.%1$I < $3 AND NOT pg_visible_in_snapshot(s.%1$I, $1))', r_source.change_column
                )
                ELSE format('$2 IS NULL OR s.%I >= $2', r_source.change_column)
            END
        )
        USING r_watermark.snapshot, r_watermark.read_at, v_end;
    END IF;
    IF r_source.delete_detection = 'tombstone' AND r_watermark.snapshot IS NOT NULL THEN
        RETURN QUERY
        SELECT t.row_key
        FROM source.tombstones AS t
        WHERE t.table_name = p_source_table
            AND t.row_xid >= pg_snapshot_xmin(r_watermark.snapshot)
            AND t.row_xid < v_end
            AND NOT pg_visible_in_snapshot(t.row_xid, r_watermark.snapshot);
    END IF;
END
$newer_keys$;
COMMENT ON FUNCTION etl.newer_keys(name) IS 'Keys of source rows that changed or were deleted after the watermark; error ET002 if the source table does not exist.';

-- SELECT of the differences to be applied to an aggregate, including those of the finer aggregate that it is a roll-up
-- of.
CREATE OR REPLACE FUNCTION etl._waiting_differences_sql(p_aggregate etl.aggregate)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_waiting_differences_sql$
    SELECT
        format('SELECT %s, %s FROM work.%I', etl._list(p_aggregate.group_key), etl._list(p_aggregate.measures), p_aggregate.aggregate || '_difference')
        || coalesce(
            (
                SELECT format(
                    E'\n        UNION ALL\n        SELECT %s, %s FROM (%s) AS c',
                    etl._finer_key(p_aggregate), etl._list(p_aggregate.measures), etl._waiting_differences_sql(f)
                )
                FROM etl.aggregate AS f
                WHERE f.aggregate = p_aggregate.finer_aggregate
            ),
            ''
        )
$_waiting_differences_sql$;

-- Differences that wait for the aggregate's next load count as applied. Aggregates that wait for a full refresh are excluded. expected is NULL for a
-- surplus group, actual for a missing one.
CREATE OR REPLACE FUNCTION etl.aggregate_differences(p_aggregates name[] DEFAULT NULL)
RETURNS TABLE (aggregate name, group_key jsonb, expected jsonb, actual jsonb)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $aggregate_differences$
DECLARE
    r_aggregate etl.aggregate;
    v_finer text;
BEGIN
    FOR r_aggregate IN
        SELECT a.*
        FROM etl.aggregate AS a
        JOIN etl.load_state AS l ON l.object = a.aggregate
        WHERE NOT l.needs_reload
            AND (p_aggregates IS NULL OR a.aggregate = ANY (p_aggregates))
        ORDER BY a.aggregate
    LOOP
        -- Facts are summed once: a roll-up is compared with its finer aggregate, which is compared with the facts.
        SELECT format(
            E'(\n        SELECT %s, %s\n        FROM (\n            SELECT %s, %s FROM %s\n            UNION ALL\n            %s\n        ) AS c\n    )',
            etl._finer_key(r_aggregate), etl._list(r_aggregate.measures, 'c.%1$I'),
            etl._list(f.group_key), etl._list(f.measures), f.aggregate_table, etl._waiting_differences_sql(f)
        )
        INTO v_finer
        FROM etl.aggregate AS f
        JOIN etl.load_state AS l ON l.object = f.aggregate
        WHERE f.aggregate = r_aggregate.finer_aggregate
            AND NOT l.needs_reload;
        RETURN QUERY EXECUTE etl._render(
            $template$SELECT $1, {{group_as_json}}, CASE WHEN e.is_found THEN {{expected}} END, CASE WHEN a.is_found THEN {{actual}} END
FROM (
    SELECT {{c.group}}, {{sums}}, true AS is_found
    FROM {{source}} AS c
    GROUP BY {{c.group}}
    HAVING {{is_not_zero}}
) AS e
FULL JOIN (
    SELECT {{c.group}}, {{sums}}, true AS is_found
    FROM (
        SELECT {{group}}, {{measures}}, false AS is_waiting FROM {{table}}
        UNION ALL
        SELECT w.*, true FROM (
            {{waiting}}
        ) AS w
    ) AS c
    GROUP BY {{c.group}}
    -- A group at zero exists only until the waiting differences are applied.
    HAVING {{is_not_zero}} OR NOT bool_or(c.is_waiting)
) AS a USING ({{group}})
WHERE (e.is_found, {{e.measures}}) IS DISTINCT FROM (a.is_found, {{a.measures}})$template$,
            jsonb_build_object(
                'group', to_jsonb(r_aggregate.group_key),
                'measures', to_jsonb(r_aggregate.measures),
                'group_as_json', format('jsonb_build_object(%s)', etl._list(r_aggregate.group_key, '%1$L, %1$I')),
                'expected', etl._json_key(r_aggregate.measures, 'e'),
                'actual', etl._json_key(r_aggregate.measures, 'a'),
                'sums', etl._list(r_aggregate.measures, 'sum(c.%1$I) AS %1$I'),
                'is_not_zero', etl._list(r_aggregate.measures, 'sum(c.%1$I) <> 0', ' OR '),
                'source', coalesce(v_finer, r_aggregate.contribution_view::text),
                'table', r_aggregate.aggregate_table::text,
                'waiting', etl._waiting_differences_sql(r_aggregate)
            )
        )
        USING r_aggregate.aggregate;
    END LOOP;
END
$aggregate_differences$;
COMMENT ON FUNCTION etl.aggregate_differences(name[]) IS 'Groups of the aggregates that are not the sum of their facts.';
