-- source -> delta: the rows that changed since the watermark, all tables of a batch on one snapshot of the source.
--
-- The exact watermark. A time of change (updated_at > last) loses rows whose transaction commits late. Here each source row
-- carries the id of the transaction that wrote it (xid8), and the watermark is a snapshot of the source: the set of transactions
-- that the mirror contains. A batch is what the present snapshot sees and that one did not. The range on the id makes it an
-- index scan; the visibility test makes it exact.

CREATE OR REPLACE FUNCTION etl._changed_condition(p_source etl.source_table, p_mode text, p_snapshot text DEFAULT '$2')
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_changed_condition$
    SELECT CASE
        WHEN p_mode = 'all' OR p_source.change_detection = 'comparison' THEN 'true'
        WHEN p_source.change_detection = 'snapshot'
            THEN format(E's.%1$I >= pg_snapshot_xmin(%2$s)\n    AND NOT pg_visible_in_snapshot(s.%1$I, %2$s)', p_source.change_column, p_snapshot)
        -- The lookback is off $3 already: moment - interval in the condition would keep it from being sent to another server.
        ELSE format(E's.%1$I >= $3\n    AND s.%1$I < $4', p_source.change_column)
    END
$_changed_condition$;
COMMENT ON FUNCTION etl._changed_condition(etl.source_table, text, text) IS 'Condition that a row of a source table (s) is to be extracted: mode changed (since the watermark) or all. The last snapshot is $2 or an expression, $3 and $4 moments from and up to which changes are read.';

/*
Whether a source table is extracted from its watermark on (changed), or anew (all): where it has none, or one that means nothing any more.
Parameters: p_watermark, the watermark, NULL where there is none; p_batch, the batch.
*/
CREATE OR REPLACE FUNCTION etl._extraction_mode(p_watermark etl.watermark, p_batch etl.batch)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_extraction_mode$
    SELECT CASE
        -- Transaction ids of another database system mean nothing here; nor do those of a source that went back in time.
        WHEN p_watermark.system_identifier = p_batch.system_identifier
            AND pg_snapshot_xmax(p_batch.snapshot) >= pg_snapshot_xmin(p_watermark.snapshot)
            THEN 'changed'
        ELSE 'all'
    END
$_extraction_mode$;
COMMENT ON FUNCTION etl._extraction_mode(etl.watermark, etl.batch) IS 'Whether a source table is extracted from its watermark on (changed), or anew (all).';

CREATE OR REPLACE FUNCTION etl._extraction_sql(
    p_source_table name,
    p_mode text
) RETURNS TABLE (title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_extraction_sql$
DECLARE
    r_source etl.source_table;
    v_columns name[];
    v_values name[];
    v_deleted_at text := '$4';
    v_tombstones text := '';
    v_gone text;
    v_changed text;
    v_unreadable text;
    v_present text;
BEGIN
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    v_columns := etl._without(etl._columns(format('stage.%I', p_source_table)::regclass), '{batch_id,deleted_at}');

    IF p_mode = 'bulk' THEN
        title := 'rows straight into the empty stage table';
        statement := format(
            $sql$INSERT INTO stage.%1$I (%2$s, batch_id)
SELECT %2$s, $1
FROM source.%1$I$sql$,
            p_source_table, etl._list(v_columns)
        );
        RETURN NEXT;
        RETURN;
    END IF;

    IF r_source.delete_detection = 'tombstone' AND p_mode <> 'changed' THEN
        -- A tombstone knows when the row was deleted; without one it was before now.
        v_deleted_at := 'coalesce(t.deleted_at, $4)';
        v_tombstones := format(
            $sql$
LEFT JOIN (
    SELECT %1$s, max(d.deleted_at)
    FROM source.tombstones AS d
    WHERE d.table_name = %2$L
    GROUP BY %1$s
) AS t (%3$s, deleted_at) ON %4$s$sql$,
            etl._from_json(r_source.key_columns, 'd.row_key', format('stage.%I', p_source_table)::regclass), p_source_table,
            etl._list(r_source.key_columns), etl._match(r_source.key_columns, 't', 'm')
        );
    END IF;

    IF p_mode = 'differing' THEN
        v_values := etl._without(v_columns, r_source.key_columns);
        -- No row of the mirror is without its key: beside one that has none, the source has no row.
        v_gone := format('m.batch_id IS NOT NULL AND s.%I IS NULL', r_source.key_columns[1]);
        title := 'rows that the mirror lacks, holds otherwise or has too many, into delta';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s%3$s, deleted_at)
