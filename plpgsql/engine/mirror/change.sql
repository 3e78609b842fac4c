-- The statement that extracts the changed rows of a table, and the condition that finds them.

CREATE OR REPLACE FUNCTION etl._changed_condition(p_source etl.source_table, p_mode text, p_snapshot text DEFAULT '$2')
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_changed_condition$
    SELECT CASE
        WHEN p_mode = 'all' OR p_source.change_detection = 'comparison' THEN 'true'
        WHEN p_source.change_detection = 'snapshot'
            THEN format(E's.%1$I >= pg_snapshot_xmin(%2$s)\n    AND NOT pg_visible_in_snapshot(s.%1$I, %2$s)', p_source.change_column, p_snapshot)
        -- The lookback is off $3 already: moment - interval in the condition would keep it from being sent to another server.
        ELSE format(E's.%1$I >= $3\n    AND s.%1$I < $4', p_source.change_column)
    END
$_changed_condition$;
COMMENT ON FUNCTION etl._changed_condition(etl.source_table, text, text) IS 'Condition that a row of a source table (s) is to be extracted: mode changed (since the watermark) or all. The last snapshot is $2 or an expression, $3 and $4 moments from and up to which changes are read.';

/*
Whether a source table is extracted from its watermark on (changed), or anew (all): where it has none, or one that means nothing any more.
Parameters: p_watermark, the watermark, NULL where there is none; p_batch, the batch.
*/
CREATE OR REPLACE FUNCTION etl._extraction_mode(p_watermark etl.watermark, p_batch etl.batch)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_extraction_mode$
    SELECT CASE
        -- Transaction ids of another database system mean nothing here; nor do those of a source that went back in time.
        WHEN p_watermark.system_identifier = p_batch.system_identifier
            AND pg_snapshot_xmax(p_batch.snapshot) >= pg_snapshot_xmin(p_watermark.snapshot)
            THEN 'changed'
        ELSE 'all'
    END
$_extraction_mode$;
COMMENT ON FUNCTION etl._extraction_mode(etl.watermark, etl.batch) IS 'Whether a source table is extracted from its watermark on (changed), or anew (all).';

CREATE OR REPLACE FUNCTION etl._extraction_sql(
    p_source_table name,
    p_mode text
) RETURNS TABLE (title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_extraction_sql$
DECLARE
    r_source etl.source_table;
    v_columns name[];
    v_values name[];
    v_deleted_at text := '$4';
    v_tombstones text := '';
    v_gone text;
    v_changed text;
    v_unreadable text;
    v_present text;
BEGIN
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    v_columns := etl._without(etl._columns(format('stage.%I', p_source_table)::regclass), '{batch_id,deleted_at}');

    IF p_mode = 'bulk' THEN
        title := 'rows straight into the empty stage table';
        statement := format(
            $sql$INSERT INTO stage.%1$I (%2$s, batch_id)
SELECT %2$s, $1
FROM source.%1$I$sql$,
            p_source_table, etl._list(v_columns)
        );
        RETURN NEXT;
        RETURN;
    END IF;

    IF r_source.delete_detection = 'tombstone' AND p_mode <> 'changed' THEN
        -- A tombstone knows when the row was deleted; without one it was before now.
        v_deleted_at := 'coalesce(t.deleted_at, $4)';
        v_tombstones := format(
            $sql$
LEFT JOIN (
    SELECT %1$s, max(d.deleted_at)
    FROM source.tombstones AS d
    WHERE d.table_name = %2$L
    GROUP BY %1$s
) AS t (%3$s, deleted_at) ON %4$s$sql$,
            etl._from_json(r_source.key_columns, 'd.row_key', format('stage.%I', p_source_table)::regclass), p_source_table,
            etl._list(r_source.key_columns), etl._match(r_source.key_columns, 't', 'm')
        );
    END IF;

    IF p_mode = 'differing' THEN
        v_values := etl._without(v_columns, r_source.key_columns);
        -- No row of the mirror is without its key: beside one that has none, the source has no row.
        v_gone := format('m.batch_id IS NOT NULL AND s.%I IS NULL', r_source.key_columns[1]);
        title := 'rows that the mirror lacks, holds otherwise or has too many, into delta';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s%3$s, deleted_at)
SELECT
    $1,
    CASE WHEN %4$s THEN 'delete' ELSE 'upsert' END,
    %5$s%6$s,
    CASE WHEN %4$s THEN %7$s END
