-- A batch: all rows extracted under one snapshot of the source. Its extractions succeed together or are retried together.

/*
The batch of this transaction, opened when there is none yet. The transaction must be REPEATABLE READ, so that all tables of the
batch are read on the snapshot that is noted here.
Parameters: p_run_id, the run; p_source_table, the only table of the batch (by default it has all).
Returns:    the batch.
Writes:     etl.batch, etl.schema_drift.
Errors:     ET004 when the transaction is not REPEATABLE READ; 08003 when the connection to the source was lost since the batch was
            opened, as what is read from now on would be of another snapshot; as etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl._this_batch(p_run_id bigint, p_source_table name DEFAULT NULL)
RETURNS etl.batch
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_this_batch$
DECLARE
    r_batch etl.batch;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'a batch must be extracted on one snapshot, this transaction is %', current_setting('transaction_isolation')
            USING ERRCODE = 'ET004', HINT = 'Run the engine by CALL etl.run(), which sets the isolation level itself.';
    END IF;
    IF current_setting('etl.source_lost', true) <> '' THEN
        RAISE EXCEPTION 'the connection to the source was lost while this batch was extracted'
            USING ERRCODE = '08003', HINT = 'The batch is extracted again, all of it on a new snapshot.';
    END IF;
    SELECT b.*
    INTO r_batch
    FROM etl.batch AS b
    WHERE b.batch_id = nullif(current_setting('etl.batch_id', true), '')::bigint;
    IF NOT FOUND THEN
        PERFORM etl._reach_source();
        INSERT INTO etl.batch (run_id, snapshot, system_identifier, read_at)
        SELECT p_run_id, p.snapshot, p.system_identifier, p.read_at
        FROM source.extraction_point AS p
        RETURNING * INTO r_batch;
        PERFORM set_config('etl.batch_id', r_batch.batch_id::text, true);
        PERFORM etl._note_drift(p_source_table);
    END IF;
    RETURN r_batch;
END
$_this_batch$;
COMMENT ON FUNCTION etl._this_batch(bigint, name) IS 'The batch of this transaction, opened when there is none yet.';

/*
Notes that an extraction failed because the connection to the source was lost: for the rest of the transaction nothing may be
read from there, as a new connection would give another snapshot.
Parameters: p_sqlstate, error code of the failure; others than those of a lost connection are of no matter here.
*/
CREATE OR REPLACE FUNCTION etl._note_source_lost(p_sqlstate text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_note_source_lost$
BEGIN
    IF p_sqlstate ~ '^(08|57P0|HV00N)' AND coalesce(current_setting('etl.source_lost', true), '') = '' THEN
        PERFORM set_config('etl.source_lost', p_sqlstate, true);
    END IF;
END
$_note_source_lost$;
COMMENT ON FUNCTION etl._note_source_lost(text) IS 'Notes that the connection to the source was lost in this transaction.';

/*
Ends the extractions of a transaction. When one of them is to be tried again, all of them are: the tables of a batch
are read on one snapshot, and stage takes the latest batch only. When the connection to the source was lost, the transaction must be
rolled back: postgres_fdw would refuse its COMMIT.
Parameters: p_tasks, the extractions that were claimed together.
Returns:    NULL when the transaction is to be committed; otherwise the outcomes to be noted by etl._note_outcomes after its rollback.
Writes:     etl.task_run.
*/
CREATE OR REPLACE FUNCTION etl._end_batch(p_tasks etl.task_run[])
RETURNS etl.task_run[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_end_batch$
DECLARE
    v_is_lost boolean := coalesce(current_setting('etl.source_lost', true), '') <> '';
    r_present record;
BEGIN
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
COMMENT ON FUNCTION etl._end_batch(etl.task_run[]) IS 'Ends the extractions of a transaction: when one of them is to be tried again, all of them are. Returns outcomes when it must be rolled back.';

/*
Notes the outcomes of tasks whose transaction was rolled back. Where they are to be tried again, the source is given time to come back
first, each time twice as long: the worker keeps the tasks meanwhile, but no row is locked.
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
COMMENT ON FUNCTION etl._note_outcomes(etl.task_run[]) IS 'Notes the outcomes of tasks whose transaction was rolled back.';
