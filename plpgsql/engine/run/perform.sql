-- What a task does, by its kind.

-- Refuses a load that put too large a share of its rows into quarantine: ET008 if more than ten rows, and more than the setting
-- quarantine_share_limit allows, are new there. Then the rows are not at fault, and a small table must not lose all of them.
CREATE OR REPLACE FUNCTION etl._check_quarantine_share(p_task etl.task_run, p_result etl.load_result)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_quarantine_share$
DECLARE
    v_rows bigint := greatest(p_result.rows_read, p_result.rows_quarantined);
    v_bad bigint;
    r_last etl.quarantine;
BEGIN
    IF p_result.rows_quarantined <= 10 THEN
        RETURN;
    END IF;
    SELECT count(*)
    INTO v_bad
    FROM etl.quarantine AS q
    WHERE q.object = p_task.object
        AND q.run_id = p_task.run_id
        AND q.attempts = 1;
    IF v_bad > 10 AND v_bad > v_rows * etl.get_setting('quarantine_share_limit')::numeric / 100 THEN
        SELECT q.*
        INTO r_last
        FROM etl.quarantine AS q
        WHERE q.object = p_task.object
            AND q.run_id = p_task.run_id
        ORDER BY q.tried_at DESC
        LIMIT 1;
        RAISE EXCEPTION '% of % rows of % cannot be loaded, the last because: %',
                v_bad, v_rows, p_task.object, etl._without_values(r_last.sqlstate, r_last.reason)
            USING ERRCODE = 'ET008',
                DETAIL = format('Error code of the last row: %s; its key: %s. Examples are kept in quarantine.', r_last.sqlstate, r_last.row_key),
                HINT = 'Correct the transformation or the table, or raise the setting quarantine_share_limit.';
    END IF;
END
$_check_quarantine_share$;

-- Executes a claimed task, without an exception guard, and returns its counts. A full refresh stores the fingerprint of the object as it was before the
-- load, so that a definition that changes during the load counts as changed afterwards. Also writes etl.load_state, and the statistics of a table
-- that has more than trebled and of the queue.
CREATE OR REPLACE FUNCTION etl._do_task(p_task etl.task_run)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_do_task$
DECLARE
    r_result etl.load_result;
    v_before jsonb;
    v_fingerprint jsonb;
    v_filled bigint := 0;
    v_grown regclass;
BEGIN
    SELECT l.fingerprint, etl._fingerprint(l.object)
    INTO v_before, v_fingerprint
    FROM etl.load_state AS l
    WHERE l.object = p_task.object
        AND l.needs_reload
        AND p_task.kind IN ('dimension', 'fact', 'aggregate');
    IF p_task.kind = 'dimension' AND v_before IS NOT NULL THEN
        v_filled := etl._fill_new_attributes(p_task.object, v_before, p_task.run_id);
    END IF;
    r_result := CASE p_task.kind
        WHEN 'extract' THEN etl._extract(p_task.object, p_task.run_id)
        WHEN 'stage' THEN etl._stage(p_task.object, p_task.run_id)
        WHEN 'dimension' THEN etl._load_dimension(p_task.object, p_task.run_id)
        WHEN 'fact' THEN etl._load_fact(p_task.object, p_task.run_id)
        WHEN 'aggregate' THEN etl._load_aggregate(p_task.object, p_task.run_id)
        WHEN 'check' THEN (
            SELECT ROW(count(*), 0, 0, 0, 0, 0)::etl.load_result
            FROM etl._due_checks(p_task.run_id) AS q
            CROSS JOIN LATERAL etl._do_check(q, p_task.run_id)
        )
        WHEN 'maintain' THEN etl._maintain(p_task.run_id)
    END;
    r_result.rows_updated := r_result.rows_updated + v_filled;
    IF r_result.rows_inserted > 1000 THEN
        SELECT o.table_name
        INTO v_grown
        FROM etl.object AS o
        JOIN pg_class AS c ON c.oid = o.table_name
        WHERE o.kind = CASE WHEN p_task.kind IN ('extract', 'stage') THEN 'source' ELSE p_task.kind END
            AND o.object = p_task.object
            AND r_result.rows_inserted > 2 * c.reltuples
            AND NOT etl._is_distributed(o.table_name);
        IF FOUND THEN
            -- A table that was small is large now. Until autovacuum comes, statements would be planned for the small one.
            EXECUTE format('ANALYZE %s', v_grown);
        END IF;
    END IF;
    -- Without statistics, the load that resolves these rows would compare each of them with each of the fact's.
    PERFORM etl._analyze('etl.reprocessing_queue', '{fact,key_column,dimension,is_ready}', r_result.rows_queued, 1000);
    IF v_fingerprint IS NOT NULL THEN
        UPDATE etl.load_state AS l
        SET fingerprint = v_fingerprint
        WHERE l.object = p_task.object;
    END IF;
    RETURN r_result;