SELECT
    $1,
    CASE WHEN %4$s THEN 'delete' ELSE 'upsert' END,
    %5$s%6$s,
    CASE WHEN %4$s THEN %7$s END
FROM source.%1$I AS s
FULL JOIN (SELECT * FROM stage.%1$I AS r WHERE r.deleted_at IS NULL) AS m ON %8$s%9$s
WHERE CASE
        WHEN m.batch_id IS NULL THEN true
        WHEN s.%10$I IS NULL THEN %11$s
        ELSE %12$s
    END$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(v_values, ', %1$I', ''), v_gone,
            etl._list(r_source.key_columns, 'coalesce(s.%1$I, m.%1$I)'), etl._list(v_values, ', s.%1$I', ''),
            v_deleted_at, etl._match(r_source.key_columns, 'm', 's'), v_tombstones, r_source.key_columns[1],
            (r_source.delete_detection <> 'none')::text, etl._differs(v_values, 'm', 's')
        );
        RETURN NEXT;
        RETURN;
    END IF;

    v_changed := coalesce(E'\nWHERE ' || nullif(etl._changed_condition(r_source, p_mode), 'true'), '');
    title := 'changed rows into delta';
    statement := format(
        $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s)
SELECT $1, 'upsert', %3$s
FROM source.%1$I AS s%4$s$sql$,
        p_source_table, etl._list(v_columns), etl._list(v_columns, 's.%1$I'), v_changed
    );
    RETURN NEXT;

    -- A row that cannot be read is there all the same.
    v_unreadable := format(
        E'\n    AND NOT EXISTS (\n        SELECT\n        FROM etl.quarantine AS q\n        JOIN etl.batch AS b ON b.run_id = q.run_id AND b.batch_id = $1\n        WHERE q.object = %L\n            AND q.sqlstate LIKE ''22%%''\n            AND q.row_key = ',
        p_source_table
    );
    -- Rows that are there now. Where delta holds all of them, or all that could have come back under a deleted key, they are not
    -- asked for again, which would move the keys of the whole table when the source is another server. By snapshot it does: a row
    -- under a key that was deleted since the watermark was written after that, thus since the watermark too.
    v_present := CASE
        WHEN p_mode = 'all' OR r_source.change_detection = 'comparison'
            OR (r_source.change_detection = 'snapshot' AND r_source.delete_detection = 'tombstone')
            THEN format('SELECT FROM delta.%I AS s WHERE s.batch_id = $1 AND s.operation = ''upsert'' AND ', p_source_table)
        ELSE format('SELECT FROM source.%I AS s WHERE ', p_source_table)
    END;

    IF r_source.delete_detection = 'comparison' OR (p_mode = 'all' AND r_source.delete_detection <> 'none') THEN
        title := 'keys that are gone from the source';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s, deleted_at)
SELECT $1, 'delete', %3$s, %4$s
FROM stage.%1$I AS m%5$s
WHERE m.deleted_at IS NULL
    AND NOT EXISTS (%6$s%7$s)%8$s$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(r_source.key_columns, 'm.%1$I'),
            v_deleted_at, v_tombstones,
            v_present, etl._match(r_source.key_columns, 's', 'm'),
            v_unreadable || etl._json_key(r_source.key_columns, 'm') || E'\n    )'
        );
        RETURN NEXT;
    ELSIF r_source.delete_detection = 'tombstone' THEN
        -- A row deleted and inserted again under its key is alive: the live row wins.
        title := 'tombstones of deleted rows';
        statement := format(
            $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s, deleted_at)
SELECT $1, 'delete', %3$s, max(d.deleted_at)
FROM (
    SELECT %4$s, t.deleted_at
    FROM source.tombstones AS t
    WHERE t.table_name = %5$L
        AND t.row_xid >= pg_snapshot_xmin($2)
        AND NOT pg_visible_in_snapshot(t.row_xid, $2)
) AS d (%2$s, deleted_at)
WHERE NOT EXISTS (%7$s%6$s)%8$s
GROUP BY %3$s$sql$,
            p_source_table, etl._list(r_source.key_columns), etl._list(r_source.key_columns, 'd.%1$I'),
            etl._from_json(r_source.key_columns, 't.row_key', format('stage.%I', p_source_table)::regclass), p_source_table,
            etl._match(r_source.key_columns, 's', 'd'), v_present,
            v_unreadable || etl._json_key(r_source.key_columns, 'd') || E'\n    )'
        );
        RETURN NEXT;
    END IF;
