-- One bad row never stops the other million. A load works on all pending keys at once. If a row can be at fault, the keys are halved
-- until each bad one stands alone. Such errors are: class 22 (data exception), 23 (constraint violation), 21 (a scalar subquery of the
-- transformation returned two rows) and 54 (a value too long for an index). Any other error, such as one that a trigger or function of
-- the business raises, fails the load: facts then refer to Unknown and are queued, and the next run repairs them.
-- Good rows are loaded. Bad rows go to quarantine with the reason and the source row. A row leaves quarantine when it has been loaded:
-- after it changed in the source, or on request.
--
-- With b bad keys among n, this takes about 2 b log2(n / b) small loads. A load with very many bad rows therefore fails as a whole:
-- then the transformation is at fault, not the rows.

-- Loads the pending keys of a dimension or fact; those that cannot be loaded go to quarantine.
-- Parameters: p_object, dimension or fact; p_business_key, its columns; p_run_id, the run; p_depth, how often the keys have been halved (0
--             for the caller).
-- Returns:    rows inserted, updated, deleted, queued, quarantined.
-- Writes:     what the load writes, work.<object>_key, etl.quarantine.
-- Errors:     ET008 when more rows are bad than the setting quarantine_limit allows, or a sequence has reached its limit; any error that is not
--             of the data.
CREATE OR REPLACE FUNCTION etl._load_isolating(
    p_object name,
    p_business_key name[],
    p_run_id bigint,
    p_depth integer DEFAULT 0
) RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_load_isolating$
DECLARE
    r_result etl.load_result;
    r_half etl.load_result;
    v_keys text := format('work.%I', p_object || '_key');
    v_held text := format('pg_temp.%I', '_held_' || p_object);
    v_list text := etl._list(p_business_key);
    v_count bigint;
    v_key jsonb;
    v_sqlstate text;
    v_reason text;
BEGIN
    IF p_depth = 0 AND EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_object) THEN
        -- Those that fail again stay in quarantine; the others leave it below.
        EXECUTE format(
            'UPDATE etl.quarantine AS q SET is_retried = true FROM (SELECT %s AS row_key FROM %s AS k OFFSET 0) AS k WHERE q.object = $1 AND q.row_key = k.row_key',
            etl._json_key(p_business_key, 'k'), v_keys
        )
        USING p_object;
    END IF;
    BEGIN
        EXECUTE format('SELECT * FROM compiled.%I($1)', 'load_' || p_object) INTO r_result USING p_run_id;
    EXCEPTION
        WHEN sequence_generator_limit_exceeded THEN
            -- No row is at fault.
            RAISE EXCEPTION 'no row can be added to %: a sequence of its table has reached its limit', p_object
                USING ERRCODE = 'ET008', HINT = 'Raise the limit of the sequence, and make the column bigint, in facts too, where it is a key.';
        WHEN data_exception OR integrity_constraint_violation OR cardinality_violation OR program_limit_exceeded THEN
            GET STACKED DIAGNOSTICS v_sqlstate = RETURNED_SQLSTATE, v_reason = MESSAGE_TEXT;
    END;

    IF v_sqlstate IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s', v_keys) INTO v_count;
        IF v_count = 1 THEN
            EXECUTE format('SELECT %s FROM %s AS k', etl._json_key(p_business_key, 'k'), v_keys) INTO v_key;
            PERFORM etl._quarantine(p_object, v_key, v_sqlstate, v_reason, etl._original_row(p_object, p_business_key, v_key), p_run_id);
            PERFORM etl._check_quarantine_limit(p_object, v_key, v_sqlstate, v_reason, p_run_id);
            r_result := (0, 0, 0, 0, 0, 1);
        ELSE
            EXECUTE format('CREATE TEMPORARY TABLE IF NOT EXISTS %s ON COMMIT DROP AS SELECT 0 AS depth, k.* FROM %s AS k WITH NO DATA', v_held, v_keys);
            EXECUTE format('INSERT INTO %s SELECT $1, k.* FROM %s AS k ORDER BY %s OFFSET $2', v_held, v_keys, v_list)
            USING p_depth, v_count / 2;
            EXECUTE format('DELETE FROM %s AS k USING %s AS h WHERE h.depth = $1 AND %s', v_keys, v_held, etl._match(p_business_key, 'k', 'h'))
            USING p_depth;
            r_result := etl._load_isolating(p_object, p_business_key, p_run_id, p_depth + 1);

            EXECUTE format('DELETE FROM %s', v_keys);
            EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE depth = $1', v_keys, v_list, v_list, v_held) USING p_depth;
            EXECUTE format('DELETE FROM %s WHERE depth = $1', v_held) USING p_depth;
            r_half := etl._load_isolating(p_object, p_business_key, p_run_id, p_depth + 1);
            r_result := (
                0,
                r_result.rows_inserted + r_half.rows_inserted,
                r_result.rows_updated + r_half.rows_updated,
                r_result.rows_deleted + r_half.rows_deleted,
                r_result.rows_queued + r_half.rows_queued,
                r_result.rows_quarantined + r_half.rows_quarantined
            );
        END IF;
    END IF;
    IF p_depth = 0 THEN
        PERFORM etl._end_retry(p_object);
    END IF;
    RETURN r_result;
END
$_load_isolating$;
