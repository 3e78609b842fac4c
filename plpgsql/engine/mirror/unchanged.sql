-- Whether anything has changed in the source: one query for all tables, after which a run without changes ends.

-- Compiles has_changes(): whether the source has changes that the mirrors lack. It is STABLE, so all its queries see the
-- snapshot of the calling statement.
-- Returns:    name of the routine. The routine returns NULL when only an extraction can answer: for tables that are
--             compared as a whole or detected by timestamp, and while watermarks differ or a comparison is due.
-- Writes:     schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_has_changes()
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_has_changes$
    SELECT etl._create_compiled(
        'has_changes',
        '',
        E'boolean\nSTABLE',
        'Whether the source has changes that the mirrors lack; NULL when only an extraction can answer.',
        CASE
            WHEN count(*) = 0 OR bool_or(s.change_detection <> 'snapshot' OR s.delete_detection = 'comparison')
                THEN E'BEGIN\n    -- Tables that are compared as a whole, or detected by timestamp, are always read.\n    RETURN NULL;\nEND'
            ELSE etl._render(
                $sql$<<this>>
DECLARE
    point etl.batch := etl._extraction_point();
    last pg_snapshot;
    now pg_snapshot := point.snapshot;
BEGIN
    IF etl._source_change(this.point) IS NOT NULL
        OR EXISTS (SELECT FROM etl.reextraction AS r)
        OR EXISTS (
            SELECT
            FROM etl.source_table AS s
            LEFT JOIN etl.watermark AS w USING (source_table)
            WHERE w.source_table IS NULL
                OR etl._is_comparison_due(w, this.point)
        )
        OR (SELECT count(DISTINCT w.snapshot::text) > 1 FROM etl.watermark AS w)
    THEN
        RETURN NULL;
    END IF;
    this.last := (SELECT w.snapshot FROM etl.watermark AS w LIMIT 1);
    RETURN EXISTS (
        {{changes}}
    );
END$sql$,
                jsonb_build_object('changes', string_agg(c.changes, E'\nUNION ALL\n' ORDER BY s.source_table))
            )
        END
    )
    FROM etl.source_table AS s
    CROSS JOIN LATERAL (
        SELECT etl._render(
            $sql$SELECT FROM source.{{table}} AS s WHERE {{changed}}$sql$
            || CASE s.delete_detection
                WHEN 'tombstone' THEN $sql$
UNION ALL
SELECT
FROM source.tombstones AS t
WHERE t.table_name = {{name}}
    AND t.row_xid >= pg_snapshot_xmin(this.last)
    AND t.row_xid < pg_snapshot_xmax(this.now)
    AND NOT pg_visible_in_snapshot(t.row_xid, this.last)$sql$
                ELSE ''
            END,
            etl._source_values(s)
        )
    ) AS c (changes)
$_compile_has_changes$;

-- Whether the source has not changed since it was last read. Then the watermarks move, because the mirrors are complete up
-- to now.
-- Returns:    true when nothing has changed; false when something has, or only an extraction can answer, as for a source
--             on another server.
-- Writes:     etl.schema_drift; when nothing has changed, etl.watermark and the latest row of etl.batch.
-- Errors:     as etl._extraction_point; those of a relation of the contract that cannot be read.
CREATE OR REPLACE FUNCTION etl._is_source_unchanged()
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_is_source_unchanged$
BEGIN
    -- A connection that breaks here would fail the transaction of the caller. An extraction is retried instead.
    IF EXISTS (SELECT FROM pg_foreign_table AS f JOIN pg_class AS c ON c.oid = f.ftrelid WHERE c.relnamespace = 'source'::regnamespace) THEN
        RETURN false;
    END IF;
    PERFORM etl._note_drift();
    IF EXISTS (SELECT FROM etl.schema_drift AS d WHERE d.drift <> 'added')
        OR EXISTS (SELECT FROM etl.source_table AS s WHERE etl._swapped_relations(s) IS NOT NULL)
    THEN
        RETURN false;
    END IF;
    -- One statement, so that the check and the new watermarks have one snapshot.
    WITH point AS MATERIALIZED (
        SELECT p.snapshot, p.read_at
        FROM source.extraction_point AS p
        WHERE NOT compiled.has_changes()
    ),
    latest AS (
        UPDATE etl.batch AS b
        SET snapshot = p.snapshot,
            read_at = p.read_at
        FROM point AS p
        WHERE b.batch_id = (SELECT max(m.batch_id) FROM etl.batch AS m)
    )
    UPDATE etl.watermark AS w
    SET snapshot = p.snapshot,
        read_at = p.read_at,
        -- A later one whose extraction failed would have brought nothing.
        batch_id = (SELECT max(m.batch_id) FROM etl.batch AS m)
    FROM point AS p;
    RETURN FOUND;
END
$_is_source_unchanged$;
