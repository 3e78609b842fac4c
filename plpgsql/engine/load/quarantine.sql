-- Keys that cannot be loaded go to quarantine with their source row, until they are loaded or retried.

-- The source row of a row of a dimension or fact: the row of the source table with the same key, if there is such a table.
-- Parameters: p_object, dimension or fact; p_business_key, its columns; p_key, the row's key.
-- Returns:    the row of stage; NULL when there is none.
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
            'SELECT to_jsonb(m.*) FROM jsonb_populate_record(NULL::stage.%1$I, $1) AS k JOIN stage.%1$I AS m ON %2$s',
            v_source, etl._match(p_business_key, 'm', 'k')
        )
        INTO v_original
        USING p_key;
    END IF;
    RETURN v_original;
END
$_original_row$;

-- Quarantines a fact row without a member in a dimension that nothing loads, such as a date outside the calendar.
-- Parameters: p_fact, the fact; p_fact_key, its key; p_key_column, p_dimension, p_dimension_key, what has no member; p_run_id, the run.
-- Writes:     etl.quarantine.
-- Errors:     ET008 when the run has put more rows of the fact there than the setting quarantine_limit allows.
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
    v_reason text;
BEGIN
    SELECT format('%s has no %s, which %s needs', p_dimension, string_agg(format('%s %s', e.key, coalesce(e.value, 'NULL')), ', '), p_key_column)
    INTO v_reason
    FROM jsonb_each_text(p_dimension_key) AS e;
    PERFORM etl._quarantine(
        p_fact, p_fact_key, 'ET009', v_reason,
        etl._original_row(p_fact, (SELECT f.business_key FROM etl.fact AS f WHERE f.fact = p_fact), p_fact_key), p_run_id
    );
    PERFORM etl._check_quarantine_limit(p_fact, p_fact_key, 'ET009', v_reason, p_run_id);
END
$_refuse_fact$;

-- Requests a retry of rows in quarantine by the next run. Waits for a dimension or fact that is being loaded.
-- Parameters: p_object, source table, dimension or fact (all by default). Rows of a source table are extracted again by their keys; those
--             without a key with their table.
-- Returns:    number of rows.
-- Writes:     work.<object>_key, for a source table etl.reextraction or etl.watermark.
-- Errors:     ET002 when there is no such object.
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
        SELECT q.object, count(*) AS row_count, o.business_key
        FROM etl.quarantine AS q
        LEFT JOIN (
            SELECT dimension, business_key FROM etl.dimension
            UNION ALL
            SELECT fact, business_key FROM etl.fact
        ) AS o (object, business_key) USING (object)
        WHERE p_object IS NULL
            OR q.object = p_object
        GROUP BY q.object, o.business_key
        ORDER BY q.object
    LOOP
        v_total := v_total + r_object.row_count;
        IF r_object.business_key IS NULL THEN
            INSERT INTO etl.reextraction (source_table, row_key)
            SELECT q.object, q.row_key
            FROM etl.quarantine AS q
            WHERE q.object = r_object.object
                AND q.sqlstate NOT IN ('23502', '54000')
            ON CONFLICT (source_table, row_key) DO UPDATE
            SET batch_id = NULL;
            PERFORM etl._request_refresh(ARRAY[q.object::text])
            FROM etl.quarantine AS q
            WHERE q.object = r_object.object
                AND (q.sqlstate IN ('23502', '54000') OR jsonb_path_exists(q.row_key, '$.* ? (@ == null)'))
            LIMIT 1;
        ELSE
            -- A running load would clear keys that it has not seen.
            PERFORM etl._needs_reload(r_object.object);
            EXECUTE format(
                'INSERT INTO work.%1$I (%2$s) SELECT %2$s FROM etl.quarantine AS q CROSS JOIN LATERAL jsonb_populate_record(NULL::work.%1$I, q.row_key) WHERE q.object = $1',
                r_object.object || '_key', etl._list(r_object.business_key)
            )
            USING r_object.object;
        END IF;
    END LOOP;
    RETURN v_total;
END
$retry_quarantine$;
COMMENT ON FUNCTION etl.retry_quarantine(name) IS 'Asks that rows in quarantine be tried again by the next run; returns their number.';
