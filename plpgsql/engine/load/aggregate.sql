-- fact -> aggregate: sums kept by difference. When a fact's rows change, what they contributed before is subtracted and what they
-- contribute now is added, in the transaction that changes them; the aggregate's own task then applies the differences. So the cost
-- follows the change, not the size of a month, and a failed aggregate keeps its differences for the next run.
--
-- Why the contributions may look at several facts: each load subtracts and adds for the keys that it changes, with the other
-- facts as they are. One load after the other, the differences telescope to the present state. A lock makes sure that it is one
-- after the other. What never changes under a fact row (type 0 and 2 attributes of its version) may be part of the group.
--
-- A coarser aggregate is fed by a finer one, not by the facts: what the finer one applies, it hands on. A column of its key may be made
-- of the finer one's by an expression, as quarters are of months.

CREATE OR REPLACE FUNCTION etl._aggregate_sql(p_aggregate name, p_mode text DEFAULT 'differences')
RETURNS TABLE (title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_aggregate_sql$
DECLARE
    r_aggregate etl.aggregate;
    r_coarser etl.aggregate;
    v_difference text;
    v_source regclass;  -- what it is made of
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    v_difference := format('work.%I', p_aggregate || '_difference');

    v_source := coalesce(
        (SELECT f.aggregate_table FROM etl.aggregate AS f WHERE f.aggregate = r_aggregate.finer_aggregate), r_aggregate.contribution_view
    );

    IF p_mode = 'fill' THEN
        -- In order: what is asked for together lies together, and the key is built in less than the time that the sort takes.
        title := 'insert: sums of all that it is made of';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s, %3$s, run_id)
SELECT %4$s, %5$s, $1
FROM %6$s AS c
GROUP BY %7$s
HAVING %8$s
ORDER BY %7$s$sql$,
            r_aggregate.aggregate_table, etl._list(r_aggregate.group_key), etl._list(r_aggregate.measures),
            etl._finer_key(r_aggregate), etl._list(r_aggregate.measures, 'sum(c.%1$I)'), v_source,
            etl._positions(r_aggregate.group_key), etl._list(r_aggregate.measures, 'sum(c.%1$I) <> 0', ' OR ')
        );
        RETURN NEXT;
        RETURN;
    END IF;

    IF p_mode = 'reload' THEN
        -- To delete all groups and insert them again took twice as long, and left the table twice as large.
        title := 'compare: what is missing from the sums of all that it is made of';
        statement := format(
            $sql$INSERT INTO %1$s (%2$s, %3$s)
SELECT %2$s, %4$s
FROM (
    SELECT %5$s, %6$s
    FROM %7$s AS c
    GROUP BY %8$s
) AS e
FULL JOIN %9$s AS a USING (%2$s)
WHERE %10$s$sql$,
            v_difference, etl._list(r_aggregate.group_key), etl._list(r_aggregate.measures),
            etl._list(r_aggregate.measures, 'coalesce(e.%1$I, 0) - coalesce(a.%1$I, 0)'),
            etl._finer_key(r_aggregate), etl._list(r_aggregate.measures, 'sum(c.%1$I) AS %1$I'), v_source,
            etl._positions(r_aggregate.group_key), r_aggregate.aggregate_table,
            etl._list(r_aggregate.measures, 'coalesce(e.%1$I, 0) <> coalesce(a.%1$I, 0)', ' OR ')
        );
        RETURN NEXT;
    END IF;

    -- ON CONFLICT finds each group by the key, whatever the planner knows of either table: that may be long out of date, and a loop over
    -- both would last for minutes. Inserting new groups first and updating all of them then took nearly twice as long.
    title := 'apply: groups that changed or are new';
    statement := format(
        $sql$WITH applied AS (
    INSERT INTO %1$s AS a (%2$s, %3$s, run_id)
    SELECT %4$s, %5$s, $1
    FROM %6$s AS c
    GROUP BY %4$s
    HAVING %7$s
    ON CONFLICT (%2$s) DO UPDATE
    SET run_id = excluded.run_id%8$s
    -- The row that was there before is locked by this transaction, a new one by nobody.
    RETURNING a.xmax = 0 AS is_new, %9$s AS is_empty
)
SELECT count(*) FILTER (WHERE p.is_new), count(*) FILTER (WHERE NOT p.is_new), count(*) FILTER (WHERE p.is_empty)
FROM applied AS p$sql$,
        r_aggregate.aggregate_table, etl._list(r_aggregate.group_key), etl._list(r_aggregate.measures),
        etl._list(r_aggregate.group_key, 'c.%1$I'), etl._list(r_aggregate.measures, 'sum(c.%1$I)'), v_difference,
        etl._list(r_aggregate.measures, 'sum(c.%1$I) <> 0', ' OR '),
        etl._list(r_aggregate.measures, E',\n        %1$I = a.%1$I + excluded.%1$I', ''),
        etl._list(r_aggregate.measures, 'a.%1$I = 0', ' AND ')
    );
    RETURN NEXT;
    title := 'delete: groups that nothing contributes to any more';
    statement := format(
        $sql$DELETE FROM %1$s AS a
USING %2$s AS d
WHERE %3$s
    AND %4$s$sql$,
        r_aggregate.aggregate_table, v_difference, etl._match(r_aggregate.group_key, 'a', 'd'),
        etl._list(r_aggregate.measures, 'a.%1$I = 0', ' AND ')
    );
    RETURN NEXT;
    IF p_mode = 'reload' THEN
        -- The coarser ones are reloaded themselves.
        RETURN;
    END IF;

    FOR r_coarser IN
        SELECT *
        FROM etl.aggregate AS a
        WHERE a.finer_aggregate = p_aggregate
        ORDER BY a.aggregate
    LOOP
        title := 'hand on: differences of ' || r_coarser.aggregate;
        statement := format(
            $sql$INSERT INTO work.%1$I (%2$s, %3$s)
SELECT %4$s, %5$s
FROM %6$s AS c
GROUP BY %7$s
HAVING %8$s$sql$,
            r_coarser.aggregate || '_difference', etl._list(r_coarser.group_key), etl._list(r_coarser.measures),
            etl._finer_key(r_coarser), etl._list(r_coarser.measures, 'sum(c.%1$I)'), v_difference,
            etl._positions(r_coarser.group_key), etl._list(r_coarser.measures, 'sum(c.%1$I) <> 0', ' OR ')
        );
        RETURN NEXT;
    END LOOP;
