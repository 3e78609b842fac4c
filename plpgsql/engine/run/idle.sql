-- A run with nothing new: one question before it starts, and one row in the log.

CREATE OR REPLACE FUNCTION etl._are_checks_due()
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_are_checks_due$
    -- A check of every run tells again what it told last time when nothing has changed. One that did not pass is done until it does.
    SELECT EXISTS (
        SELECT
        FROM etl.quality_check AS q
        LEFT JOIN LATERAL (
            SELECT c.status, c.checked_at
            FROM etl.check_result AS c
            WHERE c.check_name = q.check_name
            ORDER BY c.result_id DESC
            LIMIT 1
        ) AS c ON true
        WHERE q.is_enabled
            AND q.written_objects IS NULL
            AND CASE
                WHEN q.run_every = interval '0' THEN c.status IS DISTINCT FROM 'passed'
                ELSE q.added_at <= clock_timestamp() - q.run_every
                    AND (c.status IS NULL OR c.status = 'error' OR c.checked_at <= clock_timestamp() - q.run_every)
            END
    )
$_are_checks_due$;
COMMENT ON FUNCTION etl._are_checks_due() IS 'Whether a run that brings nothing new has checks to do.';

/*
The question that ends a run before it starts: has nothing changed in the source, and does nothing wait to be loaded?
Returns:    whether the warehouse is complete up to now. When that cannot be told it is not: then the tasks find out, and it is noted where they
            fail.
Writes:     when it is, the watermarks as etl._is_source_unchanged, and etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._is_idle()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Whoever holds a table of the source is waited for by the extraction, which is noted, and not by the start of the run.
SET lock_timeout = '1s'
AS $_is_idle$
DECLARE
    v_looks text;
    v_is_pending boolean;
BEGIN
    IF EXISTS (
        SELECT FROM etl.reprocessing_queue AS q WHERE q.is_ready
        UNION ALL
        SELECT FROM etl.reextraction
        UNION ALL
        SELECT FROM etl.load_state AS l JOIN etl.task AS t USING (object) WHERE l.needs_reload AND t.is_enabled
        UNION ALL
        SELECT FROM etl.source_table AS s LEFT JOIN etl.watermark AS w USING (source_table) WHERE w.source_table IS NULL
        UNION ALL
        -- What a mirror has that is not in the stars: its load failed, or it was left out.
        SELECT FROM etl.load_state AS l JOIN etl.task AS t USING (object) WHERE l.loaded_batch_id IS NULL AND t.is_enabled
    ) THEN
        RETURN false;
    END IF;
    SELECT string_agg(
        format('SELECT FROM work.%I', t.object || CASE t.kind WHEN 'aggregate' THEN '_difference' ELSE '_key' END),
        E'\nUNION ALL\n'
    )
    INTO v_looks
    FROM etl.task AS t
    WHERE t.kind IN ('dimension', 'fact', 'aggregate')
        AND t.is_enabled;
    EXECUTE format('SELECT EXISTS (%s)', coalesce(v_looks, 'SELECT WHERE false')) INTO v_is_pending;
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
COMMENT ON FUNCTION etl._is_idle() IS 'Whether nothing has changed in the source and nothing waits to be loaded; then the watermarks have moved.';
