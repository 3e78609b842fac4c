-- Planned changes of a dimension are applied, and facts whose version ends earlier are requested.

/*
The earliest moment at which a version that was decided on ends sooner than it did. Told to the planner, it keeps the search for
the facts after it to the blocks where they lie.
Parameters: p_dimension, the dimension.
Returns:    the moment; NULL when no version ends sooner.
*/
CREATE OR REPLACE FUNCTION etl._earliest_end(p_dimension name)
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_earliest_end$
DECLARE
    r_dimension etl.dimension;
    v_earliest timestamptz;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    EXECUTE format(
        $sql$SELECT min(w.valid_to)
FROM work.%1$I AS w
JOIN %2$s AS d ON d.%3$I = w.%3$I
WHERE w.operation = 'update'
    AND w.valid_to < d.valid_to$sql$,
        p_dimension || '_decision', r_dimension.dimension_table, r_dimension.surrogate_key
    )
    INTO v_earliest;
    RETURN v_earliest;
END
$_earliest_end$;
COMMENT ON FUNCTION etl._earliest_end(name) IS 'The earliest moment at which a version that was decided on ends sooner than it did.';

/*
Runs the statements of a dimension over its pending keys, all or nothing.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows inserted and updated (versions), queued (facts to be reprocessed).
Writes:     the dimension's table, work.<dimension>_decision, etl.reprocessing_queue.
*/
CREATE OR REPLACE FUNCTION etl._apply_dimension(p_dimension name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_apply_dimension$
DECLARE
    r_dimension etl.dimension;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_decision regclass := format('work.%I', p_dimension || '_decision')::regclass;
    v_pending bigint;
    v_earliest timestamptz;
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    PERFORM etl._empty(v_decision);
    EXECUTE format('SELECT count(*) FROM work.%I', p_dimension || '_key') INTO v_pending;
    -- Versions may change places within a load, so an exclusion constraint waits where a dimension has one; its verdict belongs to this load.
    SET CONSTRAINTS ALL DEFERRED;
    FOR r_statement IN
        SELECT *
        FROM etl._dimension_sql(
            p_dimension,
            p_are_many => etl._are_many(v_pending, r_dimension.dimension_table, p_part => 20)
        )
    LOOP
        CONTINUE WHEN r_statement.title LIKE 'requeue:%' AND v_earliest IS NULL;
        EXECUTE r_statement.statement USING p_run_id, clock_timestamp(), v_earliest;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        CASE split_part(r_statement.title, ':', 1)
            WHEN 'decide' THEN
                PERFORM etl._analyze(v_decision, r_dimension.business_key || ARRAY[r_dimension.surrogate_key, 'operation'::name], v_rows);
                v_earliest := etl._earliest_end(p_dimension);
            WHEN 'requeue' THEN r_result.rows_queued := r_result.rows_queued + v_rows;
            WHEN 'update' THEN r_result.rows_updated := v_rows;
            WHEN 'insert' THEN r_result.rows_inserted := v_rows;
            ELSE NULL;
        END CASE;
    END LOOP;
    SET CONSTRAINTS ALL IMMEDIATE;
    RETURN r_result;
END
$_apply_dimension$;
COMMENT ON FUNCTION etl._apply_dimension(name, bigint) IS 'Runs the statements of a dimension over its pending keys.';
