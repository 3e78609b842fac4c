-- Whether anything has changed in the source at all.

/*
Whether no source table has changed since its watermark. The point is noted before the tables are looked at: what is committed in between is
found now, or by the next run.
Returns:    true when it is sure; false when something has changed, or when only an extraction can tell (detection by comparison, another
            database system, columns that have changed).
Writes:     when nothing has changed: etl.watermark, and etl.batch, whose latest one then holds all that there is up to now.
*/
CREATE OR REPLACE FUNCTION etl._is_source_unchanged()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_is_source_unchanged$
DECLARE
    r_point record;
    r_batch etl.batch;
    v_looks text;
    v_is_changed boolean;
BEGIN
    IF EXISTS (
        SELECT
        FROM etl.source_table AS s
        WHERE s.change_detection = 'comparison'
            OR s.delete_detection = 'comparison'
    ) THEN
        RETURN false;
    END IF;
    PERFORM etl._reach_source();
    SELECT p.snapshot, p.system_identifier, p.read_at
    INTO r_point
    FROM source.extraction_point AS p;
    SELECT b.*
    INTO r_batch
    FROM etl.batch AS b
    ORDER BY b.batch_id DESC
    LIMIT 1;
    r_batch.snapshot := r_point.snapshot;
    r_batch.system_identifier := r_point.system_identifier;
    r_batch.read_at := r_point.read_at;
    PERFORM etl._note_drift();
    IF EXISTS (SELECT FROM etl.schema_drift AS d WHERE d.drift <> 'added')
        OR EXISTS (SELECT FROM etl.watermark AS w WHERE etl._extraction_mode(w, r_batch) <> 'changed')
    THEN
        RETURN false;
    END IF;
    SELECT string_agg(
        format(
            'SELECT FROM source.%I AS s WHERE %s',
            s.source_table,
            CASE s.change_detection
                WHEN 'snapshot' THEN etl._changed_condition(s, 'changed', format('%L::pg_snapshot', w.snapshot))
                ELSE format('s.%I >= %L::timestamptz', s.change_column, w.read_at - s.lookback)
            END
        ) || CASE s.delete_detection
            WHEN 'tombstone' THEN format(
                E'\nUNION ALL\nSELECT FROM source.tombstones AS d WHERE d.table_name = %1$L AND d.row_xid >= pg_snapshot_xmin(%2$L::pg_snapshot) AND NOT pg_visible_in_snapshot(d.row_xid, %2$L::pg_snapshot)',
                s.source_table, w.snapshot
            )
            ELSE ''
        END,
        E'\nUNION ALL\n'
    )
    INTO v_looks
    FROM etl.source_table AS s
    JOIN etl.watermark AS w USING (source_table);
    EXECUTE format('SELECT EXISTS (%s)', v_looks) INTO v_is_changed;
    IF v_is_changed THEN
        RETURN false;
    END IF;
    UPDATE etl.batch AS b
    SET snapshot = r_batch.snapshot,
        read_at = r_batch.read_at
    WHERE b.batch_id = r_batch.batch_id;
    PERFORM etl._move_watermark(s.source_table, r_batch, etl._complete_until(s.source_table, r_batch.read_at))
    FROM etl.source_table AS s;
    RETURN true;
END
$_is_source_unchanged$;
COMMENT ON FUNCTION etl._is_source_unchanged() IS 'Whether no source table has changed since its watermark; then the watermarks have moved.';
