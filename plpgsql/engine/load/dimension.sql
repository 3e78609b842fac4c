-- mirror -> dimension: slowly changing dimensions with attributes of type 0, 1 and 2. Every load processes the pending keys. An initial load, a full refresh
-- and a repair differ only in which keys are pending.

-- The statements that queue facts after a retroactive change: facts of a version that now ends earlier. One statement per key column that references the
-- dimension.
-- Parameters: p_dimension, the dimension; p_values, of its templates.
-- Returns:    SQL text; refers to v_cut_at, v_rows, r_result and p_run_id.
CREATE OR REPLACE FUNCTION etl._requeue_sql(p_dimension name, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_requeue_sql$
    SELECT coalesce(string_agg(
        etl._render(
            $template$-- The facts are read once, from the blocks on where such facts lie.
WITH ended AS MATERIALIZED (
    SELECT w.{{surrogate_key}}, w.valid_to, {{dimension_key}} AS dimension_key
    FROM {{decision}} AS w
    JOIN {{table}} AS d ON d.{{surrogate_key}} = w.{{surrogate_key}}
    WHERE w.planned_operation = 'update'
        AND w.valid_to < d.valid_to
),
late AS MATERIALIZED (
    SELECT {{f.fact_columns}}, f.{{key_column}} AS _version, f.{{as_of}} AS _as_of
    FROM {{fact_table}} AS f
    WHERE f.{{as_of}} >= v_cut_at
)
INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension, dimension_key, is_ready, run_id)
SELECT {{fact}}, {{fact_key}}, {{key_column_name}}, {{name}}, w.dimension_key, true, p_run_id
FROM ended AS w
JOIN late AS f ON f._version = w.{{surrogate_key}} AND f._as_of >= w.valid_to
ON CONFLICT (fact, fact_key, key_column) DO UPDATE
SET is_ready = true;
GET DIAGNOSTICS v_rows = ROW_COUNT;
r_result.rows_queued := r_result.rows_queued + v_rows;$template$,
            p_values || jsonb_build_object(
                'fact', quote_literal(f.fact),
                'fact_key', etl._json_key(f.business_key, 'f'),
                'fact_columns', to_jsonb(f.business_key),
                'fact_table', f.fact_table::text,
                'key_column', quote_ident(k.key_column),
                'key_column_name', quote_literal(k.key_column),
                'as_of', quote_ident(k.as_of_column),
                'dimension_key', etl._json_key(d.business_key, 'w')
            )
        ),
        E'\n' ORDER BY f.fact, k.key_column
    ), 'NULL;')
    FROM etl.fact_dimension AS k
    JOIN etl.fact AS f USING (fact)
    JOIN etl.dimension AS d USING (dimension)
    WHERE k.dimension = p_dimension
        AND k.as_of_column IS NOT NULL
$_requeue_sql$;