END
$_extraction_sql$;
COMMENT ON FUNCTION etl._extraction_sql(name, text) IS 'Statements that extract a source table: mode changed (since the watermark), all (anew, to be compared with what stage holds), differing (anew, compared with it) or bulk (into an empty stage table). $1 batch, $2 last snapshot, $3 moment from which changes are read (the last one, less the lookback), $4 moment up to which.';

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
Ends the extractions of a transaction, and orders what follows. When one of them is to be tried again, all of them are: the tables of a batch
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
        sum(t.rows_read) FILTER (WHERE t.kind = 'extract') AS extracted,
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
    ELSIF r_present.extracted > 10000 THEN
        -- For a few rows the order is not worth what it takes.
        PERFORM etl._order_batch(p_tasks[1].run_id);
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

/*
Plans the filling of the mirrors that hold nothing yet, one task a table. Other than extractions these need not share a snapshot, so
workers share them out, and a run that dies does not begin again with those that are full: the extractions, which follow, bring all
mirrors to one moment. The largest comes first, so that workers end together.
Parameters: p_run_id, the run; its extractions tell which tables count.
Writes:     etl.task_run, etl.load_state (what depends on the tables is to be loaded anew).
*/
CREATE OR REPLACE FUNCTION etl._plan_filling(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_plan_filling$
DECLARE
    r_task etl.task;
    v_is_empty boolean;
BEGIN
    FOR r_task IN
        SELECT f.*
        FROM etl.task AS f
        JOIN etl.task_run AS e ON e.run_id = p_run_id AND e.kind = 'extract' AND e.object = f.object
        WHERE f.kind = 'fill'
            AND f.is_enabled
            AND NOT EXISTS (SELECT FROM etl.watermark AS w WHERE w.source_table = f.object)
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM stage.%I)', r_task.object) INTO v_is_empty;
        CONTINUE WHEN NOT v_is_empty;
        INSERT INTO etl.task_run (run_id, task, kind, object, position, max_attempts)
        VALUES (p_run_id, r_task.task, r_task.kind, r_task.object, -etl._estimated_rows(format('source.%I', r_task.object)::regclass), r_task.max_attempts);
        PERFORM etl._request_reload((SELECT array_agg(p.object) FROM etl.dependency AS p WHERE p.source_table = r_task.object));
    END LOOP;
END
$_plan_filling$;
COMMENT ON FUNCTION etl._plan_filling(bigint) IS 'Plans the filling of the mirrors that hold nothing yet.';

CREATE OR REPLACE FUNCTION etl._estimated_rows(p_relation regclass)
RETURNS integer
LANGUAGE plpgsql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $_estimated_rows$
DECLARE
    v_plan json;
