-- One bad row never stops the other million. A load works on all pending keys at once; when the data is at fault (an error of
-- class 22, data exception, or 23, constraint violation), the keys are halved until each bad one stands alone. What is good is
-- loaded, what is bad goes to quarantine with the reason and the row that it came from. A row leaves quarantine when it has
-- been loaded: after it changed in the source, or on request.
--
-- With b bad keys among n that takes about 2 b log2(n / b) small loads beside the good one, so a load with very many
-- bad rows fails as a whole: then it is not the rows that are at fault.

/*
Loads the pending keys of a dimension or fact; those that cannot be loaded go to quarantine.
Parameters: p_kind, dimension or fact; p_object, its name; p_business_key, its columns; p_run_id, the run; p_depth, how often the
            keys have been halved (0 for the caller).
Returns:    rows inserted, updated, deleted, queued, quarantined.
Writes:     what the load writes, work.<object>_key, etl.quarantine.
Errors:     ET008 when more rows are bad than the setting quarantine_limit allows; any error that is not of the data.
*/
CREATE OR REPLACE FUNCTION etl._apply_isolating(
    p_kind text,
    p_object name,
    p_business_key name[],
    p_run_id bigint,
    p_depth integer DEFAULT 0
) RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_apply_isolating$
DECLARE
    r_result etl.load_result;
    r_half etl.load_result;
    v_keys text := format('work.%I', p_object || '_key');
    v_held text := format('pg_temp.%I', '_held_' || p_object);
    v_list text := etl._list(p_business_key);
    v_count bigint;
    v_sqlstate text;
    v_reason text;
BEGIN
    IF p_depth = 0 THEN
        PERFORM etl._begin_retry(p_object, p_business_key);
    END IF;
    BEGIN
        r_result := CASE p_kind
            WHEN 'dimension' THEN etl._apply_dimension(p_object, p_run_id)
            ELSE etl._apply_fact(p_object, p_run_id)
        END;
    EXCEPTION
        WHEN data_exception OR integrity_constraint_violation THEN
            GET STACKED DIAGNOSTICS v_sqlstate = RETURNED_SQLSTATE, v_reason = MESSAGE_TEXT;
    END;

    IF v_sqlstate IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s', v_keys) INTO v_count;
        IF v_count = 1 THEN
            PERFORM etl._quarantine_key(p_object, p_business_key, v_sqlstate, v_reason, p_run_id);
            r_result := (0, 0, 0, 0, 0, 1);
        ELSE
            EXECUTE format('CREATE TEMPORARY TABLE IF NOT EXISTS %s ON COMMIT DROP AS SELECT 0 AS depth, k.* FROM %s AS k WITH NO DATA', v_held, v_keys);
            EXECUTE format('INSERT INTO %s SELECT $1, k.* FROM %s AS k ORDER BY %s OFFSET $2', v_held, v_keys, v_list)
            USING p_depth, v_count / 2;
            EXECUTE format('DELETE FROM %s AS k USING %s AS h WHERE h.depth = $1 AND %s', v_keys, v_held, etl._match(p_business_key, 'k', 'h'))
            USING p_depth;
            r_result := etl._apply_isolating(p_kind, p_object, p_business_key, p_run_id, p_depth + 1);

            EXECUTE format('DELETE FROM %s', v_keys);
            EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE depth = $1', v_keys, v_list, v_list, v_held) USING p_depth;
            EXECUTE format('DELETE FROM %s WHERE depth = $1', v_held) USING p_depth;
            r_half := etl._apply_isolating(p_kind, p_object, p_business_key, p_run_id, p_depth + 1);
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
$_apply_isolating$;
COMMENT ON FUNCTION etl._apply_isolating(text, name, name[], bigint, integer) IS 'Loads the pending keys of an object; those that cannot be loaded go to quarantine.';

