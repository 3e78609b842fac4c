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

CREATE OR REPLACE FUNCTION etl._fact_sql(
    p_fact name,
    p_mode text DEFAULT 'pending',
    p_doubtful name[] DEFAULT '{}',
    p_are_many boolean DEFAULT false
)
RETURNS TABLE (title text, statement text, aggregate name)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fact_sql$
DECLARE
    r_fact etl.fact;
    r_role record;
    v_bk name[];
    v_keys name[] := ARRAY[]::name[];
    v_plain name[];      -- neither business key nor surrogate key nor measure
    v_lookups name[];    -- business keys of dimensions that are not in the fact table
    v_lookup_values text;
    v_source text;       -- of a role's lookup columns: the view, or the member of another role
    v_all name[];
    v_key_table text;
    v_decision text;
    v_key_values text := '';
    v_joins text := '';
    v_measures text;
    v_unresolved text := '';
    v_touched text;
    v_select text;
    v_up_to_last text;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    v_bk := r_fact.business_key;
    v_key_table := format('work.%I', p_fact || '_key');
    v_decision := format('work.%I', p_fact || '_decision');

    FOR r_role IN
        SELECT k.*, d.dimension_table, d.surrogate_key, d.business_key,
            row_number() OVER (ORDER BY k.lookup_role IS NOT NULL, k.key_column) AS number
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
        ORDER BY number
    LOOP
        v_keys := v_keys || r_role.key_column;
        v_source := coalesce('d' || array_position(v_keys, r_role.lookup_role), 'v');
        v_joins := v_joins || format(
            E'\n    LEFT JOIN %s AS d%s\n        ON %s%s',
            r_role.dimension_table, r_role.number,
            etl._match_pairs(r_role.business_key, 'd' || r_role.number, r_role.lookup_columns, v_source),
            CASE WHEN r_role.as_of_column IS NOT NULL
                THEN format(' AND v.%1$I >= d%2$s.valid_from AND v.%1$I < d%2$s.valid_to', r_role.as_of_column, r_role.number)
                ELSE ''
            END
        );
        IF r_role.dimension = ANY (p_doubtful) THEN
            v_joins := v_joins || format(
                E'\n    LEFT JOIN (SELECT DISTINCT %s FROM work.%I) AS p%s\n        ON %s',
                etl._list(r_role.business_key), r_role.dimension || '_key', r_role.number,
                etl._match_pairs(r_role.business_key, 'p' || r_role.number, r_role.lookup_columns, v_source)
            );
        END IF;
        v_key_values := v_key_values || format(
            E',\n        %1$s AS %2$I',
            CASE
                WHEN r_role.null_key = -1 AND r_role.dimension <> ALL (p_doubtful) THEN format('coalesce(d%s.%I, -1)', r_role.number, r_role.surrogate_key)
                ELSE format(
                    'CASE WHEN (%s) IS NULL THEN %s%s ELSE coalesce(d%s.%I, -1) END',
                    etl._list(r_role.lookup_columns, v_source || '.%1$I'),
                    r_role.null_key,
                    CASE WHEN r_role.dimension = ANY (p_doubtful) THEN format(' WHEN p%s.%I IS NOT NULL THEN -1', r_role.number, r_role.business_key[1]) ELSE '' END,
                    r_role.number,
                    r_role.surrogate_key
                )
            END,
            r_role.key_column
        );
        v_unresolved := v_unresolved || format(
            E'\n        WHEN %1$L THEN w.%2$I = -1 AND (%3$s) IS NOT NULL',
            r_role.key_column, r_role.key_column, etl._list(r_role.lookup_columns, 'w.%1$I')
        );
    END LOOP;

    v_plain := etl._without(etl._columns(r_fact.fact_table), v_bk || v_keys || r_fact.measures || '{is_deleted,run_id}'::name[]);
    v_all := v_plain || v_keys || r_fact.measures || 'is_deleted'::name;
    v_lookups := etl._without(
        etl._columns(format('%s', v_decision)::regclass), '{operation,touched_aggregates}'::name[] || etl._columns(r_fact.fact_table)
    );
    SELECT string_agg(format(', %s.%I', coalesce('d' || array_position(v_keys, c.lookup_role), 'v'), l.name), '' ORDER BY l.position)
    INTO v_lookup_values
    FROM unnest(v_lookups) WITH ORDINALITY AS l (name, position)
    CROSS JOIN LATERAL (SELECT k.lookup_role FROM etl.fact_dimension AS k WHERE k.fact = p_fact AND l.name = ANY (k.lookup_columns) LIMIT 1) AS c;
    -- Most rows that change do so in nothing that an aggregate reads.
    SELECT string_agg(
        format(
            'CASE WHEN %s THEN %L END',
            CASE WHEN l.watched_columns IS NULL THEN 'true' ELSE etl._differs(l.watched_columns, 'f', 'w') END,
            l.aggregate
        ),
        ', ' ORDER BY l.aggregate
    )
    INTO v_touched
    FROM etl.aggregate_fact AS l
    WHERE l.fact = p_fact;
    -- A deleted row must leave every sum: a measure becomes 0, or NULL where the table allows it, lest averages count it.
    SELECT string_agg(format(
        E',\n        CASE WHEN v.deleted_at IS NULL THEN v.%1$I%2$s END AS %1$I',
        a.attname,
        CASE WHEN a.attnotnull THEN ' ELSE ' || CASE t.typcategory WHEN 'B' THEN 'false' ELSE '0' END ELSE '' END
    ), '' ORDER BY array_position(r_fact.measures, a.attname))
    INTO v_measures
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = r_fact.fact_table
        AND a.attname = ANY (r_fact.measures);

    v_select := format(
        $sql$SELECT %1$s%2$s%3$s%4$s,
        v.deleted_at IS NOT NULL AS is_deleted%5$s
    FROM %6$s%7$s$sql$,
        etl._list(v_bk, 'v.%1$I'), etl._list(v_plain, ', v.%1$I', ''), v_key_values, coalesce(v_measures, ''),
        coalesce(v_lookup_values, ''),
        CASE WHEN p_mode = 'pending'
            THEN format(E'%s AS k\n    %s', v_key_table, etl._join_keys(r_fact.transform_view, v_bk, 'k', 'v', p_are_many))
            -- OFFSET 0 has the view compute its columns once; merged into the joins, they were computed for the hash and again for each match.
            ELSE format('(SELECT * FROM %s OFFSET 0) AS v', r_fact.transform_view)
        END,
        v_joins
    );

    IF p_mode = 'fill' THEN
        title := 'insert: all rows into the empty table';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s, %3$s, run_id)
