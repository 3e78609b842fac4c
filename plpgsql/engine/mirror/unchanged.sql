-- Which source tables have changed: one query for all tables. A run without changes ends after it, and a batch extracts only the tables that it names.

-- Compiles changed_tables(): the source tables that an extraction must read. They have changes that their mirrors lack, or only an extraction can
-- answer: tables that are compared as a whole or detected by timestamp, whose comparison is due, whose watermark differs from that of the others, whose
-- rows are requested again, or whose columns have changed. It is STABLE, so all its queries see the snapshot of the calling statement.
CREATE OR REPLACE FUNCTION etl._compile_changed_tables()
RETURNS name
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_compile_changed_tables$
    SELECT etl._create_compiled(
        'changed_tables',
        'p_batch etl.batch',
        E'name[]\nSTABLE',
        'Source tables that an extraction must read; the mirrors of all others contain the batch.',
        etl._render(
            $sql$<<this>>
DECLARE
    last pg_snapshot := (SELECT w.snapshot FROM etl.watermark AS w ORDER BY w.batch_id DESC LIMIT 1);
    now pg_snapshot := p_batch.snapshot;
BEGIN
    RETURN ARRAY(
        SELECT s.source_table
        FROM etl.source_table AS s
        LEFT JOIN etl.watermark AS w USING (source_table)
        WHERE s.change_detection <> 'snapshot'
            OR s.delete_detection = 'comparison'
            OR etl._is_comparison_due(w, p_batch)
            OR w.snapshot::text <> this.last::text
            OR EXISTS (SELECT FROM etl.reextraction AS r WHERE r.source_table = s.source_table)
            OR EXISTS (SELECT FROM etl.schema_drift AS d WHERE d.source_table = s.source_table AND d.drift <> 'added')
        UNION ALL
        SELECT w.source_table FROM etl._swapped_relations() AS w{{changes}}
    );
END$sql$,
            jsonb_build_object('changes', coalesce(
                string_agg(
                    E'\nUNION ALL\n' || etl._render('(SELECT {{name}} FROM source.{{table}} AS s WHERE {{changed}} LIMIT 1)', etl._source_values(s)),
                    '' ORDER BY s.source_table
                ) FILTER (WHERE s.change_detection = 'snapshot')
                || CASE WHEN bool_or(s.delete_detection = 'tombstone') THEN $sql$
UNION ALL
SELECT t.table_name::name
FROM source.tombstones AS t
WHERE t.row_xid >= pg_snapshot_xmin(this.last)
    AND t.row_xid < pg_snapshot_xmax(this.now)
    AND NOT pg_visible_in_snapshot(t.row_xid, this.last)$sql$
                    ELSE ''
                END,
                ''
            ))
        ),
        -- A plan that does not depend on the snapshots looks for the newest rows by an index.
        '{plan_cache_mode = force_generic_plan,enable_seqscan = off}'
    )
    FROM etl.source_table AS s
$_compile_changed_tables$;

-- Whether the source has not changed since it was last read. Then the watermarks move, because the mirrors are complete up to now. The answer is no
-- when only an extraction can answer, as for a source on another server. Writes etl.schema_drift and, when nothing has changed, etl.watermark and the
-- latest row of etl.batch. Errors as etl._extraction_point, and those of a relation of the contract that cannot be read.
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
    -- One statement, so that the check and the new watermarks have one snapshot.
    WITH point AS MATERIALIZED (
        SELECT p.snapshot, p.read_at
        FROM etl._extraction_point() AS p
        WHERE compiled.changed_tables(p) = '{}'
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

-- Completes the extractions of unchanged source tables together; returns the other ones. If the question fails, all are returned: each extraction then
-- records its own failure. If the connection to the source was lost, none is: all are retried later (etl._end_batch). Writes etl.watermark,
-- etl.extraction, etl.task_run; etl.batch and etl.schema_drift as etl._this_batch.
CREATE OR REPLACE FUNCTION etl._complete_unchanged(p_tasks etl.task_run[])
RETURNS SETOF etl.task_run
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- If a source table is locked, its extraction waits for it, which is recorded.
SET lock_timeout = '1s'
AS $_complete_unchanged$
DECLARE
    r_batch etl.batch;
    v_changed name[];
    v_unchanged name[] := ARRAY[]::name[];
    r_lost etl.task_run;
BEGIN
    BEGIN
        r_batch := etl._this_batch(p_tasks[1].run_id);
        v_changed := compiled.changed_tables(r_batch);
        WITH unchanged AS (
            UPDATE etl.watermark AS w
            SET snapshot = r_batch.snapshot,
                read_at = r_batch.read_at,
                batch_id = r_batch.batch_id
            FROM unnest(p_tasks) AS t
            WHERE w.source_table = t.object
                AND w.source_table <> ALL (v_changed)
            RETURNING w.source_table
        ),
        extracted AS (
            INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk, is_complete)
            SELECT r_batch.batch_id, u.source_table, 0, r_batch.read_at, false, false
            FROM unchanged AS u
        ),
        done AS (
            UPDATE etl.task_run AS t
            SET status = 'succeeded',
                ended_at = t.started_at
            FROM unchanged AS u
            WHERE t.run_id = p_tasks[1].run_id
                AND t.kind = 'extract'
                AND t.object = u.source_table
            RETURNING t.*
        )
        SELECT coalesce(array_agg(d.object), '{}')
        INTO v_unchanged
        FROM done AS d
        CROSS JOIN LATERAL etl._notify(d);
    EXCEPTION
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS
                r_lost.sqlstate = RETURNED_SQLSTATE,
                r_lost.message = MESSAGE_TEXT,
                r_lost.detail = PG_EXCEPTION_DETAIL,
                r_lost.hint = PG_EXCEPTION_HINT,
                r_lost.context = PG_EXCEPTION_CONTEXT;
            IF r_lost.sqlstate ~ '^(08|57P0|HV00N)' THEN
                UPDATE etl.task_run AS t
                SET status = CASE WHEN t.attempts < t.max_attempts THEN 'pending' ELSE 'failed' END,
                    ended_at = clock_timestamp(),
                    sqlstate = r_lost.sqlstate,
                    message = r_lost.message,
                    detail = nullif(r_lost.detail, ''),
                    hint = nullif(r_lost.hint, ''),
                    context = r_lost.context
                FROM unnest(p_tasks) AS c
                WHERE t.run_id = c.run_id
                    AND t.task = c.task;
                RETURN;
            END IF;
    END;
    RETURN QUERY
    SELECT t.*
    FROM unnest(p_tasks) AS t
    WHERE t.object <> ALL (v_unchanged);
END
$_complete_unchanged$;