BEGIN
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM %s', p_relation) INTO v_plan;
    RETURN least((v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric, 2147483647);
END
$_estimated_rows$;
COMMENT ON FUNCTION etl._estimated_rows(regclass) IS 'Rows of a table or view, as the planner sees it.';

/*
Fills the empty mirror of a source table straight from the source, its key built after the rows.
Parameters: p_source_table, the table; p_run_id, the run.
Returns:    rows read and inserted; none when there is a row without a usable key, or one that cannot be read: the extraction, which
            follows, takes all rows by way of delta then, where that one is found and put into quarantine.
Writes:     stage.<table>, etl.batch, etl.extraction, etl.watermark, etl.schema_drift.
Errors:     ET007 when a column of the table was dropped or retyped.
*/
CREATE OR REPLACE FUNCTION etl._fill_mirror(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_mirror$
DECLARE
    r_batch etl.batch := etl._this_batch(p_run_id, p_source_table);
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_mirror regclass := format('stage.%I', p_source_table)::regclass;
    v_until timestamptz;
    v_rebuild text[];
BEGIN
    PERFORM etl._check_drift(p_source_table);
    v_until := etl._complete_until(p_source_table, r_batch.read_at);
    v_rebuild := etl._begin_bulk(v_mirror);
    EXECUTE (SELECT e.statement FROM etl._extraction_sql(p_source_table, 'bulk') AS e) USING r_batch.batch_id;
    GET DIAGNOSTICS r_result.rows_read = ROW_COUNT;
    r_result.rows_inserted := r_result.rows_read;
    PERFORM etl._finish_bulk(v_mirror, v_rebuild);
    PERFORM etl._suppress_forgotten(p_source_table, v_mirror, r_batch.batch_id);
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk)
    VALUES (r_batch.batch_id, p_source_table, r_result.rows_read, v_until, true);
    PERFORM etl._move_watermark(p_source_table, r_batch, v_until);
    RETURN r_result;
EXCEPTION
    WHEN unique_violation OR not_null_violation OR data_exception THEN
        RETURN (0, 0, 0, 0, 0, 0)::etl.load_result;
END
$_fill_mirror$;
COMMENT ON FUNCTION etl._fill_mirror(name, bigint) IS 'Fills the empty mirror of a source table straight from the source.';

/*
Extracts one source table into delta: what changed since the watermark, or, where there is none, what differs from the mirror.
Parameters: p_source_table, the table; p_run_id, the run.
Returns:    rows read; rows quarantined because they cannot be read.
Writes:     delta.<table>, etl.extraction, etl.quarantine.
Errors:     ET007 when a column of the table was dropped or retyped; ET008 when too many of its rows cannot be read.
*/
CREATE OR REPLACE FUNCTION etl._extract(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract$
DECLARE
    r_batch etl.batch := etl._this_batch(p_run_id);
    r_watermark etl.watermark;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_until timestamptz;
    v_mode text;
BEGIN
    PERFORM etl._check_drift(p_source_table);
    v_until := etl._complete_until(p_source_table, r_batch.read_at);
    IF p_source_table <> ALL (etl._unchanged_tables(r_batch)) THEN
        SELECT *
        INTO r_watermark
        FROM etl.watermark AS w
        WHERE w.source_table = p_source_table;
        v_mode := etl._extraction_mode(r_watermark, r_batch);
        IF v_mode = 'all' AND etl._may_compare(p_source_table) THEN
            v_mode := 'differing';
        END IF;
        r_result := etl._extract_delta(p_source_table, v_mode, r_batch, r_watermark, v_until);
    END IF;
    INSERT INTO etl.extraction (batch_id, source_table, rows_extracted, complete_until, is_bulk)
    VALUES (r_batch.batch_id, p_source_table, r_result.rows_read, v_until, false);
    RETURN r_result;
END
$_extract$;
COMMENT ON FUNCTION etl._extract(name, bigint) IS 'Extracts one source table into delta: its changes, or what differs from its mirror.';

/*
Whether a source table that is extracted anew may be compared with its mirror on the way, so that only what differs gets into delta. To take
all rows there, and drop those that the mirror holds already, took half of the time of a full refresh. A row that shares its key with another is found in
delta, so where there is one, or one in quarantine that may have become a good one, all rows go there.
Parameters: p_source_table, the table.
*/
CREATE OR REPLACE FUNCTION etl._may_compare(p_source_table name)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
-- A key has an index as a rule, whose order tells what repeats.
SET enable_hashagg = off
AS $_may_compare$
DECLARE
    v_key name[] := (SELECT s.key_columns FROM etl.source_table AS s WHERE s.source_table = p_source_table);
    v_repeat boolean;
BEGIN
    IF EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_source_table)
        -- Its nodes join no table as a whole with one that is not distributed.
        OR EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'citus')
    THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM source.%I GROUP BY %s HAVING count(*) > 1)', p_source_table, etl._list(v_key)) INTO v_repeat;
    RETURN NOT v_repeat;
EXCEPTION
    WHEN data_exception THEN
        -- Some key cannot be read.
        RETURN false;
END
$_may_compare$;
COMMENT ON FUNCTION etl._may_compare(name) IS 'Whether a source table that is extracted anew may be compared with its mirror on the way: its keys can be read and do not repeat, and no row of it is in quarantine.';

/*
Source tables of which the source has tombstones that some mirror may not know yet. Looked up once a batch: most tables have none in most
batches, and to ask for each of them took a fifteenth of a run with nothing new, or a round trip each when the source is another server.
Returns:    their names; more than needed when a mirror is behind the others.
*/
CREATE OR REPLACE FUNCTION etl._tables_with_tombstones()
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_tables_with_tombstones$
DECLARE
    v_tables name[] := nullif(current_setting('etl.tables_with_tombstones', true), '')::name[];
BEGIN
    IF v_tables IS NULL THEN
        EXECUTE $sql$SELECT coalesce(array_agg(DISTINCT t.table_name::name), '{}')