END
$_do_task$;

-- Executes a claimed task and records the outcome in etl.task_run, in the calling transaction: data, watermark and outcome are committed together. A
-- failure is rolled back and recorded; it never reaches the caller. Returns whether the worker goes on: false if it was cancelled (SQLSTATE 57014, by
-- a person or by statement_timeout).
CREATE OR REPLACE FUNCTION etl._perform(p_task etl.task_run)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_perform$
DECLARE
    r_task etl.task_run := p_task;
    r_result etl.load_result;
    v_going_on boolean := true;
    v_examples etl.quarantine[];
    v_holders integer[];
BEGIN
    -- Extractions are claimed together and executed one after the other: the time of each starts here.
    r_task.started_at := clock_timestamp();
    BEGIN
        r_result := etl._do_task(p_task);
        IF r_result.rows_quarantined > 0 THEN
            -- Variables outlive the rollback.
            v_examples := ARRAY(
                SELECT q
                FROM etl.quarantine AS q
                WHERE q.object = p_task.object
                    AND q.run_id = p_task.run_id
                    AND q.attempts = 1
                ORDER BY q.row_key
                LIMIT 10
            );
            PERFORM etl._check_quarantine_share(p_task, r_result);
        END IF;
        r_task.status := 'succeeded';
        r_task.rows_read := r_result.rows_read;
        r_task.rows_inserted := r_result.rows_inserted;
        r_task.rows_updated := r_result.rows_updated;
        r_task.rows_deleted := r_result.rows_deleted;
        r_task.rows_queued := r_result.rows_queued;
        r_task.rows_quarantined := r_result.rows_quarantined;
        IF p_task.kind = 'check' THEN
            -- A verdict, not an error: the results of the checks stay.
            r_task := etl._judge_checks(r_task);
        END IF;
    EXCEPTION
        WHEN query_canceled OR OTHERS THEN
            GET STACKED DIAGNOSTICS
                r_task.sqlstate = RETURNED_SQLSTATE,
                r_task.message = MESSAGE_TEXT,
                r_task.detail = PG_EXCEPTION_DETAIL,
                r_task.hint = PG_EXCEPTION_HINT,
                r_task.context = PG_EXCEPTION_CONTEXT;
            v_going_on := r_task.sqlstate <> '57014';
            r_task.status := CASE
                WHEN NOT v_going_on THEN 'pending'
                -- Transient: serialization and deadlock, resources, lock not available, connection (57P0 and HV00N come from a source on
                -- another server that is shut down, has crashed, or starts), system error.
                WHEN r_task.attempts < r_task.max_attempts AND r_task.sqlstate ~ '^(40|53|55P03|08|57P0|58|HV00N)' THEN 'pending'
                ELSE 'failed'
            END;
            IF r_task.sqlstate = '55P03' THEN
                v_holders := etl.lock_holders();
                r_task.message := format(
                    'a lock was not granted within %s%s', current_setting('lock_timeout'), coalesce(format('; process id %s holds one', v_holders[1]), '')
                );
                r_task.detail := coalesce(etl.describe_sessions(v_holders), 'The session that held it has just ended.');
                r_task.hint := coalesce(
                    format('Wait until its transaction has ended, or end it: SELECT pg_terminate_backend(%s).', v_holders[1]), 'Run again.'
                );
            ELSIF r_task.sqlstate = 'ET008' THEN
                -- Examples help to find the cause. The next load retries them with all others, as new rows (attempts).
                INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, original_row, attempts, run_id)
                SELECT e.object, e.row_key, e.sqlstate, e.reason, e.original_row, 0, e.run_id
                FROM unnest(v_examples) AS e
                WHERE NOT EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_task.object);
            END IF;
    END;
    r_task.ended_at := clock_timestamp();
    UPDATE etl.task_run AS t
    SET status = r_task.status,
        started_at = r_task.started_at,
        ended_at = r_task.ended_at,
        rows_read = r_task.rows_read,
        rows_inserted = r_task.rows_inserted,
        rows_updated = r_task.rows_updated,
        rows_deleted = r_task.rows_deleted,
        rows_queued = r_task.rows_queued,
        rows_quarantined = r_task.rows_quarantined,
        sqlstate = r_task.sqlstate,
        message = r_task.message,
        detail = nullif(r_task.detail, ''),
        hint = nullif(r_task.hint, ''),
        context = r_task.context
    WHERE t.run_id = r_task.run_id
        AND t.task = r_task.task
    -- As recorded: a trigger may remove values of rows from the message.
    RETURNING t.* INTO r_task;
    PERFORM etl._notify(r_task);
    RETURN v_going_on;
END
$_perform$;