SELECT %4$s, %5$s, $1
FROM (
    %6$s
) AS w
WHERE NOT w.is_deleted$sql$,
            r_fact.fact_table, etl._list(v_bk), etl._list(v_all), etl._list(v_bk, 'w.%1$I'), etl._list(v_all, 'w.%1$I'), v_select
        );
        RETURN NEXT;
        title := 'unresolved: rows with an unknown key are looked at once more, and queued';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s)
SELECT %2$s
FROM %3$s
WHERE -1 IN (%4$s)$sql$,
            v_key_table, etl._list(v_bk), r_fact.fact_table, coalesce(nullif(etl._list(v_keys), ''), '0')
        );
        RETURN NEXT;
        RETURN;
    END IF;

    IF p_mode = 'reload' THEN
        title := 'compare: keys of rows that are not as they should be, or unresolved';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s)
SELECT %3$s
FROM (
    %4$s
) AS w
FULL JOIN %5$s AS f ON %6$s
WHERE CASE
        WHEN f.run_id IS NULL THEN NOT w.is_deleted AND (%7$s) IS NOT NULL
        WHEN w.is_deleted IS NULL THEN NOT f.is_deleted
        ELSE %8$s OR -1 IN (%9$s)
    END$sql$,
            v_key_table, etl._list(v_bk), etl._list(v_bk, 'coalesce(w.%1$I, f.%1$I)'), v_select, r_fact.fact_table, etl._match(v_bk, 'f', 'w'),
            etl._list(v_bk, 'w.%1$I'), etl._differs(v_all, 'f', 'w'), coalesce(nullif(etl._list(v_keys, 'w.%1$I'), ''), '0')
        );
        RETURN NEXT;
        title := 'waiting: keys in the reprocessing queue and in quarantine';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s)