FROM source.tombstones AS t
WHERE t.row_xid >= $1$sql$
        INTO v_tables
        USING (SELECT min(pg_snapshot_xmin(w.snapshot)) FROM etl.watermark AS w);
        -- The batch has one snapshot: to its end, there are no others.
        PERFORM set_config('etl.tables_with_tombstones', v_tables::text, true);
    END IF;
    RETURN v_tables;
END
$_tables_with_tombstones$;
COMMENT ON FUNCTION etl._tables_with_tombstones() IS 'Source tables of which the source has tombstones that some mirror may not know yet.';

/*
Source tables of which it can be told, by one look at all of them when a batch is opened, that nothing has changed since their watermarks. Most
have not changed in most batches; to extract nothing from each of twelve took a third of a run with nothing new. Left out is what could bring rows all
the same: tables that are compared, or watched by time (with a lookback there are always some), asked for anew, or with much left in delta. Of another
server each table would be asked twice, over the network; nothing is gained there.
Parameters: p_batch, the batch.
Returns:    their names. None where the look fails: then the table that is to blame tells by itself.
*/
CREATE OR REPLACE FUNCTION etl._unchanged_tables(p_batch etl.batch)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_unchanged_tables$
DECLARE
    v_tables name[] := nullif(current_setting('etl.unchanged_tables', true), '')::name[];
    v_looks text;
BEGIN
    IF v_tables IS NOT NULL THEN
        RETURN v_tables;
    END IF;
    BEGIN
        SELECT string_agg(
            format(
                E'SELECT %1$L::name\nWHERE NOT EXISTS (SELECT FROM source.%1$I AS s WHERE %2$s)',
                s.source_table, etl._changed_condition(s, 'changed', format('%L::pg_snapshot', w.snapshot))
            ),
            E'\nUNION ALL\n'
        )
        INTO v_looks
        FROM etl.source_table AS s
        JOIN etl.watermark AS w USING (source_table)
        JOIN pg_class AS d ON d.relname = s.source_table AND d.relnamespace = 'delta'::regnamespace
        WHERE s.change_detection = 'snapshot'
            AND CASE s.delete_detection
                WHEN 'none' THEN true
                -- Where no table uses them, the contract need not have tombstones.
                WHEN 'tombstone' THEN s.source_table <> ALL (etl._tables_with_tombstones())
                ELSE false
            END
            AND etl._extraction_mode(w, p_batch) = 'changed'
            AND d.relpages * current_setting('block_size')::bigint <= etl._few_bytes()
            AND NOT EXISTS (SELECT FROM etl.reextraction AS r WHERE r.source_table = s.source_table)
            AND NOT EXISTS (SELECT FROM pg_foreign_table AS f WHERE f.ftrelid = to_regclass(format('source.%I', s.source_table)));
        IF v_looks IS NOT NULL THEN
            EXECUTE format('SELECT array_agg(u.source_table) FROM (%s) AS u (source_table)', v_looks) INTO v_tables;
        END IF;
    EXCEPTION
        WHEN syntax_error_or_access_rule_violation OR data_exception THEN
            NULL;
    END;
    v_tables := coalesce(v_tables, '{}');
    PERFORM set_config('etl.unchanged_tables', v_tables::text, true);
    RETURN v_tables;
END
$_unchanged_tables$;
COMMENT ON FUNCTION etl._unchanged_tables(etl.batch) IS 'Source tables of which it can be told by one look that nothing has changed since their watermarks.';

