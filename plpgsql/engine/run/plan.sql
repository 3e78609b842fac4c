-- How many rows a full refresh would change: the objects are loaded, the changes counted, and everything is rolled back.

-- No run can start meanwhile. p_objects are dimensions, facts and aggregates (by default those of etl.plan); p_sample is the number of rows of each in
-- the sample: per row the planned change, and the row before and after. Aggregates have no sample. If an object cannot be loaded, the message
-- says why, and the numbers are NULL. ET001: a run is live; ET002: there is no such object; ET060: as etl._lock_start.
CREATE OR REPLACE FUNCTION etl.plan_rows(p_objects name[] DEFAULT NULL, p_sample integer DEFAULT 5)
RETURNS TABLE (
    object name, kind text, rows_read bigint, rows_inserted bigint, rows_updated bigint, rows_deleted bigint, rows_queued bigint,
    rows_quarantined bigint, message text, sample jsonb
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plan_rows$
DECLARE
    r_row record;
    r_task etl.task_run;
    r_result etl.load_result;
    v_after jsonb;
    v_planned jsonb[] := ARRAY[]::jsonb[];
BEGIN
    PERFORM etl._check_names(p_objects::text[], NULL);
    PERFORM etl._lock_start();
    PERFORM etl._refuse_beside_run(etl._live_run(), 'Wait until it ends.');
    BEGIN
        UPDATE etl.load_state AS l
        SET needs_reload = true
        WHERE l.object = ANY (coalesce(p_objects, ARRAY(SELECT p.object FROM etl.plan() AS p)));
        FOR r_row IN
            SELECT t.task, t.kind, t.object
            FROM etl.task AS t
            JOIN etl.load_state AS l USING (object)
            WHERE l.needs_reload
                AND t.kind IN ('dimension', 'fact', 'aggregate')
            ORDER BY t.position
        LOOP
            r_task := NULL;
            r_task.kind := r_row.kind;
            r_task.object := r_row.object;
            r_task.run_id := (SELECT coalesce(max(r.run_id), 0) + 1 FROM etl.run AS r);
            BEGIN
                r_result := etl._do_task(r_task);
                v_after := NULL;
                IF r_row.kind <> 'aggregate' THEN
                    EXECUTE format(
                        'SELECT jsonb_agg(to_jsonb(s)) FROM ('
                        'SELECT * FROM work.%I AS w WHERE w.planned_operation <> ''unchanged'' ORDER BY w.planned_operation DESC LIMIT $1) AS s',
                        r_row.object || '_decision'
                    )
                    INTO v_after
                    USING p_sample;
                END IF;
                v_planned := v_planned || (to_jsonb(r_result) || jsonb_build_object('object', r_row.object, 'kind', r_row.kind, 'after', v_after));
            EXCEPTION
                WHEN OTHERS THEN
                    v_planned := v_planned || jsonb_build_object(
                        'object', r_row.object, 'kind', r_row.kind, 'message', format('%s (%s)', etl._without_values(SQLSTATE, SQLERRM), SQLSTATE)
                    );
            END;
        END LOOP;
        RAISE EXCEPTION 'rolled back'
            USING ERRCODE = 'ET061';
    EXCEPTION
        WHEN SQLSTATE 'ET061' THEN
            NULL;
    END;

    RETURN QUERY
    SELECT
        r.object, r.kind, r.rows_read, r.rows_inserted, r.rows_updated, r.rows_deleted, r.rows_queued, r.rows_quarantined, r.message,
        etl._sample_before(r.object, p.value -> 'after')
    FROM unnest(v_planned) AS p (value)
    CROSS JOIN LATERAL jsonb_to_record(p.value) AS r (
        object name, kind text, rows_read bigint, rows_inserted bigint, rows_updated bigint, rows_deleted bigint, rows_queued bigint,
        rows_quarantined bigint, message text
    );
END
$plan_rows$;
COMMENT ON FUNCTION etl.plan_rows(name[], integer) IS 'How many rows a full refresh of objects would change, with a sample; nothing is written.';

-- Compares planned rows of a dimension or fact, an array of rows of work.<object>_decision or NULL, with the stored rows. Returns an array of objects:
-- operation, key, before and after (the columns that differ); NULL if there is no sample.
CREATE OR REPLACE FUNCTION etl._sample_before(p_object name, p_after jsonb)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_sample_before$
DECLARE
    r_object record;
    v_after jsonb;
    v_before jsonb;
    v_sample jsonb := jsonb_build_array();
BEGIN
    IF jsonb_typeof(p_after) IS DISTINCT FROM 'array' THEN
        RETURN NULL;
    END IF;
    SELECT o.target, o.row_key, o.business_key
    INTO r_object
    FROM (
        SELECT d.dimension, d.dimension_table, ARRAY[d.surrogate_key], d.business_key
        FROM etl.dimension AS d
        UNION ALL
        SELECT f.fact, f.fact_table, f.business_key, f.business_key
        FROM etl.fact AS f
    ) AS o (object, target, row_key, business_key)
    WHERE o.object = p_object;
    FOR v_after IN
        SELECT a.value
        FROM jsonb_array_elements(p_after) AS a (value)
    LOOP
        v_before := NULL;
        IF v_after ->> 'planned_operation' <> 'insert' THEN
            EXECUTE format(
                'SELECT to_jsonb(t.*) FROM jsonb_populate_record(NULL::%1$s, $1) AS k JOIN %1$s AS t ON %2$s',
                r_object.target, etl._match(r_object.row_key, 't', 'k')
            )
            INTO v_before
            USING v_after;
        END IF;
        v_sample := v_sample || jsonb_build_object(
            'operation', v_after -> 'planned_operation',
            'key', (SELECT jsonb_object_agg(k.name, v_after -> k.name) FROM unnest(r_object.business_key::text[]) AS k (name)),
            'before', (
                SELECT jsonb_object_agg(b.key, b.value)
                FROM jsonb_each(v_before) AS b
                WHERE b.key <> 'run_id'
                    AND b.value IS DISTINCT FROM v_after -> b.key
            ),
            'after', (
                SELECT jsonb_object_agg(a.key, a.value)
                FROM jsonb_each(v_after) AS a
                WHERE a.key IN (SELECT c.attname FROM pg_attribute AS c WHERE c.attrelid = r_object.target AND c.attnum > 0)
                    AND a.key <> 'run_id'
                    AND (v_before IS NULL OR a.value IS DISTINCT FROM v_before -> a.key)
            )
        );
    END LOOP;
    RETURN v_sample;
END
$_sample_before$;