SELECT %3$s
FROM etl.reprocessing_queue AS q
WHERE q.fact = %5$L
UNION
SELECT %4$s
FROM etl.quarantine AS q
WHERE q.object = %5$L$sql$,
            v_key_table, etl._list(v_bk), etl._from_json(v_bk, 'q.fact_key', r_fact.fact_table), etl._from_json(v_bk, 'q.row_key', r_fact.fact_table), p_fact
        );
        RETURN NEXT;
        RETURN;
    END IF;

    v_up_to_last := etl._up_to_last(v_bk, 'w', r_fact.fact_table);
    title := 'decide: rows of the pending keys';
    statement := format(
        $sql$INSERT INTO %1$s (operation, %2$s, %3$s, run_id%4$s, touched_aggregates)
SELECT
    CASE
        WHEN f.run_id IS NULL THEN 'insert'
        WHEN w.is_deleted AND NOT f.is_deleted THEN 'delete'
        WHEN %5$s THEN 'update'
        ELSE 'unchanged'
    END,
    %6$s, %7$s, $1%8$s,
    CASE WHEN f.run_id IS NOT NULL THEN array_remove(ARRAY[%11$s]::name[], NULL) END
FROM (
    %9$s
) AS w
%10$s
WHERE NOT w.is_deleted
    OR f.run_id IS NOT NULL$sql$,
        v_decision, etl._list(v_bk), etl._list(v_all), etl._list(v_lookups, ', %1$I', ''),
        etl._differs(v_all, 'f', 'w'),
        etl._list(v_bk, 'w.%1$I'), etl._list(v_all, 'w.%1$I'), etl._list(v_lookups, ', w.%1$I', ''),
        v_select,
        -- Beyond the last row of the fact there is none to be looked for, as in etl._stage_sql.
        CASE WHEN p_are_many OR v_up_to_last = 'true'
            THEN format('LEFT JOIN %s AS f ON %s', r_fact.fact_table, etl._match(v_bk, 'f', 'w'))
            ELSE format(
                'LEFT JOIN LATERAL (SELECT * FROM %s AS r WHERE %s AND %s OFFSET 0) AS f ON true',
                r_fact.fact_table, etl._match(v_bk, 'r', 'w'), v_up_to_last
            )
        END,
        coalesce(v_touched, '')
    );
    RETURN NEXT;

    title := 'gone: rows that the transformation no longer gives';
    statement := format(
        $sql$INSERT INTO %1$s (operation, %2$s, %3$s%4$s, is_deleted, run_id)
SELECT 'delete', %5$s, %6$s%7$s, true, $1
FROM %8$s AS k
JOIN %9$s AS f ON %10$s
WHERE NOT f.is_deleted
    AND NOT EXISTS (SELECT FROM %1$s AS w WHERE %11$s)$sql$,
        v_decision, etl._list(v_bk), etl._list(v_plain || v_keys), etl._list(r_fact.measures, ', %1$I', ''),
        etl._list(v_bk, 'f.%1$I'), etl._list(v_plain || v_keys, 'f.%1$I'),
        (SELECT coalesce(string_agg(
            CASE WHEN NOT a.attnotnull THEN ', NULL' WHEN t.typcategory = 'B' THEN ', false' ELSE ', 0' END,
            '' ORDER BY array_position(r_fact.measures, a.attname)), '')
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = r_fact.fact_table AND a.attname = ANY (r_fact.measures)),
        v_key_table, r_fact.fact_table, etl._match(v_bk, 'f', 'k'), etl._match(v_bk, 'w', 'f')
    );
    RETURN NEXT;

    -- Of a dimension that nothing loads, such as the calendar, no member will ever arrive: no use in waiting.
    FOR r_role IN
        SELECT k.*, d.business_key
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
            AND d.transform_view IS NULL
        ORDER BY k.key_column
    LOOP
        title := format('refuse: rows for whose %s there can be no member', r_role.key_column);
        statement := format(
            $sql$WITH refused AS (
    DELETE FROM %1$s AS w
    WHERE w.%2$I = -1
        AND (%3$s) IS NOT NULL
        AND NOT w.is_deleted
    RETURNING %4$s AS fact_key, %5$s AS dimension_key
)
SELECT etl._refuse_fact(%6$L, r.fact_key, %2$L, %7$L, r.dimension_key, $1)
FROM refused AS r$sql$,
            v_decision, r_role.key_column, etl._list(r_role.lookup_columns, 'w.%1$I'), etl._json_key(v_bk, 'w'),
            etl._json_key(r_role.business_key, 'w', r_role.lookup_columns), p_fact, r_role.dimension
        );
        RETURN NEXT;
    END LOOP;

    RETURN QUERY SELECT * FROM etl._difference_sql(p_fact, 'subtract', p_are_many);

    title := 'update: rows that differ';
    statement := format(
        $sql$UPDATE %1$s AS f
SET run_id = w.run_id%2$s
FROM %3$s AS w
WHERE w.operation IN ('update', 'delete')
    AND %4$s$sql$,
        r_fact.fact_table, etl._list(v_all, E',\n    %1$I = w.%1$I', ''), v_decision, etl._match(v_bk, 'f', 'w')
    );
    RETURN NEXT;

    title := 'insert: rows that are new';
    statement := format(
        $sql$INSERT INTO %1$s (%2$s, %3$s, run_id)
SELECT %4$s, %5$s, w.run_id
FROM %6$s AS w
WHERE w.operation = 'insert'$sql$,
        r_fact.fact_table, etl._list(v_bk), etl._list(v_all), etl._list(v_bk, 'w.%1$I'), etl._list(v_all, 'w.%1$I'), v_decision
    );
    RETURN NEXT;

    RETURN QUERY SELECT * FROM etl._difference_sql(p_fact, 'add', p_are_many);

    IF v_unresolved <> '' THEN
        title := 'resolved: rows that need not wait any more';
        statement := format(
            $sql$DELETE FROM etl.reprocessing_queue AS q
USING %1$s AS w
WHERE q.fact = %2$L
    AND q.fact_key = %3$s
    AND (w.is_deleted OR NOT CASE q.key_column%4$s
        ELSE false
    END)$sql$,
            v_decision, p_fact, etl._json_key(v_bk, 'w'), v_unresolved
        );
        RETURN NEXT;
    END IF;

    FOR r_role IN
        SELECT k.*, d.business_key
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
            AND d.transform_view IS NOT NULL
        ORDER BY k.key_column
    LOOP
        title := format('queue: rows whose %s is unknown', r_role.key_column);
        statement := format(
            $sql$INSERT INTO etl.reprocessing_queue AS q (fact, fact_key, key_column, dimension, dimension_key, run_id)
SELECT %1$L, %2$s, %3$L, %4$L, %5$s, $1
FROM %6$s AS w
WHERE w.%7$I = -1
    AND (%8$s) IS NOT NULL
    AND NOT w.is_deleted
ON CONFLICT (fact, fact_key, key_column) DO UPDATE
SET dimension_key = excluded.dimension_key,
    is_ready = false,
    attempts = q.attempts + 1,
    tried_at = excluded.tried_at$sql$,
            p_fact, etl._json_key(v_bk, 'w'), r_role.key_column, r_role.dimension,
            etl._json_key(r_role.business_key, 'w', r_role.lookup_columns), v_decision, r_role.key_column,
            etl._list(r_role.lookup_columns, 'w.%1$I')
        );
        RETURN NEXT;
    END LOOP;
