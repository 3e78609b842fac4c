-- Rows in quarantine: how they are entered, retried and released, and how the merge sets aside rows of delta that it cannot take.

/*
Refuses to go on when a run has put very many rows of an object into quarantine: then it is not the rows that are at fault.
Parameters: p_object, the object; p_key, p_sqlstate, p_reason, the last row and its error; p_run_id, the run.
Errors:     ET008 when they are more than the setting quarantine_limit allows.
*/
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
                HINT = 'So many bad rows point at the transformation or at the table. Mend it, or raise the setting quarantine_limit.';
    END IF;
END
$_check_quarantine_limit$;
COMMENT ON FUNCTION etl._check_quarantine_limit(name, jsonb, text, text, bigint) IS 'Refuses to go on when a run has put very many rows of an object into quarantine (ET008).';

CREATE OR REPLACE FUNCTION etl._quarantine(p_object name, p_key jsonb, p_sqlstate text, p_reason text, p_original jsonb, p_run_id bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_quarantine$
    INSERT INTO etl.quarantine AS q (object, row_key, sqlstate, reason, original_row, run_id)
    VALUES (p_object, p_key, p_sqlstate, p_reason, p_original, p_run_id)
    ON CONFLICT (object, row_key) DO UPDATE
    SET sqlstate = excluded.sqlstate,
        reason = excluded.reason,
        original_row = excluded.original_row,
        attempts = q.attempts + 1,
        is_retried = false,
        -- What was accepted was the row for its reason.
        accepted_at = CASE WHEN (q.sqlstate, q.reason) = (excluded.sqlstate, excluded.reason) THEN q.accepted_at END,
        accepted_by = CASE WHEN (q.sqlstate, q.reason) = (excluded.sqlstate, excluded.reason) THEN q.accepted_by END,
        tried_at = excluded.tried_at,
        run_id = excluded.run_id
$_quarantine$;
COMMENT ON FUNCTION etl._quarantine(name, jsonb, text, text, jsonb, bigint) IS 'Puts a row into quarantine, or notes that it was tried in vain once more.';

CREATE OR REPLACE FUNCTION etl._begin_retry(p_object name, p_business_key name[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_retry$
BEGIN
    IF EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_object) THEN
        EXECUTE format(
            'UPDATE etl.quarantine AS q SET is_retried = true FROM work.%I AS k WHERE q.object = $1 AND q.row_key = %s',
            p_object || '_key', etl._json_key(p_business_key, 'k')
        )
        USING p_object;
    END IF;
END
$_begin_retry$;
COMMENT ON FUNCTION etl._begin_retry(name, name[]) IS 'Marks the rows in quarantine that a load tries again.';

CREATE OR REPLACE FUNCTION etl._end_retry(p_object name)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_end_retry$
    DELETE FROM etl.quarantine AS q
    WHERE q.object = p_object
        AND q.is_retried
$_end_retry$;
COMMENT ON FUNCTION etl._end_retry(name) IS 'Releases the rows that a load tried again and that did not come back to quarantine.';

/*
Takes rows without a usable key out of a batch: a key column that is NULL, or a key that several rows share. The engine cannot
know which of them is right.
Parameters: p_source_table, the table; p_key, its key columns; p_batch_id, the batch; p_run_id, the run.
Returns:    number of entries in quarantine.
Writes:     etl.quarantine, delta.<table>.
*/
CREATE OR REPLACE FUNCTION etl._quarantine_delta(p_source_table name, p_key name[], p_batch_id bigint, p_run_id bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_quarantine_delta$
DECLARE
    v_count bigint;
    v_list text := etl._list(p_key);
BEGIN
    -- What the batch brings anew leaves quarantine, unless it is bad again.
    EXECUTE format(
        'UPDATE etl.quarantine AS q SET is_retried = true FROM delta.%I AS d WHERE d.batch_id = $1 AND q.object = $2 AND q.row_key = %s',
        p_source_table, etl._json_key(p_key, 'd')
    )
    USING p_batch_id, p_source_table;
    EXECUTE format(
        $sql$WITH unusable AS (
    SELECT %1$s, count(*) AS row_count
    FROM delta.%2$I
    WHERE batch_id = $1
        AND operation = 'upsert'
    GROUP BY %1$s
    HAVING count(*) > 1
        OR %3$s
),
removed AS (
    DELETE FROM delta.%2$I AS d
    USING unusable AS u
    WHERE d.batch_id = $1
        AND d.operation = 'upsert'
        AND %4$s
    RETURNING
        %5$s AS is_null,
        u.row_count,
        %6$s AS row_key,
        to_jsonb(d) - '{batch_id,operation,deleted_at}'::text[] AS original_row
),
entries AS (
    SELECT CASE WHEN is_null THEN original_row ELSE row_key END AS row_key, is_null, max(row_count) AS row_count, jsonb_agg(original_row) AS originals
    FROM removed
    GROUP BY 1, 2
)
SELECT count(etl._quarantine(
    $2,
    e.row_key,
    CASE WHEN e.is_null THEN '23502' ELSE '23505' END,
    CASE WHEN e.is_null THEN 'a column of its key is NULL' ELSE format('%%s rows of the source share its key', e.row_count) END,
    CASE WHEN e.is_null THEN e.originals -> 0 ELSE e.originals END,
    $3
) IS NULL)
FROM entries AS e$sql$,
        v_list, p_source_table, etl._list(p_key, '%1$I IS NULL', ' OR '),
        etl._list(p_key, 'd.%1$I IS NOT DISTINCT FROM u.%1$I', ' AND '),
        etl._list(p_key, 'd.%1$I IS NULL', ' OR '),
        etl._json_key(p_key, 'd')
    )
    INTO v_count
    USING p_batch_id, p_source_table, p_run_id;
    PERFORM etl._end_retry(p_source_table);
    RETURN v_count;
END
$_quarantine_delta$;
COMMENT ON FUNCTION etl._quarantine_delta(name, name[], bigint, bigint) IS 'Takes rows without a usable key out of a batch.';
