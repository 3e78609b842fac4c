-- Watermarks: which transactions of the source a mirror contains, and up to when it is complete.

-- Point in time up to which the changes of a source table are complete. For change detection by timestamp it is the start
-- of the oldest open transaction, which may still commit rows with an earlier time. Autovacuum is left out, because it
-- writes no rows: otherwise nothing new would arrive while it works. The source returns that start in
-- source.extraction_point (oldest_transaction_started_at), if its contract has the column. Otherwise it is read from
-- pg_stat_activity of this server; for a source on another server, the lookback is the only protection.
-- Parameters: p_source_table, the table; p_read_at, time of the batch.
-- Returns:    the point in time, by the clock of the source.
CREATE OR REPLACE FUNCTION etl._complete_until(p_source_table name, p_read_at timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_complete_until$
DECLARE
    v_oldest timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.source_table AS s WHERE s.source_table = p_source_table AND s.change_detection = 'timestamp') THEN
        RETURN p_read_at;
    END IF;
    IF etl._column_type('source.extraction_point'::regclass, 'oldest_transaction_started_at') IS NOT NULL THEN
        SELECT (to_jsonb(p) ->> 'oldest_transaction_started_at')::timestamptz
        INTO v_oldest
        FROM source.extraction_point AS p;
    ELSIF NOT EXISTS (SELECT FROM pg_foreign_table AS f WHERE f.ftrelid = 'source.extraction_point'::regclass) THEN
        SELECT min(a.xact_start)
        INTO v_oldest
        FROM pg_stat_activity AS a
        WHERE a.datname = current_database()
            AND a.backend_type IS DISTINCT FROM 'autovacuum worker';
    END IF;
    RETURN least(p_read_at, v_oldest);
END
$_complete_until$;

-- Whether transaction ids of a watermark mean the same in a batch: both belong to one database of one database system on
-- one timeline, and the source has not gone back in time. A source restored from a dump, a promoted replica and a
-- point-in-time recovery assign their ids again.
-- Parameters: p_watermark, the watermark, NULL where there is none; p_batch, the batch.
CREATE OR REPLACE FUNCTION etl._is_same_source(p_watermark etl.watermark, p_batch etl.batch)
RETURNS boolean
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_is_same_source$
    SELECT coalesce(
        p_watermark.system_identifier = p_batch.system_identifier
            AND p_watermark.timeline_id IS NOT DISTINCT FROM p_batch.timeline_id
            AND p_watermark.database_id IS NOT DISTINCT FROM p_batch.database_id
            AND pg_snapshot_xmax(p_batch.snapshot) >= pg_snapshot_xmin(p_watermark.snapshot),
        false
    )
$_is_same_source$;

-- Records that a mirror contains all that the source had committed when a batch was read.
-- Parameters: p_source_table, the table; p_batch, the batch; p_complete_until, point in time up to which its changes are
--             complete.
-- Writes:     etl.watermark.
CREATE OR REPLACE FUNCTION etl._move_watermark(p_source_table name, p_batch etl.batch, p_complete_until timestamptz)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_move_watermark$
    INSERT INTO etl.watermark AS w (
        source_table, snapshot, system_identifier, timeline_id, database_id, read_at, batch_id, compared_at
    )
    SELECT
        p_source_table, p_batch.snapshot, p_batch.system_identifier, p_batch.timeline_id, p_batch.database_id, p_complete_until, p_batch.batch_id,
        (
            SELECT p_batch.read_at
            FROM etl.extraction AS e
            WHERE e.batch_id = p_batch.batch_id
                AND e.source_table = p_source_table
                AND e.is_complete
        )
    ON CONFLICT (source_table) DO UPDATE
    SET snapshot = excluded.snapshot,
        system_identifier = excluded.system_identifier,
        timeline_id = excluded.timeline_id,
        database_id = excluded.database_id,
        read_at = excluded.read_at,
        batch_id = excluded.batch_id,
        compared_at = coalesce(excluded.compared_at, w.compared_at)
$_move_watermark$;
