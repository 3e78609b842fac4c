-- Source to delta: the rows that changed since the watermark, all tables of a batch under one snapshot of the source.
-- An empty mirror gets all rows at once. The statements are in the compiled routines fill_<table>, extract_<table>,
-- compare_<table> and reextract_<table>.

-- Fills the empty mirror of a source table straight from the source, and builds its indexes afterwards.
-- Parameters: p_source, the table; p_batch, the batch; p_until, point in time up to which its changes are complete.
-- Returns:    number of rows; NULL when a row has no usable key or cannot be read: then all rows are extracted into delta,
--             where that row is found and put into quarantine.
-- Writes:     stage.<table>, etl.watermark, etl.load_state (objects built from the table get a full refresh).
CREATE OR REPLACE FUNCTION etl._fill_mirror(p_source etl.source_table, p_batch etl.batch, p_until timestamptz)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_mirror$
DECLARE
    v_mirror regclass := format('stage.%I', p_source.source_table)::regclass;
    v_rows bigint;
    v_rebuild text[];
BEGIN
    v_rebuild := etl._begin_bulk(v_mirror);
    EXECUTE format('SELECT compiled.%I($1)', 'fill_' || p_source.source_table) INTO v_rows USING p_batch.batch_id;
    PERFORM etl._finish_bulk(v_mirror, v_rebuild);
    PERFORM etl._suppress_forgotten(p_source.source_table, v_mirror, p_batch.batch_id);
    PERFORM etl._request_reload((SELECT array_agg(d.object) FROM etl.dependency AS d WHERE d.source_table = p_source.source_table));
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk, is_complete)
    VALUES (p_batch.batch_id, p_source.source_table, v_rows, p_until, true, true);
    DELETE FROM etl.quarantine AS q WHERE q.object = p_source.source_table;
    PERFORM etl._move_watermark(p_source.source_table, p_batch, p_until);
    RETURN v_rows;
EXCEPTION
    WHEN unique_violation OR not_null_violation OR data_exception OR program_limit_exceeded THEN
        RETURN NULL;
END
$_fill_mirror$;

-- Whether a whole source table is compared with its mirror: because it has no watermark, because the source is not the one
-- that the mirror was read from, or because the last comparison was longer ago than the setting compare_sources_every. The
-- comparison finds what triggers do not see: rows written while they were disabled, partitions attached or truncated, a
-- table swapped by renaming.
-- Parameters: p_watermark, the table's watermark, NULL where it has none; p_batch, the batch.
CREATE OR REPLACE FUNCTION etl._is_comparison_due(p_watermark etl.watermark, p_batch etl.batch)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_comparison_due$
    SELECT NOT etl._is_same_source(p_watermark, p_batch)
        OR p_watermark.compared_at IS NULL
        -- The clock of the source was set back: a change since then may be dated before the watermark.
        OR greatest(p_watermark.read_at, p_watermark.compared_at) > p_batch.read_at
        OR p_watermark.compared_at <= p_batch.read_at - etl.get_setting('compare_sources_every')::interval
$_is_comparison_due$;

-- Extracts one source table: into its mirror when that is empty, otherwise into delta, as changes since the watermark or,
-- if a comparison is due, as differences from the mirror.
-- Parameters: p_source_table, the table; p_run_id, the run.
-- Returns:    rows read, inserted straight into the mirror, quarantined because they cannot be read.
-- Writes:     delta.<table>, stage.<table>, etl.extraction, etl.quarantine, etl.reextraction.
-- Errors:     ET007 when a column was dropped or retyped, or a table renamed; ET008 when too many rows cannot be read; as
--             etl._this_batch.
CREATE OR REPLACE FUNCTION etl._extract(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract$
DECLARE
    r_batch etl.batch := etl._this_batch(p_run_id);
    r_source etl.source_table;
    r_watermark etl.watermark;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_requested etl.load_result;
    v_until timestamptz;
    v_is_empty boolean := false;
    v_is_complete boolean;
BEGIN
    PERFORM etl._check_drift(p_source_table);
    v_until := etl._complete_until(p_source_table, r_batch.read_at);
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    SELECT *
    INTO r_watermark
    FROM etl.watermark AS w
    WHERE w.source_table = p_source_table;
    IF NOT FOUND THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM stage.%I)', p_source_table) INTO v_is_empty;
    END IF;
    IF v_is_empty THEN
        r_result.rows_inserted := etl._fill_mirror(r_source, r_batch, v_until);
        IF r_result.rows_inserted IS NOT NULL THEN
            r_result.rows_read := r_result.rows_inserted;
            RETURN r_result;
        END IF;
    END IF;

    v_is_complete := r_source.change_detection = 'comparison' OR etl._is_comparison_due(r_watermark, r_batch);
    -- Into delta, in place of an earlier batch, which stays there until there are other changes.
    IF v_is_complete THEN
        EXECUTE format('SELECT * FROM compiled.%I($1, $2, $3)', 'compare_' || p_source_table)
        INTO r_result
        -- A table that is always read as a whole counts what it reads. Nodes do not join a whole table with one that is not distributed.
        USING r_batch, v_until, r_source.change_detection <> 'comparison' AND NOT etl._is_distributed(format('stage.%I', p_source_table)::regclass);
    ELSE
        EXECUTE format('SELECT * FROM compiled.%I($1, $2, $3, $4)', 'extract_' || p_source_table)
        INTO r_result
        USING r_batch, r_watermark, r_watermark.read_at - r_source.lookback, v_until;
    END IF;
    EXECUTE format('SELECT * FROM compiled.%I($1, $2)', 'reextract_' || p_source_table)
    INTO r_requested
    USING r_batch, v_until;
    r_result.rows_read := r_result.rows_read + r_requested.rows_read;
    r_result.rows_quarantined := r_result.rows_quarantined + r_requested.rows_quarantined;
    PERFORM etl._suppress_forgotten(p_source_table, format('delta.%I', p_source_table)::regclass, r_batch.batch_id);
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk, is_complete)
    VALUES (r_batch.batch_id, p_source_table, r_result.rows_read, v_until, false, v_is_complete);
    RETURN r_result;
END
$_extract$;
