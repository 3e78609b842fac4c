-- Attributes that were added to a loaded dimension.

-- Fills attributes that were added since the last full load into the stored versions. Without this, a new attribute of type 2 would open a version for every
-- member. Attributes of a history view are left to it.
-- Parameters: p_dimension, the dimension; p_before, its fingerprint when it was last loaded completely; p_run_id, the writing run.
-- Returns:    number of versions.
-- Writes:     the dimension's table.
CREATE OR REPLACE FUNCTION etl._fill_new_attributes(p_dimension name, p_before jsonb, p_run_id bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_new_attributes$
DECLARE
    r_dimension etl.dimension;
    v_attributes name[];
    v_rows bigint := 0;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    SELECT array_agg(a.attribute ORDER BY a.attribute)
    INTO v_attributes
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_dimension
        AND NOT p_before ? ('attribute ' || a.attribute)
        AND NOT EXISTS (
            SELECT
            FROM pg_attribute AS h
            WHERE h.attrelid = r_dimension.history_view
                AND h.attname = a.attribute
        );
    IF v_attributes IS NOT NULL THEN
        EXECUTE format(
            'UPDATE %s AS d SET run_id = $1%s FROM %s AS v WHERE %s AND d.%I > 0',
            r_dimension.dimension_table, etl._list(v_attributes, ', %1$I = v.%1$I', ''), r_dimension.transform_view,
            etl._match(r_dimension.business_key, 'd', 'v'), r_dimension.surrogate_key
        )
        USING p_run_id;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
    END IF;
    RETURN v_rows;
EXCEPTION
    WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
        -- A row is bad. The load that follows isolates it.
        RETURN 0;
END
$_fill_new_attributes$;