/*
Extracts the changes of a source table into delta, in place of an earlier batch; a small one stays there until there are others.
Parameters: p_source_table, the table; p_mode, changed, differing, or all; p_batch, the batch; p_watermark, the last watermark;
            p_until, moment up to which the changes are complete.
Returns:    rows read, quarantined.
Writes:     delta.<table>, etl.quarantine.
*/
CREATE OR REPLACE FUNCTION etl._extract_delta(
    p_source_table name,
    p_mode text,
    p_batch etl.batch,
    p_watermark etl.watermark,
    p_until timestamptz
) RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_extract_delta$
DECLARE
    r_source etl.source_table;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_fetched etl.load_result;
    v_delta regclass := format('delta.%I', p_source_table)::regclass;
    v_from timestamptz;
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    v_from := p_watermark.read_at - r_source.lookback;
    IF pg_relation_size(v_delta) > etl._few_bytes() THEN
        -- To delete a hundred thousand rows afterwards took as long as to extract them.
        EXECUTE format('TRUNCATE %s', v_delta);
    END IF;
    FOR r_statement IN
        SELECT *
        FROM etl._extraction_sql(p_source_table, p_mode)
    LOOP
        CONTINUE WHEN r_statement.title LIKE 'tombstones %' AND p_source_table <> ALL (etl._tables_with_tombstones());
        BEGIN
            EXECUTE r_statement.statement
            USING p_batch.batch_id, p_watermark.snapshot, v_from, p_until;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
        EXCEPTION
            WHEN data_exception THEN
                IF p_mode = 'differing' THEN
                    RETURN etl._extract_delta(p_source_table, 'all', p_batch, p_watermark, p_until);
                ELSIF r_statement.title <> 'changed rows into delta' THEN
                    RAISE;
                END IF;
                v_rows := NULL;
        END;
        IF v_rows IS NULL THEN
            r_fetched := etl._fetch_changed(r_source, p_mode, p_batch, p_watermark.snapshot, v_from, p_until);
            v_rows := r_fetched.rows_read;
            r_result.rows_quarantined := r_fetched.rows_quarantined;
        END IF;
        r_result.rows_read := r_result.rows_read + v_rows;
        IF v_rows > 0 THEN
            -- Already now: the statement for deleted rows looks for their keys here.
            EXECUTE format('DELETE FROM %s WHERE batch_id <> $1', v_delta) USING p_batch.batch_id;
            PERFORM etl._analyze(v_delta, r_source.key_columns || '{batch_id,operation}'::name[], v_rows, 0);
        END IF;
    END LOOP;
    IF p_mode <> 'changed' OR r_source.change_detection = 'comparison' THEN
        -- All rows were read: those that could not be and are not among them now are readable, or gone.
        DELETE FROM etl.quarantine AS q
        WHERE q.object = p_source_table
            AND q.sqlstate LIKE '22%'
            AND q.run_id <> p_batch.run_id;
    END IF;
    r_fetched := etl._extract_again(p_source_table, p_batch, p_until);
    r_result.rows_read := r_result.rows_read + r_fetched.rows_read;
    r_result.rows_quarantined := r_result.rows_quarantined + r_fetched.rows_quarantined;
    PERFORM etl._suppress_forgotten(p_source_table, v_delta, p_batch.batch_id);
    RETURN r_result;
END
$_extract_delta$;
COMMENT ON FUNCTION etl._extract_delta(name, text, etl.batch, etl.watermark, timestamptz) IS 'Extracts the changes of a source table into delta.';

/*
Moment up to which the changes of a source table are complete. For a table watched by time of change it is held back to the
start of the oldest transaction that is still open, which may yet commit rows with an earlier time. Autovacuum commits none: for as long as it
works on a large table, nothing new would arrive.
The source tells that start in source.extraction_point (oldest_transaction_started_at) where it can. Otherwise it is looked up
on this server, or, when the source is another one, the lookback is all there is.
Parameters: p_source_table, the table; p_read_at, moment of the batch.
Returns:    the moment, by the source's clock.
*/
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
        EXECUTE 'SELECT p.oldest_transaction_started_at FROM source.extraction_point AS p' INTO v_oldest;
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
COMMENT ON FUNCTION etl._complete_until(name, timestamptz) IS 'Moment up to which the changes of a source table are complete.';

/*
Notes that stage holds all that the source had committed when a batch was read.
Parameters: p_source_table, the table; p_batch, the batch; p_complete_until, moment up to which changes are complete.
Writes:     etl.watermark.
*/
CREATE OR REPLACE FUNCTION etl._move_watermark(p_source_table name, p_batch etl.batch, p_complete_until timestamptz)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_move_watermark$
    INSERT INTO etl.watermark (source_table, snapshot, system_identifier, read_at, batch_id)
    VALUES (p_source_table, p_batch.snapshot, p_batch.system_identifier, p_complete_until, p_batch.batch_id)
    ON CONFLICT (source_table) DO UPDATE
    SET snapshot = excluded.snapshot,
        system_identifier = excluded.system_identifier,
        read_at = excluded.read_at,
        batch_id = excluded.batch_id
$_move_watermark$;
COMMENT ON FUNCTION etl._move_watermark(name, etl.batch, timestamptz) IS 'Moves the watermark of a source table to a batch.';
