-- A batch: all rows extracted under one snapshot of the source. Its extractions succeed together or are retried
-- together.

/*
Whether the connection to the source was lost in this transaction. Nothing more may then be read, because a new
connection would have another snapshot. The outcomes of the extractions of this transaction show it.
Parameters: p_run_id, the run.
*/
CREATE OR REPLACE FUNCTION etl._is_source_lost(p_run_id bigint)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_source_lost$
    SELECT EXISTS (
        SELECT
        FROM etl.task_run AS t
        WHERE t.run_id = p_run_id
            AND t.kind = 'extract'
            AND t.status IN ('pending', 'failed')
            AND t.ended_at >= transaction_timestamp()
            AND t.sqlstate ~ '^(08|57P0|HV00N)'
    )
$_is_source_lost$;

/*
Source tables with tombstones that some mirror may not contain yet. Most tables have none in most batches, so one query
for all of them replaces a round trip per table when the source is on another server.
Parameters: p_snapshot, the snapshot of the batch.
Returns:    their names; too many when one mirror is behind the others; all tables that use tombstones when the query
            fails, so that each of them reports the error itself.
*/
CREATE OR REPLACE FUNCTION etl._tables_with_tombstones(p_snapshot pg_snapshot)
RETURNS name[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $_tables_with_tombstones$
DECLARE
    v_users name[] := ARRAY(SELECT s.source_table FROM etl.source_table AS s WHERE s.delete_detection = 'tombstone');
    v_oldest xid8 := (SELECT min(pg_snapshot_xmin(w.snapshot)) FROM etl.watermark AS w);
    v_tables name[];
BEGIN
    IF cardinality(v_users) = 0 OR v_oldest IS NULL THEN
        RETURN ARRAY[]::name[];
    END IF;
    SELECT coalesce(array_agg(DISTINCT t.table_name::name), '{}')
    INTO v_tables
    FROM source.tombstones AS t
    WHERE t.row_xid >= v_oldest
        AND t.row_xid < pg_snapshot_xmax(p_snapshot);
    RETURN v_tables;
EXCEPTION
    WHEN syntax_error_or_access_rule_violation OR data_exception THEN
        RETURN v_users;
END
$_tables_with_tombstones$;

/*
What the source is, and what this transaction sees of it. A contract needs the columns snapshot, system_identifier and
read_at in source.extraction_point; the others are optional.
Returns:    one row, of a batch that is not stored yet.
Errors:     ET026 when the source is a hot standby.
*/
CREATE OR REPLACE FUNCTION etl._extraction_point()
RETURNS etl.batch
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_extraction_point$
DECLARE
    r_batch etl.batch;
    v_more jsonb;
    v_is_standby boolean;
BEGIN
    SELECT p.snapshot, p.system_identifier, p.read_at, to_jsonb(p)
    INTO r_batch.snapshot, r_batch.system_identifier, r_batch.read_at, v_more
    FROM source.extraction_point AS p;
    v_is_standby := (v_more ->> 'is_standby')::boolean;
    IF v_is_standby IS NULL AND to_regclass('etl._source_setting') IS NOT NULL THEN
        SELECT bool_or(s.setting = 'on')
        INTO v_is_standby
        FROM etl._source_setting AS s
        WHERE s.name = 'in_hot_standby';
    END IF;
    PERFORM etl._check_source_server(current_setting('server_version_num')::integer, v_is_standby);
    r_batch.timeline_id := (v_more ->> 'timeline_id')::bigint;
    r_batch.database_id := (v_more ->> 'database_id')::bigint;
    r_batch.wal_inserted_until := (v_more ->> 'wal_inserted_until')::pg_lsn;
    RETURN r_batch;
END
$_extraction_point$;

/*
Why the source is not the one that the mirrors were read from, so that all tables are compared with it.
Parameters: p_batch, the batch.
Returns:    a clause in English; NULL when it is the same, or no table has been read yet.
*/
CREATE OR REPLACE FUNCTION etl._source_change(p_batch etl.batch)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_source_change$
    SELECT CASE
        WHEN w.system_identifier <> p_batch.system_identifier
            THEN format('the source is another database system (%s instead of %s)', p_batch.system_identifier, w.system_identifier)
        WHEN w.database_id IS DISTINCT FROM p_batch.database_id
            THEN format('the source is another database of its server (oid %s instead of %s)', p_batch.database_id, w.database_id)
        WHEN w.timeline_id IS DISTINCT FROM p_batch.timeline_id
            THEN format('the source is on timeline %s instead of %s, after a failover or a recovery', p_batch.timeline_id, w.timeline_id)
        ELSE 'the source has gone back in time'
    END
    FROM etl.watermark AS w
    WHERE NOT etl._is_same_source(w, p_batch)
    LIMIT 1
$_source_change$;

/*
The batch of this transaction, opened when there is none yet. The transaction must be REPEATABLE READ, so that all
tables of the batch are read under the recorded snapshot.
Parameters: p_run_id, the run.
Returns:    the batch.
Writes:     etl.batch, etl.schema_drift.
Errors:     ET004 when the transaction is not REPEATABLE READ; 08003 when the connection to the source was lost since
            the batch was opened; as etl._extraction_point and etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl._this_batch(p_run_id bigint)
RETURNS etl.batch
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_this_batch$
DECLARE
    r_batch etl.batch;
    r_point etl.batch;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'a batch must be extracted on one snapshot, and this transaction is %', current_setting('transaction_isolation')
            USING ERRCODE = 'ET004', HINT = 'Run the engine by CALL etl.run(), which sets the isolation level itself.';
    END IF;
    IF etl._is_source_lost(p_run_id) THEN
        RAISE EXCEPTION 'the connection to the source was lost while this batch was extracted'
            USING ERRCODE = '08003', HINT = 'Run again: the whole batch is extracted under a new snapshot.';
    END IF;
    SELECT b.*
    INTO r_batch
    FROM etl.batch AS b
    WHERE b.run_id = p_run_id
        AND b.extracted_by = pg_current_xact_id();
    IF NOT FOUND THEN
        PERFORM etl._reach_source();
        r_point := etl._extraction_point();
        INSERT INTO etl.batch (
            run_id, extracted_by, snapshot, system_identifier, timeline_id, database_id, read_at, wal_inserted_until,
            tables_with_tombstones, compared_because
        )
        VALUES (
            p_run_id, pg_current_xact_id(), r_point.snapshot, r_point.system_identifier, r_point.timeline_id, r_point.database_id,
            r_point.read_at, r_point.wal_inserted_until, etl._tables_with_tombstones(r_point.snapshot), etl._source_change(r_point)
        )
        RETURNING * INTO r_batch;
        PERFORM etl._note_drift();
    END IF;
    RETURN r_batch;
END
$_this_batch$;

/*
Waits until the source has flushed the WAL that it had written when the batch was read. After a crash the source assigns
the ids of transactions with unflushed WAL again: for a watermark that contains those ids, a row under such an id would
not be new. The WAL writer of the source flushes ended transactions within three times wal_writer_delay. After that time
the wait ends, although a page may be unflushed on which no transaction has ended. A source in this database needs no
wait, because its WAL is that of the watermarks. Neither does a batch in which no transaction has ended.
Parameters: p_run_id, the run.
*/
CREATE OR REPLACE FUNCTION etl._await_flush(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_await_flush$
DECLARE
    r_batch etl.batch;
    v_since timestamptz := clock_timestamp();
    r_present record;
BEGIN
    SELECT b.*
    INTO r_batch
    FROM etl.batch AS b
    WHERE b.run_id = p_run_id
        AND b.extracted_by = pg_current_xact_id();
    IF r_batch.wal_inserted_until IS NULL
        OR NOT EXISTS (SELECT FROM pg_foreign_table AS f WHERE f.ftrelid = 'source.extraction_point'::regclass)
        OR EXISTS (SELECT FROM etl.batch AS b WHERE b.batch_id < r_batch.batch_id AND b.snapshot::text = r_batch.snapshot::text)
    THEN
        RETURN;
    END IF;
    LOOP
        SELECT (p.point ->> 'wal_flushed_until')::pg_lsn AS flushed_until, (p.point ->> 'wal_flushed_within')::interval AS flushed_within
        INTO r_present
        FROM (SELECT to_jsonb(e) FROM source.extraction_point AS e) AS p (point);
        EXIT WHEN r_present.flushed_until >= r_batch.wal_inserted_until;
        EXIT WHEN clock_timestamp() > v_since + coalesce(r_present.flushed_within, '1 s');
        PERFORM pg_sleep_for('20 ms');
    END LOOP;
END
$_await_flush$;

/*
Ends the extractions of a transaction. If one of them is retried, all of them are, because the tables of a batch are
read under one snapshot. If the connection to the source was lost, the transaction must be rolled back: postgres_fdw
would refuse its COMMIT.
Parameters: p_tasks, the extractions that were claimed together.
Returns:    NULL when the transaction is to be committed; otherwise the outcomes that etl._note_outcomes records after
            its rollback.
Writes:     etl.task_run.
*/
CREATE OR REPLACE FUNCTION etl._end_batch(p_tasks etl.task_run[])
RETURNS etl.task_run[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_end_batch$
DECLARE
    v_is_lost boolean := etl._is_source_lost(p_tasks[1].run_id);
    v_sqlstate text;
    v_message text;
    r_present record;
BEGIN
    IF NOT v_is_lost THEN
        BEGIN
            PERFORM etl._await_flush(p_tasks[1].run_id);
        EXCEPTION
            WHEN connection_exception OR operator_intervention OR fdw_error THEN
                GET STACKED DIAGNOSTICS v_sqlstate = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT;
                UPDATE etl.task_run AS t
                SET sqlstate = v_sqlstate,
                    status = CASE WHEN t.attempts < t.max_attempts THEN 'pending' ELSE 'failed' END,
                    message = v_message,
                    ended_at = clock_timestamp()
                FROM unnest(p_tasks) AS c
                WHERE t.run_id = c.run_id
                    AND t.task = c.task;
                v_is_lost := true;
        END;
    END IF;
    SELECT
        bool_or(t.status = 'pending') AS is_repeated,
        max(t.sqlstate) FILTER (WHERE t.sqlstate LIKE '08%') AS lost
    INTO r_present
    FROM etl.task_run AS t
    JOIN unnest(p_tasks) AS c ON c.run_id = t.run_id AND c.task = t.task;
    IF r_present.is_repeated OR v_is_lost THEN
        UPDATE etl.task_run AS t
        SET status = CASE WHEN r_present.is_repeated THEN 'pending' ELSE 'failed' END,
            sqlstate = CASE WHEN v_is_lost THEN r_present.lost END,
            message = CASE WHEN v_is_lost THEN 'The connection to the source was lost later in the batch.' END,
            rows_read = 0,
            rows_inserted = 0,
            rows_quarantined = 0
        FROM unnest(p_tasks) AS c
        WHERE t.run_id = c.run_id
            AND t.task = c.task
            AND t.status = 'succeeded';
    END IF;
    IF v_is_lost THEN
        RETURN (
            SELECT array_agg(t)
            FROM etl.task_run AS t
            JOIN unnest(p_tasks) AS c ON c.run_id = t.run_id AND c.task = t.task
        );
    END IF;
    RETURN NULL;
END
$_end_batch$;

/*
Records the outcomes of tasks whose transaction was rolled back. Before a retry it waits for the source to return, each
time twice as long. The worker keeps the tasks meanwhile, and no row is locked.
Parameters: p_outcomes, rows of etl.task_run as that transaction had them.
Writes:     etl.task_run.
*/
CREATE OR REPLACE FUNCTION etl._note_outcomes(p_outcomes etl.task_run[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_note_outcomes$
DECLARE
    r_task etl.task_run;
BEGIN
    PERFORM pg_sleep_for(etl.get_setting('source_retry_pause')::interval * power(2, max(o.attempts) - 1))
    FROM unnest(p_outcomes) AS o
    WHERE o.status = 'pending';
    FOREACH r_task IN ARRAY p_outcomes
    LOOP
        UPDATE etl.task_run AS t
        SET status = r_task.status,
            started_at = r_task.started_at,
            ended_at = r_task.ended_at,
            sqlstate = r_task.sqlstate,
            message = r_task.message,
            detail = r_task.detail,
            hint = r_task.hint,
            context = r_task.context
        WHERE t.run_id = r_task.run_id
            AND t.task = r_task.task;
        PERFORM etl._notify(r_task);
    END LOOP;
END
$_note_outcomes$;