END
$_fact_sql$;
COMMENT ON FUNCTION etl._fact_sql(name, text, name[], boolean) IS 'Statements that load a fact, by mode: its pending keys (are they many?), fill an empty table, or reload, which finds the keys that have to be pending. Doubtful dimensions are those with pending members; the aggregate is the one whose differences a statement notes. $1 run.';

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
Adds to the pending keys the facts whose queue entries are ready, and those in quarantine for a missing row of another fact when
that one has been loaded in this run: such rows are good themselves, and nothing else would bring them back.
Parameters: p_fact, the fact; p_fact_table, p_business_key, its table and business key; p_run_id, the run.
Writes:     work.<fact>_key.
*/
CREATE OR REPLACE FUNCTION etl._take_waiting(p_fact name, p_fact_table regclass, p_business_key name[], p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_take_waiting$
BEGIN
    IF EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_fact AND q.sqlstate = '23503') THEN
        PERFORM etl._await_predecessors('fact:' || p_fact, p_run_id);
    END IF;
    EXECUTE format(
        $sql$INSERT INTO work.%1$I (%2$s)
SELECT %3$s
FROM etl.reprocessing_queue AS q
WHERE q.fact = $1
    AND q.is_ready
UNION
SELECT %4$s
FROM etl.quarantine AS q
WHERE q.object = $1
    AND q.sqlstate = '23503'
    AND EXISTS (
        SELECT
        FROM etl.task_edge AS e
        JOIN etl.task_run AS t ON t.run_id = $2 AND t.task = e.predecessor
        WHERE e.task = 'fact:' || $1
            AND t.kind = 'fact'
            AND t.rows_inserted + t.rows_updated > 0
    )$sql$,
        p_fact || '_key',
        etl._list(p_business_key),
        etl._from_json(p_business_key, 'q.fact_key', p_fact_table),
        etl._from_json(p_business_key, 'q.row_key', p_fact_table)
    )
    USING p_fact, p_run_id;