FROM source.%1$I AS s
FULL JOIN (SELECT * FROM stage.%1$I AS r WHERE r.deleted_at IS NULL) AS m ON %8$s%9$s
WHERE CASE
        WHEN m.batch_id IS NULL THEN true
        WHEN s.%10$I IS NULL THEN %11$s
        ELSE %12$s
    END$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(v_values, ', %1$I', ''), v_gone,
            etl._list(r_source.key_columns, 'coalesce(s.%1$I, m.%1$I)'), etl._list(v_values, ', s.%1$I', ''),
            v_deleted_at, etl._match(r_source.key_columns, 'm', 's'), v_tombstones, r_source.key_columns[1],
            (r_source.delete_detection <> 'none')::text, etl._differs(v_values, 'm', 's')
        );
        RETURN NEXT;
        RETURN;
    END IF;

    v_changed := coalesce(E'\nWHERE ' || nullif(etl._changed_condition(r_source, p_mode), 'true'), '');
    title := 'changed rows into delta';
    statement := format(
        $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s)
SELECT $1, 'upsert', %3$s
FROM source.%1$I AS s%4$s$sql$,
        p_source_table, etl._list(v_columns), etl._list(v_columns, 's.%1$I'), v_changed
    );
    RETURN NEXT;

    -- A row that cannot be read is there all the same.
    v_unreadable := format(
        E'\n    AND NOT EXISTS (\n        SELECT\n        FROM etl.quarantine AS q\n        JOIN etl.batch AS b ON b.run_id = q.run_id AND b.batch_id = $1\n        WHERE q.object = %L\n            AND q.sqlstate LIKE ''22%%''\n            AND q.row_key = ',
        p_source_table
    );
    -- Rows that are there now. Where delta holds all of them, or all that could have come back under a deleted key, they are not
    -- asked for again, which would move the keys of the whole table when the source is another server. By snapshot it does: a row
    -- under a key that was deleted since the watermark was written after that, thus since the watermark too.
    v_present := CASE
        WHEN p_mode = 'all' OR r_source.change_detection = 'comparison'
            OR (r_source.change_detection = 'snapshot' AND r_source.delete_detection = 'tombstone')
            THEN format('SELECT FROM delta.%I AS s WHERE s.batch_id = $1 AND s.operation = ''upsert'' AND ', p_source_table)
        ELSE format('SELECT FROM source.%I AS s WHERE ', p_source_table)
    END;

    IF r_source.delete_detection = 'comparison' OR (p_mode = 'all' AND r_source.delete_detection <> 'none') THEN
        title := 'keys that are gone from the source';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s, deleted_at)
SELECT $1, 'delete', %3$s, %4$s
FROM stage.%1$I AS m%5$s
WHERE m.deleted_at IS NULL
    AND NOT EXISTS (%6$s%7$s)%8$s$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(r_source.key_columns, 'm.%1$I'),
            v_deleted_at, v_tombstones,
            v_present, etl._match(r_source.key_columns, 's', 'm'),
            v_unreadable || etl._json_key(r_source.key_columns, 'm') || E'\n    )'
        );
        RETURN NEXT;
    ELSIF r_source.delete_detection = 'tombstone' THEN
        -- A row deleted and inserted again under its key is alive: the live row wins.
        title := 'tombstones of deleted rows';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s, deleted_at)
SELECT $1, 'delete', %3$s, max(d.deleted_at)
FROM (
    SELECT %4$s, t.deleted_at
    FROM source.tombstones AS t
    WHERE t.table_name = %5$L
        AND t.row_xid >= pg_snapshot_xmin($2)
        AND NOT pg_visible_in_snapshot(t.row_xid, $2)
) AS d (%2$s, deleted_at)
WHERE NOT EXISTS (%7$s%6$s)%8$s
GROUP BY %3$s$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(r_source.key_columns, 'd.%1$I'),
            etl._from_json(r_source.key_columns, 't.row_key', format('stage.%I', p_source_table)::regclass), p_source_table,
            etl._match(r_source.key_columns, 's', 'd'), v_present,
            v_unreadable || etl._json_key(r_source.key_columns, 'd') || E'\n    )'
        );
        RETURN NEXT;
    END IF;
END
$_extraction_sql$;
COMMENT ON FUNCTION etl._extraction_sql(name, text) IS 'Statements that extract a source table: mode changed (since the watermark), all (anew, to be compared with what stage holds), differing (anew, compared with it) or bulk (into an empty stage table). $1 batch, $2 last snapshot, $3 moment from which changes are read (the last one, less the lookback), $4 moment up to which.';
