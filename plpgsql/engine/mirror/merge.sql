-- delta -> stage: insert or update is decided here, and each change is turned into the keys of the dimensions and facts that
-- it touches. Mirror, pending keys and watermark move in one transaction: after a failure all of it is still to do.
--
-- Why keys, and why here: a change is seen as it was and as it is at this moment only. A line that moves from one order to
-- another touches both, and once the mirror is overwritten nobody knows the first. With the keys pending in a table, a dimension
-- that fails for ten runs loses nothing, its next load costs what changed, and delta need not outlive its batch.
-- A key may be added by several tables at once: the load unites them. Those that are seen to be there are not added again. Keys are added in
-- their order, in which their rows lie in the tables where they are looked up, more or less.

CREATE OR REPLACE FUNCTION etl._stage_sql(p_source_table name, p_may_repeat boolean)
RETURNS TABLE (title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_stage_sql$
DECLARE
    v_key name[];
    v_columns name[];
    v_values name[];
    r_dependency record;
BEGIN
    SELECT s.key_columns
    INTO STRICT v_key
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    v_columns := etl._without(etl._columns(format('stage.%I', p_source_table)::regclass), '{batch_id,deleted_at}');
    v_values := etl._without(v_columns, v_key);

    IF p_may_repeat THEN
        title := 'same: rows that the mirror holds already, where most may be such';
        statement := format(
            $sql$DELETE FROM delta.%1$I AS d
USING stage.%1$I AS m
WHERE d.batch_id = $1
    AND d.operation = 'upsert'
    AND m.deleted_at IS NULL
    AND %2$s
    AND NOT %3$s$sql$,
            p_source_table, etl._match(v_key, 'm', 'd'), etl._differs(v_values, 'm', 'd')
        );
        RETURN NEXT;
    END IF;

    -- Beyond the mirror's last key there is none to be looked for: most new rows lie there. To look for two hundred thousand of them took a
    -- third of the time of the merge.
    title := 'before: rows as the mirror holds them';
    statement := format(
        $sql$INSERT INTO delta.%1$I (batch_id, operation, %2$s, deleted_at)
SELECT $1, 'before', %3$s, m.deleted_at
FROM delta.%1$I AS d
%4$s
WHERE d.batch_id = $1
    AND d.operation <> 'before'
    AND %5$s$sql$,
        p_source_table, etl._list(v_columns), etl._list(v_columns, 'm.%1$I'),
        etl._join_keys(format('stage.%I', p_source_table)::regclass, v_key, 'd', 'm', p_may_repeat),
        etl._up_to_last(v_key, 'd', format('stage.%I', p_source_table)::regclass)
    );
    RETURN NEXT;

    title := 'delete: mark rows that are gone';
    statement := format(
        $sql$UPDATE stage.%1$I AS m
SET deleted_at = d.deleted_at,
    batch_id = $1
FROM delta.%1$I AS d
WHERE d.batch_id = $1
    AND d.operation = 'delete'
    AND m.deleted_at IS NULL
    AND %2$s$sql$,
        p_source_table, etl._match(v_key, 'm', 'd')
    );
    RETURN NEXT;

    -- The images tell which rows are there and differ: the mirror is read at those alone. Most of a batch is new rows as a rule.
    title := 'update: rows that differ';
    statement := format(
        $sql$UPDATE stage.%1$I AS m
SET batch_id = $1,
    deleted_at = NULL%2$s
FROM delta.%1$I AS d
JOIN delta.%1$I AS b ON %3$s
WHERE d.batch_id = $1
    AND d.operation = 'upsert'
    AND b.batch_id = $1
    AND b.operation = 'before'
    AND (b.deleted_at IS NOT NULL OR %4$s)
    AND %5$s$sql$,
        p_source_table, etl._list(v_values, E',\n    %1$I = d.%1$I', ''), etl._match(v_key, 'b', 'd'), etl._differs(v_values, 'b', 'd'),
        etl._match(v_key, 'm', 'd')
    );
    RETURN NEXT;

    title := 'insert: rows that are new';
    statement := format(
        $sql$INSERT INTO stage.%1$I (%2$s, batch_id)
SELECT %3$s, $1
FROM delta.%1$I AS d
WHERE d.batch_id = $1
    AND d.operation = 'upsert'
    AND NOT EXISTS (SELECT FROM delta.%1$I AS b WHERE b.batch_id = $1 AND b.operation = 'before' AND %4$s)$sql$,
        p_source_table, etl._list(v_columns), etl._list(v_columns, 'd.%1$I'), etl._match(v_key, 'b', 'd')
    );
    RETURN NEXT;

    FOR r_dependency IN
        SELECT p.object, p.key_query, p.watched_columns, o.business_key
        FROM etl.dependency AS p
        JOIN (
            SELECT dimension, business_key FROM etl.dimension
            UNION ALL
            SELECT fact, business_key FROM etl.fact
        ) AS o (object, business_key) ON o.object = p.object
        WHERE p.source_table = p_source_table
        -- To which most tables add comes last: what others have added meanwhile is seen then.
        ORDER BY (SELECT count(*) FROM etl.dependency AS n WHERE n.object = p.object), p.object
    LOOP
        title := 'keys of ' || r_dependency.object || ' that this touches';
        statement := format(
            $sql$INSERT INTO work.%1$I (%2$s)
WITH changed AS (
    SELECT c.*
    FROM delta.%3$I AS c
    WHERE c.batch_id = $1%4$s
)
SELECT %5$s
FROM (
    %6$s
) AS k (%2$s)
WHERE (%5$s) IS NOT NULL
EXCEPT
SELECT %2$s
FROM work.%1$I
ORDER BY %2$s$sql$,
            r_dependency.object || '_key',
            etl._list(r_dependency.business_key),
            p_source_table,
            CASE
                WHEN r_dependency.watched_columns IS NULL THEN ''
                -- Both images of a row agree in all that is watched: nothing to do for this object. CASE, because the planner believes that
                -- hardly any two rows agree: where half of them did, it compared each pair, and a batch of 5 s took 360.
                ELSE format(
                    E'\n        AND NOT EXISTS (\n            SELECT\n            FROM delta.%1$I AS b\n            JOIN delta.%1$I AS u ON %2$s\n            WHERE b.batch_id = $1\n                AND b.operation = ''before''\n                AND u.batch_id = $1\n                AND u.operation = ''upsert''\n                AND CASE WHEN %3$s THEN false ELSE true END\n                AND %4$s\n        )',
                    p_source_table, etl._match(v_key, 'u', 'b'),
                    etl._differs(r_dependency.watched_columns || '{deleted_at}'::name[], 'u', 'b'), etl._match(v_key, 'b', 'c')
                )
            END,
            etl._list(r_dependency.business_key, 'k.%1$I'),
            r_dependency.key_query
        );
        RETURN NEXT;
    END LOOP;
END
$_stage_sql$;
COMMENT ON FUNCTION etl._stage_sql(name, boolean) IS 'Statements that merge the delta of a source table into stage; may it repeat rows that have not changed? $1 batch.';

/*
Merges what the run extracted of a source table into its mirror.
Parameters: p_source_table, the table; p_run_id, the run whose latest extraction of it is merged.
Returns:    rows read, inserted, updated, deleted, quarantined.
Writes:     stage.<table>, delta.<table> (images before the change; rows that have not changed are dropped), work.<object>_key, etl.watermark, etl.quarantine.
Errors:     ET005 when delta no longer holds what was extracted (a crash emptied it): the run must extract again.
*/
CREATE OR REPLACE FUNCTION etl._stage(p_source_table name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Rows come in the order of their keys, more or less, and are wanted so. To sort two hundred thousand that are nearly sorted, and tell those
-- that repeat, took half of the time of doing so by hash and sorting them then.
SET enable_hashagg = off
AS $_stage$
DECLARE
    r_batch etl.batch;
    r_extraction etl.extraction;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_key name[];
    v_may_repeat boolean;
    v_are_unusable boolean;
    v_verb text;
    v_rows bigint;
BEGIN
    SELECT e.*
    INTO r_extraction
    FROM etl.extraction AS e
    JOIN etl.batch AS b USING (batch_id)
    WHERE b.run_id = p_run_id
        AND e.source_table = p_source_table
    ORDER BY e.batch_id DESC
    LIMIT 1;
    SELECT *
    INTO r_batch
    FROM etl.batch AS b
    WHERE b.batch_id = r_extraction.batch_id;

    IF r_extraction.batch_id IS NULL THEN
        -- Nothing extracted by this run.
        RETURN r_result;
    END IF;
    r_result.rows_read := r_extraction.rows_extracted;

    IF r_extraction.rows_extracted > 0 THEN
        -- By its snapshot a row comes when it has changed; by other means, or when everything is extracted anew, most have not. To drop those
        -- first took a quarter of the time of taking them through all that follows, and leaves alone what depends on them.
        SELECT
            s.key_columns,
            s.change_detection <> 'snapshot' OR etl._are_many(r_extraction.rows_extracted, format('stage.%I', p_source_table)::regclass)
        INTO v_key, v_may_repeat
        FROM etl.source_table AS s
        WHERE s.source_table = p_source_table;

        EXECUTE format(
            $sql$SELECT coalesce(sum(k.row_count), 0), coalesce(bool_or(k.upserts > 1 OR k.upserts > 0 AND (%1$s)), false)
FROM (
    SELECT %2$s, count(*), count(*) FILTER (WHERE d.operation = 'upsert')
    FROM delta.%3$I AS d
    WHERE d.batch_id = $1
        AND d.operation <> 'before'
    GROUP BY %2$s
) AS k (%4$s, row_count, upserts)$sql$,
            etl._list(v_key, 'k.%1$I IS NULL', ' OR '), etl._list(v_key, 'd.%1$I'), p_source_table, etl._list(v_key)
        )
        INTO v_rows, v_are_unusable
        USING r_batch.batch_id;
        IF v_rows <> r_extraction.rows_extracted THEN
            RAISE EXCEPTION 'delta.% holds % of the % rows of batch %', p_source_table, v_rows, r_extraction.rows_extracted, r_batch.batch_id
                USING ERRCODE = 'ET005',
                    DETAIL = 'The table is unlogged: a crash of the server empties it.',
                    HINT = 'The watermark has not moved; the next run extracts the rows again.';
        END IF;
        IF v_are_unusable OR EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = p_source_table) THEN
            r_result.rows_quarantined := etl._quarantine_delta(p_source_table, v_key, r_batch.batch_id, p_run_id);
        END IF;

        FOR r_statement IN
            SELECT *
            FROM etl._stage_sql(p_source_table, v_may_repeat)
        LOOP
            v_verb := split_part(r_statement.title, ':', 1);
            v_rows := etl._execute_under(
                CASE WHEN v_verb = 'update' THEN etl._after_reading() ELSE '{}' END, r_statement.statement, r_batch.batch_id
            );
            CASE v_verb
                WHEN 'same', 'before' THEN
                    PERFORM etl._analyze(format('delta.%I', p_source_table)::regclass, v_key || '{batch_id,operation}'::name[], v_rows);
                WHEN 'insert' THEN r_result.rows_inserted := v_rows;
                WHEN 'update' THEN r_result.rows_updated := v_rows;
                WHEN 'delete' THEN r_result.rows_deleted := v_rows;
                ELSE NULL;
            END CASE;
        END LOOP;
    END IF;

    PERFORM etl._move_watermark(p_source_table, r_batch, r_extraction.complete_until);
    RETURN r_result;
END
$_stage$;
COMMENT ON FUNCTION etl._stage(name, bigint) IS 'Merges what a run extracted of a source table into its mirror, and notes the keys that this touches.';
