-- Accepted rows in quarantine: a run that cannot load them succeeds nevertheless.

-- Accepts rows in quarantine as rows that cannot be loaded. An acceptance holds for the key and the current reason of a row: if the row later fails for
-- another reason, it is no longer accepted.
-- Parameters: p_object, source table, dimension or fact; p_row_key, key of the row, as etl.quarantine has it (all rows of the object by default);
--             p_is_accepted, false to take the acceptance back.
-- Returns:    number of rows whose acceptance has changed.
-- Writes:     etl.quarantine.
-- Errors:     ET002 when there is no such object, or no such row in quarantine.
CREATE OR REPLACE FUNCTION etl.accept_quarantine(p_object name, p_row_key jsonb DEFAULT NULL, p_is_accepted boolean DEFAULT true)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $accept_quarantine$
DECLARE
    v_count bigint;
BEGIN
    PERFORM etl._check_names(ARRAY[coalesce(p_object::text, '')], NULL);
    IF p_row_key IS NOT NULL AND NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_object AND q.row_key = p_row_key) THEN
        RAISE EXCEPTION 'there is no row % of % in quarantine', p_row_key, p_object
            USING ERRCODE = 'ET002', HINT = format('To list them, run: oceanrecords quarantine %s.', p_object);
    END IF;
    UPDATE etl.quarantine AS q
    SET accepted_at = CASE WHEN p_is_accepted THEN clock_timestamp() END,
        accepted_by = CASE WHEN p_is_accepted THEN session_user END
    WHERE q.object = p_object
        AND (p_row_key IS NULL OR q.row_key = p_row_key)
        AND (q.accepted_at IS NOT NULL) <> p_is_accepted;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$accept_quarantine$;
COMMENT ON FUNCTION etl.accept_quarantine(name, jsonb, boolean) IS 'Accepts rows in quarantine as rows that cannot be loaded, or takes that back; returns their number.';