/*
Puts the only pending key of an object into quarantine.
Parameters: p_object, dimension or fact; p_business_key, its columns; p_sqlstate, p_reason, the error; p_run_id, the run.
Writes:     etl.quarantine.
Errors:     ET008 when the run has put more rows of the object there than the setting quarantine_limit allows.
*/
CREATE OR REPLACE FUNCTION etl._quarantine_key(p_object name, p_business_key name[], p_sqlstate text, p_reason text, p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_quarantine_key$
DECLARE
    v_key jsonb;
BEGIN
    EXECUTE format('SELECT %s FROM work.%I AS k', etl._json_key(p_business_key, 'k'), p_object || '_key') INTO v_key;
    PERFORM etl._quarantine(p_object, v_key, p_sqlstate, p_reason, etl._original_row(p_object, p_business_key, v_key), p_run_id);
    PERFORM etl._check_quarantine_limit(p_object, v_key, p_sqlstate, p_reason, p_run_id);
END
$_quarantine_key$;
COMMENT ON FUNCTION etl._quarantine_key(name, name[], text, text, bigint) IS 'Puts the only pending key of an object into quarantine.';

/*
The row that a row of a dimension or fact came from: of the source table with the same key, where there is one.
Parameters: p_object, dimension or fact; p_business_key, its columns; p_key, the row's key.
Returns:    the row of stage; NULL when there is none.
*/
CREATE OR REPLACE FUNCTION etl._original_row(p_object name, p_business_key name[], p_key jsonb)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_original_row$
DECLARE
    v_source name;
    v_original jsonb;
BEGIN
    SELECT s.source_table
    INTO v_source
    FROM etl.dependency AS d
    JOIN etl.source_table AS s USING (source_table)
    WHERE d.object = p_object
        AND s.key_columns @> p_business_key
        AND s.key_columns <@ p_business_key
    ORDER BY s.source_table
    LIMIT 1;
    IF FOUND THEN
        EXECUTE format(
            'SELECT to_jsonb(m) FROM (SELECT %s) AS k (%s) JOIN stage.%I AS m ON %s',
            etl._from_json(p_business_key, '$1', format('stage.%I', v_source)::regclass), etl._list(p_business_key), v_source,
            etl._match(p_business_key, 'm', 'k')
        )
        INTO v_original
        USING p_key;
    END IF;
    RETURN v_original;
END
$_original_row$;
COMMENT ON FUNCTION etl._original_row(name, name[], jsonb) IS 'The row of stage that a row of a dimension or fact came from.';

/*
Puts a fact into quarantine for which a dimension that nothing loads has no member, such as a date outside the calendar. A bulk load
of this run may have inserted it already.
Parameters: p_fact, the fact; p_fact_key, its key; p_key_column, p_dimension, p_dimension_key, what has no member; p_run_id, the run.
Writes:     etl.quarantine, the fact's table.
Errors:     ET008 when the run has put more rows of the fact there than the setting quarantine_limit allows.
*/
CREATE OR REPLACE FUNCTION etl._refuse_fact(
    p_fact name,
    p_fact_key jsonb,
    p_key_column name,
    p_dimension name,
    p_dimension_key jsonb,
    p_run_id bigint
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_fact$
DECLARE
    r_fact etl.fact;
    v_reason text;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    SELECT format('%s has no %s, which %s needs', p_dimension, string_agg(format('%s %s', e.key, coalesce(e.value, 'NULL')), ', '), p_key_column)
    INTO v_reason
    FROM jsonb_each_text(p_dimension_key) AS e;
    PERFORM etl._quarantine(p_fact, p_fact_key, 'ET009', v_reason, etl._original_row(p_fact, r_fact.business_key, p_fact_key), p_run_id);
    PERFORM etl._check_quarantine_limit(p_fact, p_fact_key, 'ET009', v_reason, p_run_id);
    EXECUTE format(
        'DELETE FROM %s AS f USING (SELECT %s) AS k (%s) WHERE %s AND f.run_id = $2 AND f.%I = -1',
        r_fact.fact_table, etl._from_json(r_fact.business_key, '$1', r_fact.fact_table), etl._list(r_fact.business_key),
        etl._match(r_fact.business_key, 'f', 'k'), p_key_column
    )
    USING p_fact_key, p_run_id;
END
$_refuse_fact$;
COMMENT ON FUNCTION etl._refuse_fact(name, jsonb, name, name, jsonb, bigint) IS 'Puts a fact into quarantine for which a dimension that nothing loads has no member (ET009).';

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

/*
Asks that rows in quarantine be tried again by the next run. Waits for a dimension or fact that is being loaded.
Parameters: p_object, source table, dimension or fact (all by default). Rows of a source table are extracted again by their keys; those
            without a key with their table.
Returns:    number of rows.
Writes:     work.<object>_key, for a source table etl.reextraction or etl.watermark.
Errors:     ET002 when there is no such object.
*/
CREATE OR REPLACE FUNCTION etl.retry_quarantine(p_object name DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $retry_quarantine$
DECLARE
    r_object record;
    v_total bigint := 0;
BEGIN
    PERFORM etl._check_names(ARRAY[p_object::text], NULL) WHERE p_object IS NOT NULL;
    FOR r_object IN
        SELECT q.object, count(*) AS row_count, o.business_key, o.target
        FROM etl.quarantine AS q
        LEFT JOIN (
            SELECT dimension, business_key, dimension_table FROM etl.dimension
            UNION ALL
            SELECT fact, business_key, fact_table FROM etl.fact
        ) AS o (object, business_key, target) USING (object)
        WHERE p_object IS NULL
            OR q.object = p_object
        GROUP BY q.object, o.business_key, o.target
        ORDER BY q.object
    LOOP
        v_total := v_total + r_object.row_count;
        IF r_object.business_key IS NULL THEN
            INSERT INTO etl.reextraction (source_table, row_key)
            SELECT q.object, q.row_key
            FROM etl.quarantine AS q
            WHERE q.object = r_object.object
                AND q.sqlstate <> '23502'
            ON CONFLICT (source_table, row_key) DO UPDATE
            SET batch_id = NULL;
            PERFORM etl._request_refresh(ARRAY[q.object::text])
            FROM etl.quarantine AS q
            WHERE q.object = r_object.object
                AND (q.sqlstate = '23502' OR jsonb_path_exists(q.row_key, '$.* ? (@ == null)'))
            LIMIT 1;
        ELSE
            -- A load that is at work would clear keys that it has not seen.
            PERFORM etl._needs_reload(r_object.object);
            EXECUTE format(
                'INSERT INTO work.%I (%s) SELECT %s FROM etl.quarantine AS q WHERE q.object = $1',
                r_object.object || '_key', etl._list(r_object.business_key),
                etl._from_json(r_object.business_key, 'q.row_key', r_object.target)
            )
            USING r_object.object;
        END IF;
    END LOOP;
    RETURN v_total;
END
$retry_quarantine$;
COMMENT ON FUNCTION etl.retry_quarantine(name) IS 'Asks that rows in quarantine be tried again by the next run; returns their number.';
