-- Delta to mirror. The statements are in the compiled routines merge_<table>.

-- Merges the rows that a run extracted of a source table into its mirror.
-- Parameters: p_source_table, the table; p_run_id, the run; its latest extraction of the table is merged.
-- Returns:    rows read, inserted, updated, deleted, quarantined.
-- Writes:     stage.<table>, delta.<table> (earlier versions of the rows are added, unchanged rows removed),
--             work.<object>_key, etl.watermark, etl.quarantine.
-- Errors:     ET005 when delta has lost the extracted rows in a crash: the run must extract them again.
CREATE OR REPLACE FUNCTION etl._stage(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_stage$
DECLARE
    r_batch etl.batch;
    r_extraction etl.extraction;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
BEGIN
    SELECT e.*
    INTO r_extraction
    FROM etl.extraction AS e
    JOIN etl.batch AS b USING (batch_id)
    WHERE b.run_id = p_run_id
        AND e.source_table = p_source_table
    ORDER BY e.batch_id DESC
    LIMIT 1;
    IF r_extraction.batch_id IS NULL OR r_extraction.is_bulk THEN
        -- This run extracted nothing, or straight into the mirror.
        RETURN r_result;
    END IF;
    SELECT *
    INTO r_batch
    FROM etl.batch AS b
    WHERE b.batch_id = r_extraction.batch_id;
    IF r_extraction.rows_extracted > 0 THEN
        EXECUTE format('SELECT * FROM compiled.%I($1, $2, $3, $4)', 'merge_' || p_source_table)
        INTO r_result
        USING r_batch.batch_id, p_run_id, r_extraction.rows_extracted, r_extraction.is_complete;
    END IF;
    PERFORM etl._end_retry(p_source_table);
    PERFORM etl._move_watermark(p_source_table, r_batch, r_extraction.complete_until);
    RETURN r_result;
END
$_stage$;
