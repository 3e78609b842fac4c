-- Source and mirror compared, as of the watermark: rows that changed in the source since then are left out on both sides.

-- Condition that leaves out the unreadable rows of a source table, so that a statement over all others does not fail on them.
-- Parameters: p_source_table, the table, alias s; p_key, its key columns.
-- Returns:    text to be added to a WHERE clause; empty if there are no such rows.
CREATE OR REPLACE FUNCTION etl._readable_condition(p_source_table name, p_key name[])
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_readable_condition$
    -- As constants, which postgres_fdw sends to the source server.
    SELECT coalesce(string_agg(format(E'\n    AND NOT (%s)', etl._key_condition(p_key, q.row_key, format('source.%I', p_source_table)::regclass, 's')), ''), '')
    FROM etl.quarantine AS q
    WHERE q.object = p_source_table
        AND q.sqlstate LIKE '22%'
        AND etl._cannot_be_read(p_source_table, q.row_key)
$_readable_condition$;

-- Compares a source table with its mirror.
-- Parameters: p_source, the table; p_slices, p_slice, how many slices there are, and which is compared (from 0).
-- Returns:    counts.
-- Writes:     pg_temp.reconciled_difference.
-- Errors:     ET017 if the next run extracts the table completely, so that there is nothing to compare; as etl._reach_source.
CREATE OR REPLACE FUNCTION etl._compare_source(p_source etl.source_table, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_source$
DECLARE
    r_object etl.reconciliation_object;
    v_source regclass := format('source.%I', p_source.source_table)::regclass;
    v_stage regclass := format('stage.%I', p_source.source_table)::regclass;
    v_key name[] := p_source.key_columns;
    v_columns name[];
    v_sums name[];
    v_left_out jsonb;
BEGIN
    PERFORM etl._reach_source();
    IF NOT EXISTS (
        SELECT
        FROM etl.watermark AS w
        JOIN source.extraction_point AS p USING (system_identifier)
        WHERE w.source_table = p_source.source_table
    ) THEN
        RAISE EXCEPTION 'the table waits to be extracted completely'
            USING ERRCODE = 'ET017', HINT = 'Reconcile after the next run.';
    END IF;
    v_columns := etl._without(etl._columns(v_stage), v_key || '{batch_id,deleted_at}'::name[]);
    v_left_out := jsonb_build_object(
        'changed', etl._ignore(v_key, v_stage, 'SELECT n.row_key FROM etl.newer_keys($1) AS n', p_source.source_table),
        'quarantined', etl._ignore(
            v_key, v_stage,
            'SELECT q.row_key FROM etl.quarantine AS q WHERE q.object = $1 AND etl._cannot_be_read($1, q.row_key)', p_source.source_table
        ),
        -- Replaced personal data differs for good from a source that still has it.
        'forgotten', etl._ignore(v_key, v_stage, 'SELECT f.row_key FROM etl.forgotten_row AS f WHERE f.object = $1', p_source.source_table)
    );
    EXECUTE 'ANALYZE pg_temp.reconciled_ignored';
    -- Keys are not summed up.
    v_sums := etl._without(
        etl._summed_columns(v_stage, v_columns), ARRAY(SELECT k.name FROM etl.source_table AS s CROSS JOIN unnest(s.key_columns) AS k (name))
    );
    r_object := etl._compare_rows(format('DO %L', etl._comparison_sql(
        format('SELECT s.* FROM %s AS s WHERE %s%s', v_source, etl._not_ignored(v_key, 's'), etl._readable_condition(p_source.source_table, v_key)),
        v_source,
        format('SELECT m.* FROM %s AS m WHERE m.deleted_at IS NULL AND %s', v_stage, etl._not_ignored(v_key, 'm')),
        v_stage,
        v_key,
        v_columns,
        v_sums,
        jsonb_build_object('slices', p_slices::text, 'slice', p_slice::text, 'mask', etl._bucket_mask(v_stage)::text)
    )), v_sums);
    r_object.left_out := v_left_out;
    IF p_source.delete_detection = 'none' THEN
        DELETE FROM pg_temp.reconciled_difference AS d WHERE d.kind = 'surplus';
        r_object.message := 'rows deleted in the source stay: delete_detection is none';
    END IF;
    IF p_source.change_detection = 'comparison' AND EXISTS (SELECT FROM pg_temp.reconciled_difference) THEN
        r_object.message := 'the source does not mark changed rows: what differs may have changed since the last run';
    END IF;
    RETURN r_object;
END
$_compare_source$;
