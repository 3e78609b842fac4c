-- A run with nothing new: one question before it starts, and one row in the log.

/*
Whether the source is unchanged and no load is pending. If that cannot be determined the answer is no: then the tasks find out, and record
where they fail.
Returns:    whether the warehouse is complete up to now.
Writes:     if it is, the watermarks as etl._is_source_unchanged, and etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._is_idle()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- If a source table is locked, the extraction waits for it, which is recorded, and not the start of the run.
SET lock_timeout = '1s'
AS $_is_idle$
DECLARE
    v_looks text;
    v_is_pending boolean;
BEGIN
    -- Citus reads no list of columns that is empty.
    SELECT string_agg(
        format('(SELECT 1 FROM work.%I LIMIT 1)', t.object || CASE t.kind WHEN 'aggregate' THEN '_difference' ELSE '_key' END),
        E'\nUNION ALL\n'
    )
    INTO v_looks
    FROM etl.task AS t
    WHERE t.kind IN ('dimension', 'fact', 'aggregate')
        AND t.is_enabled;
    EXECUTE concat_ws(
        E'\nUNION ALL\n',
        $sql$SELECT EXISTS (
SELECT 1 FROM etl.reprocessing_queue AS q WHERE q.is_ready
UNION ALL
SELECT 1 FROM etl.reextraction
UNION ALL
SELECT 1 FROM etl.source_table AS s LEFT JOIN etl.watermark AS w USING (source_table) WHERE w.source_table IS NULL
UNION ALL
-- What a mirror holds and the star schemas do not: the load failed, or the run did not include it.
SELECT 1 FROM etl.load_state AS l JOIN etl.task AS t USING (object) WHERE (l.needs_reload OR l.loaded_batch_id IS NULL) AND t.is_enabled$sql$,
        v_looks
    ) || ')'
    INTO v_is_pending;
    IF v_is_pending OR NOT etl._is_source_unchanged() THEN
        RETURN false;
    END IF;
    UPDATE etl.load_state AS l
    SET loaded_batch_id = b.batch_id
    FROM (SELECT max(m.batch_id) FROM etl.batch AS m) AS b (batch_id)
    WHERE l.loaded_batch_id < b.batch_id
        AND EXISTS (SELECT FROM etl.task AS t WHERE t.object = l.object AND t.is_enabled);
    RETURN true;
EXCEPTION
    WHEN OTHERS THEN
        RETURN false;
END
$_is_idle$;