END
$_aggregate_sql$;
COMMENT ON FUNCTION etl._aggregate_sql(name, text) IS 'Statements that load an aggregate, by mode: apply its differences, fill an empty table, or reload, which finds the differences by comparison. $1 run.';

/*
Loads an aggregate: applies what its facts, or the finer aggregate, have added and subtracted since its last load, or sums
everything up anew when a reload was asked for, and applies what that differs in. Hands the differences on to the aggregates that sum it up further.
Parameters: p_aggregate, the aggregate; p_run_id, the writing run.
Returns:    rows read (differences), inserted, updated, deleted (groups).
Writes:     the aggregate's table, work.<aggregate>_difference, those of coarser aggregates, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_aggregate(p_aggregate name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_aggregate$
DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_statement record;
    r_aggregate etl.aggregate;
    v_difference regclass := format('work.%I', p_aggregate || '_difference')::regclass;
    v_is_reload boolean;
    v_mode text := 'differences';
    v_rebuild text[];
    v_is_empty boolean;
    v_empty bigint;
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    PERFORM
    FROM etl.aggregate AS a
    JOIN etl.load_state AS l ON l.object = a.aggregate
    WHERE p_aggregate IN (a.aggregate, a.finer_aggregate)
    ORDER BY a.aggregate <> p_aggregate, a.aggregate
    FOR UPDATE OF l;
    -- Only now: whoever had the lock may have asked for it.
    v_is_reload := etl._needs_reload(p_aggregate);
    EXECUTE format('SELECT count(*) FROM %s', v_difference) INTO r_result.rows_read;

    IF v_is_reload THEN
        PERFORM etl._request_reload(ARRAY[p_aggregate]);
        -- What was noted is among what is summed up.
        PERFORM etl._empty(v_difference);
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', r_aggregate.aggregate_table) INTO v_is_empty;
        v_mode := CASE WHEN v_is_empty THEN 'fill' ELSE 'reload' END;
    END IF;
    IF v_mode = 'fill' THEN
        v_rebuild := etl._begin_bulk(r_aggregate.aggregate_table);
    END IF;
    IF v_is_reload OR r_result.rows_read > 0 THEN
        PERFORM etl._analyze(v_difference, r_aggregate.group_key, r_result.rows_read);
        FOR r_statement IN
            SELECT *
            FROM etl._aggregate_sql(p_aggregate, v_mode)
        LOOP
            IF r_statement.title LIKE 'apply:%' THEN
                EXECUTE r_statement.statement INTO r_result.rows_inserted, r_result.rows_updated, v_empty USING p_run_id;
                CONTINUE;
            END IF;
            CONTINUE WHEN r_statement.title LIKE 'delete:%' AND v_empty = 0;
            EXECUTE r_statement.statement USING p_run_id;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            CASE split_part(r_statement.title, ':', 1)
                WHEN 'compare' THEN PERFORM etl._analyze(v_difference, r_aggregate.group_key, v_rows);
                WHEN 'insert' THEN r_result.rows_inserted := v_rows;
                WHEN 'delete' THEN r_result.rows_deleted := v_rows;
                ELSE NULL;
            END CASE;
        END LOOP;
        PERFORM etl._empty(v_difference);
    END IF;
    IF v_mode = 'fill' THEN
        PERFORM etl._finish_bulk(r_aggregate.aggregate_table, v_rebuild);
    ELSIF v_mode = 'reload' THEN
        EXECUTE format('ANALYZE %s', r_aggregate.aggregate_table);
    END IF;
    PERFORM etl._move_load_state(ARRAY[p_aggregate]);
    RETURN r_result;
END
$_load_aggregate$;
COMMENT ON FUNCTION etl._load_aggregate(name, bigint) IS 'Applies what has been added to an aggregate and taken from it, or builds it anew.';
