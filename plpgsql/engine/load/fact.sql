-- mirror -> fact: rows that differ are inserted or updated, rows with unresolved keys are queued. Pending keys drive each load: the merge of a mirror adds the
-- keys of changed source rows, the load of a dimension those that waited for its members. An initial load and a full refresh plan from the
-- whole view instead of from pending keys; what follows the plan is the same.

/*
Compiles the routines of a fact. compiled.plan_<fact> writes the planned change of each row, of pending keys or of all keys, to work.<fact>_decision;
compiled.contribute_<fact> notes the contributions of planned rows to aggregates; compiled.load_<fact> plans and applies.
Parameters: p_fact, the fact.
Returns:    names of the routines.
Writes:     schema compiled.
*/
CREATE OR REPLACE FUNCTION etl._compile_fact(p_fact name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_fact$
DECLARE
    v_values jsonb := etl._fact_values(p_fact);
BEGIN
    v_values := v_values || jsonb_build_object(
        'plan', quote_ident('plan_' || p_fact),
        'contribute', quote_ident('contribute_' || p_fact),
        'as_json', etl._json_key(ARRAY(SELECT jsonb_array_elements_text(v_values -> 'key')), 'w')
    );
    RETURN ARRAY[
        etl._compile_fact_plan(p_fact, v_values),
        etl._create_compiled(
            'contribute_' || p_fact,
            'p_sign integer, p_aggregates name[]',
            'void',
            format('Adds to (1) or subtracts from (-1) aggregates what the planned rows of %s contribute to them.', p_fact),
            etl._render(E'BEGIN\n    {{statements}}\nEND', jsonb_build_object('statements', etl._contribution_sql(p_fact)))
        ),
        etl._create_compiled(
            'load_' || p_fact,
            'p_run_id bigint, p_is_full boolean DEFAULT false',
            'etl.load_result',
            format('Loads the pending rows of %s, or all rows: plans the change of each row and applies it.', p_fact),
            etl._render(
                $template$DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_aggregates name[];  -- those that are maintained by difference
    v_changed bigint;
    v_unresolved bigint;
BEGIN
    PERFORM compiled.{{plan}}(p_run_id, p_is_full);
    {{refuse}}
    -- What the plan does not contain needs no statement.
    SELECT
        count(*) FILTER (WHERE w.planned_operation IN ('update', 'delete')),
        count(*) FILTER (WHERE w.planned_operation = 'delete'),
        count(w.unresolved_keys)
    INTO v_changed, r_result.rows_deleted, v_unresolved
    FROM {{decision}} AS w;

    v_aggregates := etl._lock_aggregates({{name}});
    PERFORM compiled.{{contribute}}(-1, v_aggregates);

    IF v_changed > 0 THEN
        UPDATE {{table}} AS f
        SET run_id = w.run_id{{column_values}}
        FROM {{decision}} AS w
        WHERE w.planned_operation IN ('update', 'delete')
            AND {{f.key = w.key}};
        GET DIAGNOSTICS v_changed = ROW_COUNT;
        r_result.rows_updated := v_changed - r_result.rows_deleted;
    END IF;

    INSERT INTO {{table}} ({{key}}{{, columns}}, run_id)
    -- Sorted by key: new index entries, and rows of the same time, are then adjacent.
    SELECT {{w.key}}{{, w.columns}}, w.run_id
    FROM {{decision}} AS w
    WHERE w.planned_operation = 'insert'
    ORDER BY {{w.key}};
    GET DIAGNOSTICS r_result.rows_inserted = ROW_COUNT;

    PERFORM compiled.{{contribute}}(1, v_aggregates);

    -- Rows whose keys are resolved leave the queue, the others enter it.
    IF EXISTS (SELECT FROM etl.reprocessing_queue AS e WHERE e.fact = {{name}}) THEN
        DELETE FROM etl.reprocessing_queue AS q
        USING (
            SELECT e.fact_key, e.key_column
            FROM etl.reprocessing_queue AS e
            CROSS JOIN LATERAL jsonb_populate_record(NULL::{{key_table}}, e.fact_key) AS u
            JOIN {{decision}} AS w ON {{w.key = u.key}}
            WHERE e.fact = {{name}}
                AND (w.is_deleted OR NOT coalesce(w.unresolved_keys ? e.key_column, false))
        ) AS e
        WHERE q.fact = {{name}}
            AND (q.fact_key, q.key_column) = (e.fact_key, e.key_column);
    END IF;
    IF v_unresolved > 0 THEN
        INSERT INTO etl.reprocessing_queue AS q (fact, fact_key, key_column, dimension, dimension_key, run_id)
        SELECT {{name}}, {{as_json}}, k.key_column, k.dimension, u.value, p_run_id
        FROM {{decision}} AS w
        CROSS JOIN LATERAL jsonb_each(w.unresolved_keys) AS u
        JOIN etl.fact_dimension AS k ON k.fact = {{name}} AND k.key_column = u.key
        WHERE w.unresolved_keys IS NOT NULL
        ON CONFLICT (fact, fact_key, key_column) DO UPDATE
        SET dimension_key = excluded.dimension_key,
            is_ready = false,
            attempts = q.attempts + 1,
            tried_at = excluded.tried_at;
        GET DIAGNOSTICS r_result.rows_queued = ROW_COUNT;
    END IF;
    RETURN r_result;
END$template$,
                v_values || jsonb_build_object(
                    'refuse', etl._refusal_sql(p_fact, v_values),
                    'column_values', (
                        SELECT coalesce(string_agg(format(E',\n%1$I = w.%1$I', c.name), '' ORDER BY c.position), '')
                        FROM jsonb_array_elements_text(v_values -> 'columns') WITH ORDINALITY AS c (name, position)
                    )
                )
            )
        )
    ];
END
$_compile_fact$;

/*
Compiles compiled.plan_<fact>. Both of its statements come from one template and differ in their FROM clause. Rows of pending keys are looked up key by key:
OFFSET 0 keeps the planner from merging the view into the query, so the key reaches the view as a parameter, below GROUP BY and UNION ALL. A join
condition would not. An initial load and a full refresh compare all rows with the fact in one pass.
Parameters: p_fact, the fact; p_values, of its templates.
Returns:    name of the routine.
Writes:     schema compiled.
*/
CREATE OR REPLACE FUNCTION etl._compile_fact_plan(p_fact name, p_values jsonb)
RETURNS name
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_fact_plan$
DECLARE
    c_plan CONSTANT text := $template$INSERT INTO {{decision}} ({{key}}{{, columns}}, planned_operation, run_id, touched_aggregates, unresolved_keys)
SELECT
    {{e.key}}{{, e.columns}},
    CASE
        WHEN f.run_id IS NULL THEN 'insert'
        WHEN e.is_deleted AND NOT f.is_deleted THEN 'delete'
        WHEN {{f.columns <> e.columns}} THEN 'update'
        ELSE 'unchanged'
    END,
    {{plan}}.p_run_id,
    {{touched}},
    {{unresolved}}
{{rows}}$template$;
    v_values jsonb := p_values || jsonb_build_object(
        'touched', etl._touched_sql(p_fact, p_values),
        'unresolved', etl._unresolved_sql(p_fact)
    );
BEGIN
    RETURN etl._create_compiled(
        'plan_' || p_fact,
        'p_run_id bigint, p_is_full boolean',
        'bigint',
        format('Plans the changes of the pending rows of %s, or of all rows; returns their number.', p_fact),
        etl._render(
            $template$DECLARE
    v_planned bigint;
    v_repeated jsonb;
BEGIN
    PERFORM etl._clear_table({{decision_name}});
    IF p_is_full THEN
        {{full}};
        GET DIAGNOSTICS v_planned = ROW_COUNT;
        SELECT {{as_json}}
        INTO v_repeated
        FROM {{view}} AS w
        GROUP BY {{w.key}}
        HAVING count(*) > 1
        LIMIT 1;
    ELSE
        {{keyed}};
        GET DIAGNOSTICS v_planned = ROW_COUNT;
        SELECT {{as_json}}
        INTO v_repeated
        FROM {{decision}} AS w
        GROUP BY {{w.key}}
        HAVING count(*) > 1
        LIMIT 1;
    END IF;
    IF v_repeated IS NOT NULL THEN
        PERFORM etl._refuse_repeated_key({{name}}, v_repeated);
    END IF;
    PERFORM etl._analyze({{decision_name}}, {{decision_columns}}, v_planned);
    RETURN v_planned;
END$template$,
            v_values || jsonb_build_object(
                'full', etl._render(c_plan, v_values || jsonb_build_object('rows', etl._render(
                    $template$FROM (
    {{resolved}}
) AS w
FULL JOIN {{table}} AS f ON {{f.key = w.key}}
CROSS JOIN LATERAL (
    SELECT
        {{chosen}}
) AS e
WHERE (f.run_id IS NOT NULL OR NOT w.is_deleted)
    AND (f.run_id IS NULL OR e.is_deleted <> f.is_deleted OR {{f.columns <> e.columns}} OR {{is_unresolved}})$template$,
                    v_values || jsonb_build_object(
                        'resolved', etl._resolved_fact_sql(p_fact, p_values, etl._render('(SELECT r.*, true AS _is_given FROM {{view}} AS r OFFSET 0) AS v', p_values), true),
                        'chosen', etl._chosen_sql(p_fact, p_values, 'coalesce(w.%1$I, f.%1$I) AS %1$I'),
                        'is_unresolved', CASE WHEN p_values -> 'keys' = '[]' THEN 'false' ELSE etl._render('-1 IN ({{e.keys}})', p_values) END
                    )
                ))),
                'keyed', etl._render(c_plan, v_values || jsonb_build_object('rows', etl._render(
                    $template$FROM (
    {{resolved}}
) AS w
LEFT JOIN LATERAL (SELECT * FROM {{table}} AS r WHERE {{r.key = w.key}} OFFSET 0) AS f ON true
CROSS JOIN LATERAL (
    SELECT
        {{chosen}}
) AS e
WHERE f.run_id IS NOT NULL
    OR NOT e.is_deleted$template$,
                    v_values || jsonb_build_object(
                        'resolved', etl._resolved_fact_sql(
                            p_fact,
                            p_values || jsonb_build_object('key_values', etl._list(ARRAY(SELECT jsonb_array_elements_text(p_values -> 'key')), 'k.%1$I')),
                            etl._render(
                                E'{{key_table}} AS k\nLEFT JOIN LATERAL (SELECT r.*, true AS _is_given FROM {{view}} AS r WHERE {{r.key = k.key}} OFFSET 0) AS v ON true',
                                p_values
                            ),
                            true
                        ),
                        'chosen', etl._chosen_sql(p_fact, p_values, 'w.%1$I')
                    )
                )))
            )
        ),
        -- As-of lookups rarely repeat, so Memoize only costs.
        '{enable_memoize = off}'
    );
END
$_compile_fact_plan$;

/*
The row that a fact should hold: the row of the view (w), or, if the view no longer returns it, the stored row (f) marked as deleted.
Parameters: p_fact, the fact; p_values, of its templates; p_key_format, of each key column.
Returns:    columns of a SELECT.
*/
CREATE OR REPLACE FUNCTION etl._chosen_sql(p_fact name, p_values jsonb, p_key_format text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_chosen_sql$
    SELECT concat_ws(
        E',\n',
        etl._list(f.business_key, p_key_format),
        (
            SELECT string_agg(
                CASE
                    WHEN c.name = 'is_deleted' THEN 'w._is_given IS NULL OR w.is_deleted AS is_deleted'
                    WHEN c.name = ANY (f.measures) THEN format(
                        'CASE WHEN w._is_given THEN w.%1$I%2$s END AS %1$I', c.name, etl._measure_default(f.fact_table, c.name)
                    )
                    ELSE format(
                        'CASE WHEN w._is_given THEN w.%1$I ELSE %2$s END AS %1$I',
                        c.name, etl._cast('f.' || quote_ident(c.name), f.fact_table, c.name, f.fact_table)
                    )
                END,
                E',\n' ORDER BY c.position
            )
            FROM jsonb_array_elements_text(p_values -> 'columns') WITH ORDINALITY AS c (name, position)
        ),
        (SELECT string_agg(etl._list(r.kept_columns, 'w.%1$I'), ', ' ORDER BY r.number) FROM etl._fact_roles(p_fact) AS r)
    )
    FROM etl.fact AS f
    WHERE f.fact = p_fact
$_chosen_sql$;

-- Expression for the aggregates whose contribution a planned row changes; NULL for all.
CREATE OR REPLACE FUNCTION etl._touched_sql(p_fact name, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_touched_sql$
    -- Most changes do not touch columns that an aggregate reads.
    SELECT CASE WHEN count(*) = 0 THEN 'NULL' ELSE format(
        E'CASE\n    WHEN f.run_id IS NOT NULL\n        THEN array_remove(ARRAY[%s]::name[], NULL)\nEND',
        string_agg(
            CASE WHEN l.watched_columns IS NULL
                THEN quote_literal(l.aggregate)
                ELSE format('CASE WHEN %s THEN %L END', etl._render('{{f.watched <> e.watched}}', p_values || jsonb_build_object('watched', l.watched_columns)), l.aggregate)
            END,
            E',\n            ' ORDER BY l.aggregate
        )
    ) END
    FROM etl.aggregate_fact AS l
    WHERE l.fact = p_fact
$_touched_sql$;

-- The key columns of a planned row whose member is unknown, each with the business key looked up, as an expression; NULL for none.
CREATE OR REPLACE FUNCTION etl._unresolved_sql(p_fact name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_unresolved_sql$
    SELECT CASE
        WHEN count(*) = 0 THEN 'NULL'
        ELSE format(
            E'CASE\n    WHEN -1 IN (%s) AND NOT e.is_deleted THEN nullif(\n        %s,\n        ''{}''\n    )\nEND',
            string_agg(format('e.%I', r.key_column), ', ' ORDER BY r.number),
            string_agg(
                format(
                    'CASE WHEN e.%2$I = -1 AND num_nulls(%3$s) = 0 THEN jsonb_build_object(%1$L, %4$s) ELSE ''{}'' END',
                    r.key_column, r.key_column, etl._list(r.kept_columns, 'e.%1$I'), etl._json_key(r.business_key, 'e', r.kept_columns)
                ),
                E'\n        || ' ORDER BY r.number
            )
        )
    END
    FROM etl._fact_roles(p_fact) AS r
$_unresolved_sql$;

/*
The statement that quarantines planned rows without a member in a dimension that nothing loads, such as the calendar: no load can add the member later.
Parameters: p_fact, the fact; p_values, of its templates.
Returns:    SQL text; refers to p_run_id and r_result.
*/
CREATE OR REPLACE FUNCTION etl._refusal_sql(p_fact name, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refusal_sql$
    SELECT CASE WHEN count(*) = 0 THEN '' ELSE etl._render(
        $template$
SELECT count(etl._refuse_fact({{name}}, r.fact_key, k.key_column, k.dimension, r.unresolved_keys -> k.key_column, p_run_id) IS NULL)
INTO r_result.rows_quarantined
FROM (
    SELECT {{as_json}} AS fact_key, w.unresolved_keys
    FROM {{decision}} AS w
    WHERE w.unresolved_keys ?| {{final}}
    OFFSET 0
) AS r
CROSS JOIN LATERAL (
    SELECT c.key_column::text, c.dimension
    FROM etl.fact_dimension AS c
    WHERE c.fact = {{name}}
        AND c.key_column = ANY ({{final}})
        AND r.unresolved_keys ? c.key_column
    ORDER BY c.key_column
    LIMIT 1
) AS k;
IF r_result.rows_quarantined > 0 THEN
    DELETE FROM {{decision}} AS w
    WHERE w.unresolved_keys ?| {{final}};
END IF;$template$,
        p_values || jsonb_build_object('final', quote_literal(array_agg(r.key_column ORDER BY r.number)::text[]) || '::text[]')
    ) END
    FROM etl._fact_roles(p_fact) AS r
    WHERE NOT r.is_loaded
$_refusal_sql$;

/*
Loads a fact: its pending keys and the ready queue entries, or all rows if a full refresh was requested.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    rows read (planned rows), inserted, updated, deleted (marked), queued, quarantined.
Writes:     the fact's table, work.<fact>_key, work.<fact>_decision, work.<aggregate>_difference, etl.reprocessing_queue,
            etl.quarantine, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_fact(p_fact name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_fact$
DECLARE
    r_fact etl.fact;
    r_full etl.load_result := (0, 0, 0, 0, 0, 0);
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_refreshed_at timestamptz;
    v_pending bigint;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;

    IF etl._needs_reload(p_fact) THEN
        v_refreshed_at := clock_timestamp();
        BEGIN
            r_full := etl._load_whole_fact(r_fact, p_run_id);
        EXCEPTION
            WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
                -- A row is bad. Isolation finds it key by key.
                r_full := (0, 0, 0, 0, 0, 0);
                PERFORM etl._enqueue_all(p_fact, r_fact.business_key, r_fact.fact_table, r_fact.transform_view);
        END;
    END IF;

    PERFORM etl._enqueue_waiting(p_fact, r_fact.business_key, v_refreshed_at);
    v_pending := etl._begin_load(p_fact, r_fact.business_key);
    IF v_pending > 0 THEN
        r_result := etl._load_isolating(p_fact, r_fact.business_key, p_run_id);
    END IF;
    PERFORM etl._finish_load(p_fact);
    RETURN (
        r_full.rows_read + v_pending,
        r_full.rows_inserted + r_result.rows_inserted,
        r_full.rows_updated + r_result.rows_updated,
        r_full.rows_deleted + r_result.rows_deleted,
        r_full.rows_queued + r_result.rows_queued,
        r_full.rows_quarantined + r_result.rows_quarantined
    )::etl.load_result;
END
$_load_fact$;

/*
Loads all rows of a fact. An empty table is loaded without indexes, and its aggregates are then summed once instead of by differences.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    as compiled.load_<fact>.
Writes:     as compiled.load_<fact>; also work.<fact>_key (cleared: its keys are among all rows), and for an empty fact etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_whole_fact(p_fact etl.fact, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- All rows are read. After a wrong estimate, a nested loop over millions of lookups would take minutes.
SET enable_nestloop = off
AS $_load_whole_fact$
DECLARE
    r_result etl.load_result;
    v_is_empty boolean;
    v_rebuild text[];
BEGIN
    PERFORM etl._clear_table(format('work.%I', p_fact.fact || '_key')::regclass);
    EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %s)', p_fact.fact_table) INTO v_is_empty;
    IF v_is_empty THEN
        PERFORM etl._request_reload(etl._fed_by(p_fact.fact));
        v_rebuild := etl._begin_bulk(p_fact.fact_table);
    END IF;
    EXECUTE format('SELECT * FROM compiled.%I($1, true)', 'load_' || p_fact.fact) INTO r_result USING p_run_id;
    IF v_is_empty THEN
        PERFORM etl._finish_bulk(p_fact.fact_table, v_rebuild);
        -- The plan repeats the whole fact and is not needed again.
        PERFORM etl._clear_table(format('work.%I', p_fact.fact || '_decision')::regclass);
    END IF;
    r_result.rows_read := r_result.rows_inserted + r_result.rows_updated + r_result.rows_deleted;
    RETURN r_result;
END
$_load_whole_fact$;
