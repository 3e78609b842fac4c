-- Rows of the source fetched by their keys: those that a repair or a retry asks for, and those of a batch that failed as a whole.
--
-- A row may be unreadable: its text is not valid in the warehouse's encoding, or a view of the source fails on it. Such a row stops
-- the statement that fetches it together with all others. Its key can be read nevertheless. So the keys are read first, the rows are fetched by
-- ranges of keys, and a range that fails is halved until the bad rows stand alone. They go to quarantine with what can be
-- read of them; of text that cannot, the bytes. The mirror keeps such a row as it last was.
--
-- The conditions are such as postgres_fdw sends to another server: only the rows asked for cross the network. What the transaction
-- at the source sees does not change meanwhile: an error over there ends only a savepoint.

/*
Makes the table of keys that are to be fetched.
Parameters: p_source_table, the table; p_key, its key columns.
Writes:     pg_temp.fetched_key, made anew: position (to be filled from 1 on without gaps) and key.
*/
CREATE OR REPLACE FUNCTION etl._begin_fetch(p_source_table name, p_key name[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_begin_fetch$
BEGIN
    DROP TABLE IF EXISTS pg_temp.fetched_key;
    EXECUTE format(
        'CREATE TEMPORARY TABLE fetched_key ON COMMIT DROP AS SELECT NULL::bigint AS position, %s FROM stage.%I WITH NO DATA',
        etl._list(p_key), p_source_table
    );
END
$_begin_fetch$;
COMMENT ON FUNCTION etl._begin_fetch(name, name[]) IS 'Makes the table of keys that are to be fetched.';

/*
Fetches the rows whose keys are in pg_temp.fetched_key, as many at once as can be read.
Parameters: p_source_table, the table; p_key, its key columns; p_batch, the batch.
Returns:    rows read, quarantined.
Writes:     delta.<table>, etl.quarantine.
Errors:     ET008 when more rows cannot be read than the setting quarantine_limit allows.
*/
CREATE OR REPLACE FUNCTION etl._fetch(p_source_table name, p_key name[], p_batch etl.batch)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fetch$
DECLARE
    c_rows_at_once CONSTANT bigint := 10000;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_columns name[] := etl._without(etl._columns(format('stage.%I', p_source_table)::regclass), '{batch_id,deleted_at}');
    v_statement text;
    v_from bigint[];
    v_to bigint[];
    v_first bigint;
    v_last bigint;
    v_rows bigint;
    v_sqlstate text;
    v_reason text;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE 'ANALYZE pg_temp.fetched_key';
    v_statement := etl._render(
        $template$INSERT INTO delta.{{name}} (batch_id, delta_operation, {{columns}})
SELECT $1, 'upsert', {{s.columns}}
FROM source.{{name}} AS s
WHERE {{among}}
    AND EXISTS (SELECT FROM pg_temp.fetched_key AS f WHERE f.position BETWEEN $2 AND $3 AND {{f.key = s.key}})$template$,
        jsonb_build_object(
            'name', quote_ident(p_source_table), 'columns', to_jsonb(v_columns), 'key', to_jsonb(p_key),
            'among', etl._among_sql(format('stage.%I', p_source_table)::regclass, p_key, 'pg_temp.fetched_key AS k WHERE k.position BETWEEN $2 AND $3')
        )
    );
    -- Ranges that are to be fetched, the next one last.
    EXECUTE 'SELECT count(*) FROM pg_temp.fetched_key' INTO v_last;
    SELECT coalesce(array_agg(g.position ORDER BY g.position DESC), '{}'), coalesce(array_agg(least(g.position + c_rows_at_once - 1, v_last) ORDER BY g.position DESC), '{}')
    INTO v_from, v_to
    FROM generate_series(1, v_last, c_rows_at_once) AS g (position);

    WHILE cardinality(v_from) > 0 LOOP
        v_first := v_from[cardinality(v_from)];
        v_last := v_to[cardinality(v_to)];
        v_from := trim_array(v_from, 1);
        v_to := trim_array(v_to, 1);
        v_sqlstate := NULL;
        BEGIN
            EXECUTE v_statement USING p_batch.batch_id, v_first, v_last;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            r_result.rows_read := r_result.rows_read + v_rows;
        EXCEPTION
            WHEN data_exception THEN
                GET STACKED DIAGNOSTICS v_sqlstate = RETURNED_SQLSTATE, v_reason = MESSAGE_TEXT;
        END;
        IF v_sqlstate IS NOT NULL THEN
            IF v_first < v_last THEN
                v_from := v_from || ARRAY[(v_first + v_last) / 2 + 1, v_first];
                v_to := v_to || ARRAY[v_last, (v_first + v_last) / 2];
            ELSE
                PERFORM etl._quarantine_unreadable(p_source_table, p_key, v_first, v_sqlstate, v_reason, p_batch.run_id);
                r_result.rows_quarantined := r_result.rows_quarantined + 1;
            END IF;
        END IF;
    END LOOP;
    RETURN r_result;
END
$_fetch$;
COMMENT ON FUNCTION etl._fetch(name, name[], etl.batch) IS 'Fetches the rows whose keys are in pg_temp.fetched_key; those that cannot be read go to quarantine.';

/*
Fetches the changed rows of a source table of which some cannot be read.
Parameters: p_source, the table; p_is_complete, whether all its rows are fetched; p_batch, the batch; p_snapshot, p_from, p_until, since when and up to when
            rows have changed.
Returns:    rows read, quarantined.
Writes:     delta.<table>, etl.quarantine.
Errors:     ET008 when too many rows cannot be read; the error as it was when not even their keys can.
*/
CREATE OR REPLACE FUNCTION etl._fetch_changed(
    p_source etl.source_table,
    p_is_complete boolean,
    p_batch etl.batch,
    p_snapshot pg_snapshot,
    p_from timestamptz,
    p_until timestamptz
) RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fetch_changed$
DECLARE
    r_result etl.load_result;
    v_columns name[] := etl._without(etl._columns(format('stage.%I', p_source.source_table)::regclass), '{batch_id,deleted_at}');
    v_changed text := CASE
        WHEN p_is_complete THEN 'true'
        ELSE etl._changed_condition(p_source, 's', '$2', '$5', '$3', '$4')
    END;
    v_key text := etl._list(p_source.key_columns, 's.%1$I');
    v_rows bigint := 0;
BEGIN
    PERFORM etl._begin_fetch(p_source.source_table, p_source.key_columns);
    EXECUTE format(
        $sql$INSERT INTO pg_temp.fetched_key (position, %1$s)
SELECT row_number() OVER (ORDER BY %1$s), %1$s
FROM (
    SELECT DISTINCT %2$s
    FROM source.%3$I AS s
    WHERE %4$s
) AS k
WHERE (%1$s) IS NOT NULL$sql$,
        etl._list(p_source.key_columns), v_key, p_source.source_table, v_changed
    )
    USING p_batch.batch_id, p_snapshot, p_from, p_until, p_batch.snapshot;
    r_result := etl._fetch(p_source.source_table, p_source.key_columns, p_batch);

    -- Rows without a key, which stage sets aside: together, as nothing tells them apart.
    BEGIN
        EXECUTE etl._render(
            $template$INSERT INTO delta.{{name}} (batch_id, delta_operation, {{columns}})
SELECT $1, 'upsert', {{s.columns}}
FROM source.{{name}} AS s
WHERE ({{has_no_key}})
    AND {{changed}}$template$,
            jsonb_build_object(
                'name', quote_ident(p_source.source_table), 'columns', to_jsonb(v_columns),
                'has_no_key', etl._list(p_source.key_columns, 's.%1$I IS NULL', ' OR '), 'changed', v_changed
            )
        )
        USING p_batch.batch_id, p_snapshot, p_from, p_until, p_batch.snapshot;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
    EXCEPTION
        WHEN data_exception THEN
            PERFORM etl._quarantine(
                p_source.source_table, (SELECT jsonb_object_agg(c.name, NULL) FROM unnest(p_source.key_columns) AS c (name)),
                SQLSTATE, 'a column of its key is NULL, and it cannot be read: ' || SQLERRM, NULL, p_batch.run_id
            );
            r_result.rows_quarantined := r_result.rows_quarantined + 1;
    END;
    r_result.rows_read := r_result.rows_read + v_rows;
    RETURN r_result;
END
$_fetch_changed$;
COMMENT ON FUNCTION etl._fetch_changed(etl.source_table, boolean, etl.batch, pg_snapshot, timestamptz, timestamptz) IS 'Fetches the changed rows of a source table of which some cannot be read.';

/*
Extracts rows that a repair or a retry asked for, whether they have changed or not, as part of a batch.
Parameters: p_source_table, the table; p_batch, the batch; p_until, moment noted for rows that are gone without a trace.
Returns:    rows read, quarantined.
Writes:     delta.<table>, etl.reextraction, etl.quarantine.
*/
CREATE OR REPLACE FUNCTION etl._extract_again(p_source_table name, p_batch etl.batch, p_until timestamptz)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract_again$
DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_key name[];
    v_rows bigint;
BEGIN
    -- Done is what a batch brought that has reached stage.
    DELETE FROM etl.reextraction AS e
    USING etl.watermark AS w
    WHERE e.source_table = p_source_table
        AND w.source_table = p_source_table
        AND e.batch_id <= w.batch_id;
    IF NOT EXISTS (SELECT FROM etl.reextraction AS e WHERE e.source_table = p_source_table) THEN
        RETURN r_result;
    END IF;
    SELECT s.key_columns
    INTO v_key
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE format('DELETE FROM delta.%I WHERE batch_id <> $1', p_source_table) USING p_batch.batch_id;
    PERFORM etl._begin_fetch(p_source_table, v_key);
    EXECUTE format(
        $sql$INSERT INTO pg_temp.fetched_key (position, %1$s)
SELECT row_number() OVER (ORDER BY %1$s), %1$s
FROM (
    SELECT DISTINCT %2$s
    FROM etl.reextraction AS e
    WHERE e.source_table = $2
) AS k (%1$s)
WHERE (%1$s) IS NOT NULL
    AND NOT EXISTS (SELECT FROM delta.%3$I AS d WHERE d.batch_id = $1 AND %4$s)$sql$,
        etl._list(v_key), etl._list(v_key, format('(jsonb_populate_record(NULL::stage.%I, e.row_key)).', p_source_table) || '%1$I'), p_source_table, etl._match(v_key, 'd', 'k')
    )
    USING p_batch.batch_id, p_source_table;
    r_result := etl._fetch(p_source_table, v_key, p_batch);
    EXECUTE etl._render(
        $template$INSERT INTO delta.{{name}} (batch_id, delta_operation, {{key}}, deleted_at)
SELECT $1, 'delete', {{k.key}}, $2
FROM pg_temp.fetched_key AS k
WHERE NOT EXISTS (SELECT FROM delta.{{name}} AS d WHERE d.batch_id = $1 AND {{d.key = k.key}})
    AND NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = $3 AND q.run_id = $4 AND q.sqlstate LIKE '22%' AND q.row_key = {{as_json}})$template$,
        jsonb_build_object('name', quote_ident(p_source_table), 'key', to_jsonb(v_key), 'as_json', etl._json_key(v_key, 'k'))
    )
    USING p_batch.batch_id, p_until, p_source_table, p_batch.run_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    r_result.rows_read := r_result.rows_read + v_rows;
    UPDATE etl.reextraction AS e
    SET batch_id = p_batch.batch_id
    WHERE e.source_table = p_source_table;
    RETURN r_result;
END
$_extract_again$;
COMMENT ON FUNCTION etl._extract_again(name, etl.batch, timestamptz) IS 'Extracts rows that a repair or a retry asked for, as part of a batch.';
