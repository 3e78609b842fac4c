-- Planned changes of a fact are applied: its rows, its queue, and the differences for its aggregates.

/*
Dimensions of a fact with members whose changes wait: their load failed, or did not happen.
Parameters: p_fact, the fact.
Returns:    names of the dimensions.
*/
CREATE OR REPLACE FUNCTION etl._doubtful_dimensions(p_fact name)
RETURNS name[]
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_doubtful_dimensions$
DECLARE
    v_dimension name;
    v_doubtful name[] := ARRAY[]::name[];
    v_pending boolean;
BEGIN
    FOR v_dimension IN
        SELECT DISTINCT k.dimension
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
            AND d.transform_view IS NOT NULL
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM work.%I)', v_dimension || '_key') INTO v_pending;
        IF v_pending THEN
            v_doubtful := v_doubtful || v_dimension;
        END IF;
    END LOOP;
    RETURN v_doubtful;
END
$_doubtful_dimensions$;
COMMENT ON FUNCTION etl._doubtful_dimensions(name) IS 'Dimensions of a fact with members whose changes are not loaded.';

/*
Runs the statements of a fact over its pending keys, all or nothing. The rows are decided on while a fact that they refer to may still be
written, and written, where no aggregate reads them and their foreign keys are checked at once. With the rest they wait for its end.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    rows inserted, updated, deleted (marked), queued, quarantined.
Writes:     the fact's table, work.<fact>_decision, work.<aggregate>_difference, etl.reprocessing_queue, etl.quarantine.
Locks:      as etl._lock_referenced or etl._lock_referenced_rows, and etl._lock_aggregates.
*/
CREATE OR REPLACE FUNCTION etl._apply_fact(p_fact name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_apply_fact$
DECLARE
    r_fact etl.fact;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_is_queued boolean := EXISTS (SELECT FROM etl.reprocessing_queue AS q WHERE q.fact = p_fact);
    v_decision regclass := format('work.%I', p_fact || '_decision')::regclass;
    v_written text := format($sql$%s AS w
WHERE w.operation IN ('insert', 'update')$sql$, v_decision);
    v_keys name[] := ARRAY(SELECT k.key_column FROM etl.fact_dimension AS k WHERE k.fact = p_fact);
    v_pending bigint;
    v_decided bigint;
    v_verb text;
    v_are_unknown boolean;  -- some keys
    v_is_locked boolean;  -- what the rows refer to
    v_is_ahead boolean;   -- of the facts that they refer to
    v_aggregates name[];  -- that take differences; NULL while the rows are being decided on
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    PERFORM etl._empty(v_decision);
    EXECUTE format('SELECT count(*) FROM work.%I', p_fact || '_key') INTO v_pending;
    -- For a few rows the locks are not worth it.
    v_is_locked := v_pending > 100 AND etl._may_check_at_once(p_fact) AND etl._lock_referenced(p_fact, p_dimensions => true);
    -- The nodes of a cluster would look for each row's orders at once.
    v_is_ahead := v_is_locked
        AND NOT EXISTS (SELECT FROM etl.aggregate_fact AS l WHERE l.fact = p_fact)
        AND NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'citus');
    FOR r_statement IN
        SELECT *
        FROM etl._fact_sql(
            p_fact,
            p_doubtful => etl._doubtful_dimensions(p_fact),
            p_are_many => etl._are_many(v_pending, r_fact.fact_table)
        )
    LOOP
        v_verb := split_part(r_statement.title, ':', 1);
        CONTINUE WHEN v_verb = 'resolved' AND NOT v_is_queued;
        -- Each key gives a row at most: where all of them did, none is gone.
        CONTINUE WHEN v_verb = 'gone' AND v_decided = v_pending;
        CONTINUE WHEN v_verb IN ('refuse', 'queue') AND NOT v_are_unknown;
        IF v_aggregates IS NULL AND v_verb NOT IN ('decide', 'gone', 'refuse') AND NOT v_is_ahead THEN
            v_aggregates := etl._lock_aggregates(p_fact);
            v_is_locked := v_is_locked AND etl._lock_referenced(p_fact, p_dimensions => false);
        END IF;
        CONTINUE WHEN r_statement.aggregate IS NOT NULL AND r_statement.aggregate <> ALL (v_aggregates);
        v_rows := etl._execute_under(
            CASE v_verb
                -- What is looked up as of a moment is hardly ever looked up twice. To remember it all the same took nearly as long as to look
                -- it up, and the memory of all keys.
                WHEN 'decide' THEN '{enable_memoize=off}'::text[]
                WHEN 'update' THEN etl._after_reading()
                ELSE '{}'
            END || CASE WHEN v_is_locked AND v_verb IN ('update', 'insert') THEN '{session_replication_role=replica}'::text[] ELSE '{}' END,
            r_statement.statement,
            p_run_id
        );
        IF v_verb = 'insert' AND v_is_locked THEN
            -- The second of the two that write the fact.
            IF v_is_ahead THEN
                IF NOT etl._lock_referenced(p_fact, p_dimensions => false) THEN
                    PERFORM etl._lock_referenced_rows(p_fact, v_written);
                END IF;
            END IF;
            PERFORM etl._check_foreign_keys(p_fact, v_written, p_are_all => false);
        END IF;
        CASE v_verb
            WHEN 'decide' THEN
                v_decided := v_rows;
                PERFORM etl._analyze(v_decision, r_fact.business_key || '{operation}'::name[], v_rows);
                -- One look at the rows, in place of one for each key.
                EXECUTE format(
                    $sql$SELECT count(*) FILTER (WHERE w.operation = 'delete'), count(*) FILTER (WHERE -1 IN (%s) AND NOT w.is_deleted) > 0 FROM %s AS w$sql$,
                    coalesce(nullif(etl._list(v_keys, 'w.%1$I'), ''), '0'), v_decision
                )
                INTO r_result.rows_deleted, v_are_unknown;
            WHEN 'gone' THEN r_result.rows_deleted := r_result.rows_deleted + v_rows;
            WHEN 'insert' THEN r_result.rows_inserted := v_rows;
            WHEN 'update' THEN r_result.rows_updated := v_rows;
            WHEN 'refuse' THEN r_result.rows_quarantined := r_result.rows_quarantined + v_rows;
            WHEN 'queue' THEN r_result.rows_queued := r_result.rows_queued + v_rows;
            ELSE NULL;
        END CASE;
    END LOOP;
    r_result.rows_updated := r_result.rows_updated - r_result.rows_deleted;
    RETURN r_result;
END
$_apply_fact$;
COMMENT ON FUNCTION etl._apply_fact(name, bigint) IS 'Runs the statements of a fact over its pending keys.';