-- Compiles the routines of a dimension. compiled.plan_<dimension> writes the versions that pending members should have to work.<dimension>_decision;
-- compiled.load_<dimension> plans and applies the differences.
-- Parameters: p_dimension, the dimension.
-- Returns:    names of the routines.
-- Writes:     schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_dimension(p_dimension name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_dimension$
DECLARE
    v_values jsonb := etl._dimension_values(p_dimension);
BEGIN
    v_values := v_values || jsonb_build_object(
        'decision_name', quote_literal(v_values ->> 'decision'),
        'decision_columns', quote_literal((SELECT d.business_key || d.surrogate_key || 'planned_operation'::name FROM etl.dimension AS d WHERE d.dimension = p_dimension)),
        'plan', quote_ident('plan_' || p_dimension),
        'expected', etl._expected_dimension_sql(p_dimension, v_values ->> 'key_table', etl._load_arguments('plan_' || p_dimension)),
        'requeue', etl._requeue_sql(p_dimension, v_values)
    );
    RETURN ARRAY[
        etl._create_compiled(
            'plan_' || p_dimension,
            'p_run_id bigint, p_now timestamptz, p_batch_at timestamptz',
            'bigint',
            format('Plans the versions of the pending members of %s; returns their number.', p_dimension),
            etl._render(
                $template$DECLARE
    v_planned bigint;
BEGIN
    PERFORM etl._clear_table({{decision_name}});
    INSERT INTO {{decision}} (
        planned_operation, {{surrogate_key}}, {{key}}{{, attributes}}, valid_from, valid_to, is_current, run_id
    )
    {{expected}};
    GET DIAGNOSTICS v_planned = ROW_COUNT;
    PERFORM etl._analyze({{decision_name}}, {{decision_columns}}, v_planned);
    RETURN v_planned;
END$template$,
                v_values
            )
        ),
        etl._create_compiled(
            'load_' || p_dimension,
            'p_run_id bigint',
            'etl.load_result',
            format('Loads the pending members of %s: plans their versions and applies what differs.', p_dimension),
            etl._render(
                $template$DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_cut_at timestamptz;  -- earliest new end of a version that is cut short
    v_rows bigint;
BEGIN
    PERFORM compiled.{{plan}}(p_run_id, l.now, l.batch_at)
    FROM etl._load_time() AS l;

    SELECT min(w.valid_to)
    INTO v_cut_at
    FROM {{decision}} AS w
    JOIN {{table}} AS d ON d.{{surrogate_key}} = w.{{surrogate_key}}
    WHERE w.planned_operation = 'update'
        AND w.valid_to < d.valid_to;
    IF v_cut_at IS NOT NULL THEN
        -- Facts after the new end belong to a later version.
        {{requeue}}
    END IF;

    UPDATE {{table}} AS d
    SET valid_from = w.valid_from,
        valid_to = w.valid_to,
        is_current = w.is_current,
        run_id = w.run_id{{attribute_values}}
    FROM (SELECT * FROM {{decision}}) AS w
    WHERE w.planned_operation = 'update'
        AND d.{{surrogate_key}} = w.{{surrogate_key}};
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    r_result.rows_updated := v_rows;

    INSERT INTO {{table}} ({{key}}{{, attributes}}, valid_from, valid_to, is_current, run_id)
    SELECT {{w.key}}{{, w.attributes}}, w.valid_from, w.valid_to, w.is_current, w.run_id
    FROM {{decision}} AS w
    WHERE w.planned_operation = 'insert'
    ORDER BY {{w.key}}, w.valid_from;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    r_result.rows_inserted := v_rows;

    -- The next load of a fact looks up the rows that waited for these members.
    UPDATE etl.reprocessing_queue AS q
    SET is_ready = true
    FROM (
        SELECT e.fact, e.fact_key, e.key_column, u.*
        FROM etl.reprocessing_queue AS e
        CROSS JOIN LATERAL jsonb_populate_record(NULL::{{key_table}}, e.dimension_key) AS u
        WHERE e.dimension = {{name}}
            AND NOT e.is_ready
    ) AS e
    JOIN (SELECT DISTINCT {{w.key}} FROM {{decision}} AS w) AS m ON {{m.key = e.key}}
    WHERE (q.fact, q.fact_key, q.key_column) = (e.fact, e.fact_key, e.key_column);
    RETURN r_result;
END$template$,
                v_values || jsonb_build_object(
                    'attribute_values', (
                        SELECT coalesce(string_agg(format(E',\n%1$I = w.%1$I', c.name), '' ORDER BY c.position), '')
                        FROM jsonb_array_elements_text(v_values -> 'attributes') WITH ORDINALITY AS c (name, position)
                    )
                )
            )
        )
    ];
END
$_compile_dimension$;

-- Loads a dimension: its pending members, or all members if a full refresh was requested.
-- Parameters: p_dimension, the dimension; p_run_id, the writing run.
-- Returns:    rows read (pending members), inserted (versions), updated (versions), queued (facts to be reprocessed), quarantined.
-- Writes:     the dimension's table, work.<dimension>_key, work.<dimension>_decision, etl.reprocessing_queue, etl.quarantine,
--             etl.load_state.
CREATE OR REPLACE FUNCTION etl._load_dimension(p_dimension name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_dimension$
DECLARE
    r_dimension etl.dimension;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_pending bigint;
    v_is_empty boolean;
    v_rebuild text[];
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    IF etl._needs_reload(p_dimension) THEN
        PERFORM etl._enqueue_all(p_dimension, r_dimension.business_key, r_dimension.dimension_table, r_dimension.transform_view);
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %s WHERE %I > 0)', r_dimension.dimension_table, r_dimension.surrogate_key) INTO v_is_empty;
    END IF;
    v_pending := etl._begin_load(p_dimension, r_dimension.business_key);
    IF v_pending > 0 THEN
        IF v_is_empty THEN
            v_rebuild := etl._begin_bulk(r_dimension.dimension_table);
        END IF;
        r_result := etl._load_isolating(p_dimension, r_dimension.business_key, p_run_id);
        IF v_is_empty THEN
            PERFORM etl._finish_bulk(r_dimension.dimension_table, v_rebuild);
        END IF;
        r_result.rows_read := v_pending;
    END IF;
    PERFORM etl._finish_load(p_dimension);
    RETURN r_result;
END
$_load_dimension$;