END
$_take_waiting$;
COMMENT ON FUNCTION etl._take_waiting(name, regclass, name[], bigint) IS 'Adds to the pending keys the facts that waited for something which is there now.';

/*
Runs the statements of a fact over its pending keys, all or nothing. The rows are decided on while a fact that they refer to may still be
written, and written, where no aggregate reads them and their foreign keys are checked at once. With the rest they wait for its end.
Parameters: p_fact, the fact; p_run_id, the writing run.
Returns:    rows inserted, updated, deleted (marked), queued, quarantined.
Writes:     the fact's table, work.<fact>_decision, work.<aggregate>_difference, etl.reprocessing_queue, etl.quarantine.
Locks:      as etl._lock_referenced or etl._lock_referenced_rows, and etl._lock_aggregates.
Errors:     as etl._await_predecessors.
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
            PERFORM etl._await_predecessors('fact:' || p_fact, p_run_id);
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
                PERFORM etl._await_predecessors('fact:' || p_fact, p_run_id);
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
                PERFORM etl._await_predecessors('fact:' || p_fact, p_run_id);
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

/*
Asks that queued facts be looked up again by the next run, though their members have not been loaded since.
Parameters: p_fact, the fact (all by default).
Returns:    number of entries.
Writes:     etl.reprocessing_queue.
Errors:     ET002 when there is no such fact.
*/
CREATE OR REPLACE FUNCTION etl.retry_queue(p_fact name DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $retry_queue$
DECLARE
    v_count bigint;
BEGIN
    PERFORM etl._check_names(ARRAY[p_fact::text], NULL) WHERE p_fact IS NOT NULL;
    UPDATE etl.reprocessing_queue AS q
    SET is_ready = true
    WHERE NOT q.is_ready
        AND (p_fact IS NULL OR q.fact = p_fact);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$retry_queue$;
COMMENT ON FUNCTION etl.retry_queue(name) IS 'Asks that queued facts be looked up again by the next run; returns the number of entries.';
