-- Rows in quarantine: how they are entered, retried and released.

-- Refuses to continue when a run has put very many rows of an object into quarantine: then the cause is not a single row.
-- Parameters: p_object, the object; p_key, p_sqlstate, p_reason, the last row and its error; p_run_id, the run.
-- Errors:     ET008 when they are more than the setting quarantine_limit allows.
CREATE OR REPLACE FUNCTION etl._check_quarantine_limit(p_object name, p_key jsonb, p_sqlstate text, p_reason text, p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_quarantine_limit$
DECLARE
    v_limit bigint := etl.get_setting('quarantine_limit')::bigint;
BEGIN
    IF (SELECT count(*) FROM etl.quarantine AS q WHERE q.object = p_object AND q.run_id = p_run_id) > v_limit THEN
        RAISE EXCEPTION 'more than % rows of % cannot be loaded, the last because: %',
                v_limit, p_object, etl._without_values(p_sqlstate, p_reason)
            USING ERRCODE = 'ET008',
                DETAIL = format('Error code of the last row: %s; its key: %s.', p_sqlstate, p_key),
                HINT = 'Correct the transformation or the table, or raise the setting quarantine_limit.';
    END IF;
END
$_check_quarantine_limit$;

-- Puts a row into quarantine, or counts another failed attempt.
CREATE OR REPLACE FUNCTION etl._quarantine(p_object name, p_key jsonb, p_sqlstate text, p_reason text, p_original jsonb, p_run_id bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_quarantine$
    INSERT INTO etl.quarantine AS q (object, row_key, sqlstate, reason, original_row, run_id)
    VALUES (p_object, p_key, p_sqlstate, p_reason, p_original, p_run_id)
    ON CONFLICT (object, jsonb_hash_extended(row_key, 0), jsonb_hash_extended(row_key, 1)) DO UPDATE
    SET sqlstate = excluded.sqlstate,
        reason = excluded.reason,
        original_row = excluded.original_row,
        attempts = q.attempts + 1,
        is_retried = false,
        -- A row is accepted for one reason.
        accepted_at = CASE WHEN (q.sqlstate, q.reason) = (excluded.sqlstate, excluded.reason) THEN q.accepted_at END,
        accepted_by = CASE WHEN (q.sqlstate, q.reason) = (excluded.sqlstate, excluded.reason) THEN q.accepted_by END,
        tried_at = excluded.tried_at,
        run_id = excluded.run_id
$_quarantine$;

-- Releases the rows that a load retried without a new error.
CREATE OR REPLACE FUNCTION etl._end_retry(p_object name)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_end_retry$
    DELETE FROM etl.quarantine AS q
    WHERE q.object = p_object
        AND q.is_retried
$_end_retry$;
