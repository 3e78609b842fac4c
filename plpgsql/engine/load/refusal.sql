-- Rows that a load refuses. The errors are of class 22 or 23, so isolation finds the row and quarantine stores the reason.

-- Refuses a key that a transformation view returns more than once.
-- Parameters: p_object, dimension or fact; p_key, its business key.
-- Returns:    nothing; boolean, so that it can stand in a CASE.
-- Errors:     23505.
CREATE OR REPLACE FUNCTION etl._refuse_repeated_key(p_object name, p_key jsonb)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_repeated_key$
BEGIN
    -- The message is logged and must not contain the key; quarantine stores it.
    RAISE EXCEPTION 'the transformation view of "%" returns more than one row for a key', p_object
        USING ERRCODE = 'unique_violation', DETAIL = format('Key: %s.', p_key), HINT = 'Make the business key of the view unique.';
END
$_refuse_repeated_key$;

-- Refuses a change in a log that is dated after the load: it would become valid too early and hide later changes.
-- Parameters: p_object, the dimension; p_valid_from, date of the change; p_now, point in time of the load.
-- Returns:    nothing; timestamptz, so that it can stand in a CASE.
-- Errors:     22008.
CREATE OR REPLACE FUNCTION etl._refuse_change(p_object name, p_valid_from timestamptz, p_now timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_change$
BEGIN
    IF p_valid_from IS NULL THEN
        RAISE EXCEPTION 'the history view of "%" returns a row without valid_from', p_object
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Leave rows without a date out of the history view.';
    END IF;
    RAISE EXCEPTION 'the history view of "%" returns a change dated after this load', p_object
        USING ERRCODE = 'datetime_field_overflow', DETAIL = format('Change: %s. Load: %s.', p_valid_from, p_now), HINT = 'Correct the date in the source, or leave the row out of the history view until it holds.';
END
$_refuse_change$;
