-- stage -> fact: surrogate keys resolved as of the event, rows inserted or updated only where they differ, unresolved keys queued.
--
-- The pending keys drive everything: changed source rows put them there when stage is merged, members that arrive late when
-- their dimension is loaded. The fact table itself is only touched at those keys, by its primary key.
-- A key is unknown (-1) when its member is not there, or when the member has changes that its dimension failed to load: the
-- version that is there may be the wrong one. Either way the row is queued, and the load of the member makes it ready. Of a
-- dimension that nothing loads (the calendar) no member can arrive: such a row goes to quarantine.
--
-- Looking a version up: a plain join on the business key with a condition on the validity. For few keys that becomes an index
-- scan, for many a hash join, as the planner sees fit. LATERAL ... ORDER BY valid_from DESC LIMIT 1 was as fast for few keys and
-- two to three times slower in bulk, a GiST index on the range slower everywhere.

/*
Fills an empty fact table with everything there is, indexes built after the rows, foreign keys checked for all of them at once or made
afterwards. Rows with unknown keys become pending, so that the ordinary way looks at them once more and queues them.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    rows read and inserted.
Writes:     the fact's table, work.<fact>_key, etl.load_state (its aggregates are to be built anew).
Locks:      as etl._lock_referenced.
Tried and lost: the view in the order of the business key, for a merge join of lines and orders (as fast, within 5 %); the look for unknown keys
spared by having the statement itself tell of them (it became slower by as much as the look takes); CREATE TABLE AS, which extends its file by
many pages at once, takes three quarters of the time of INSERT, but makes another table than the one that views, keys and comments belong to.
*/
CREATE OR REPLACE FUNCTION etl._fill_fact(p_fact name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- All rows are wanted: where an estimate says otherwise, a loop over three million look-ups would take minutes.
SET enable_nestloop = off
-- What a fact sums up, it sums up by a key on which a mirror has an index. A small sample makes believe that there are few groups, and hashed
-- they spilled: to look up all that a million orders are filled with took 7.5 s that way, in the order of the index 5.2 s.
SET enable_hashagg = off
AS $_fill_fact$
DECLARE
    v_table regclass := (SELECT f.fact_table FROM etl.fact AS f WHERE f.fact = p_fact);
    v_is_locked boolean;  -- what the rows refer to
    v_rebuild text[];
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_rows bigint;
BEGIN
    PERFORM etl._empty(format('work.%I', p_fact || '_key')::regclass);
    v_is_locked := etl._may_check_at_once(p_fact)
        AND etl._lock_referenced(p_fact, p_dimensions => true)
        AND etl._lock_referenced(p_fact, p_dimensions => false);
    v_rebuild := etl._begin_bulk(v_table, p_keep_foreign_keys => v_is_locked);
    FOR r_statement IN
        SELECT *
        FROM etl._fact_sql(p_fact, 'fill', p_doubtful => etl._doubtful_dimensions(p_fact))
    LOOP
        v_rows := etl._execute_under(
            CASE WHEN v_is_locked THEN '{session_replication_role=replica}'::text[] ELSE '{}' END, r_statement.statement, p_run_id
        );
        IF r_statement.title LIKE 'insert:%' THEN
            r_result.rows_read := v_rows;
            r_result.rows_inserted := v_rows;
        END IF;
    END LOOP;
    PERFORM etl._finish_bulk(v_table, v_rebuild);
    IF v_is_locked THEN
        PERFORM etl._check_foreign_keys(p_fact, format('%s AS w', v_table), p_are_all => true);
    END IF;
    PERFORM etl._request_reload(etl._fed_by(p_fact));
    UPDATE etl.load_state AS l
    SET needs_reload = false
    WHERE l.object = p_fact;
    RETURN r_result;
END
$_fill_fact$;
COMMENT ON FUNCTION etl._fill_fact(name, bigint) IS 'Fills an empty fact table with everything there is.';

/*
Readies the reload of a fact: the keys of rows that differ from what the transformation gives become pending, with those that wait. Of
millions that are right, to make them all pending and decide on each took three times as long.
Parameters: p_fact, the fact.
Writes:     work.<fact>_key, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._begin_reload(p_fact name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- As in etl._fill_fact.
SET enable_nestloop = off
AS $_begin_reload$
DECLARE
    r_statement record;
BEGIN
    FOR r_statement IN
        SELECT *
        FROM etl._fact_sql(p_fact, 'reload', p_doubtful => etl._doubtful_dimensions(p_fact))
    LOOP
        EXECUTE r_statement.statement;
    END LOOP;
    UPDATE etl.load_state AS l
    SET needs_reload = false
    WHERE l.object = p_fact;
END
$_begin_reload$;
COMMENT ON FUNCTION etl._begin_reload(name) IS 'Readies the reload of a fact: what is not as it should be becomes pending.';

/*
Loads a fact: its pending keys and the queue entries that are ready, or everything when the table is empty or a reload was
asked for.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    rows read (pending keys), inserted, updated, deleted (marked), queued, quarantined.
Writes:     the fact's table, work.<fact>_key, work.<fact>_decision, work.<aggregate>_difference, etl.reprocessing_queue,
            etl.quarantine, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_fact(p_fact name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_fact$
DECLARE
    r_fact etl.fact;
    r_filled etl.load_result := (0, 0, 0, 0, 0, 0);
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_is_empty boolean;
    v_pending bigint;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;

    IF etl._needs_reload(p_fact) THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', r_fact.fact_table) INTO v_is_empty;
        BEGIN
            IF v_is_empty THEN
                r_filled := etl._fill_fact(p_fact, p_run_id);
            ELSE
                PERFORM etl._begin_reload(p_fact);
            END IF;
        EXCEPTION
            WHEN data_exception OR integrity_constraint_violation THEN
                -- Some row is bad. The ordinary way, which follows, finds out which.
                r_filled := (0, 0, 0, 0, 0, 0);
        END;
    END IF;

    PERFORM etl._take_waiting(p_fact, r_fact.fact_table, r_fact.business_key, p_run_id);
    v_pending := etl._begin_load(p_fact, r_fact.business_key, r_fact.fact_table, r_fact.transform_view);
    IF v_pending > 0 THEN
        r_result := etl._apply_isolating('fact', p_fact, r_fact.business_key, p_run_id);
    END IF;
    r_result.rows_read := greatest(r_filled.rows_read, v_pending);
    r_result.rows_inserted := r_filled.rows_inserted + r_result.rows_inserted;
    PERFORM etl._finish_load(p_fact);
    RETURN r_result;
END
$_load_fact$;
COMMENT ON FUNCTION etl._load_fact(name, bigint) IS 'Loads the pending keys of a fact and the queue entries that are ready, or everything when it is empty.';
