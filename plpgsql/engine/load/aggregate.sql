-- fact -> aggregate: sums maintained by difference. When a fact's rows change, what they contributed before is subtracted and what they
-- contribute now is added, in the transaction that changes them; the aggregate's own task then applies the differences. So the cost
-- follows the change, not the size of a month, and a failed aggregate keeps its differences for the next run.
--
-- Why the contributions may read several facts: each load subtracts and adds for the keys that it changes, with the other facts as they
-- are. One load after the other, the differences telescope to the present state. The row lock of etl._lock_aggregates makes sure that it is
-- one after the other. What never changes under a fact row (type 0 and 2 attributes of its version) may be part of the group.
--
-- A coarser aggregate is fed by a finer one, not by the facts: what the finer one applies, it hands on. A column of its key may be computed
-- from the finer one's by an expression, as quarters are from months.

/*
All groups that an aggregate should hold.
Parameters: p_aggregate, the aggregate.
Returns:    a SELECT: group key and measures. Groups whose sums are all 0 are left out.
*/
CREATE OR REPLACE FUNCTION etl._expected_aggregate_sql(p_aggregate name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_expected_aggregate_sql$
    SELECT etl._render(
        $template$SELECT {{group_values}}, {{sums}}
FROM {{source}} AS c
GROUP BY {{positions}}
HAVING {{is_not_zero}}$template$,
        jsonb_build_object(
            'group_values', etl._finer_key(a),
            'sums', etl._list(a.measures, 'sum(c.%1$I) AS %1$I'),
            'source', coalesce((SELECT f.aggregate_table FROM etl.aggregate AS f WHERE f.aggregate = a.finer_aggregate), a.contribution_view)::text,
            'positions', etl._positions(a.group_key),
            'is_not_zero', etl._list(a.measures, 'sum(c.%1$I) <> 0', ' OR ')
        )
    )
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate
$_expected_aggregate_sql$;
COMMENT ON FUNCTION etl._expected_aggregate_sql(name) IS 'A SELECT of all groups that an aggregate should hold.';

/*
Makes compiled.load_<aggregate>: applies the differences that facts or the finer aggregate have noted, or those to what it should hold.
Parameters: p_aggregate, the aggregate.
Returns:    names of the routines.
Writes:     schema compiled.
*/
CREATE OR REPLACE FUNCTION etl._compile_aggregate(p_aggregate name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_aggregate$
DECLARE
    r_aggregate etl.aggregate;
    v_values jsonb;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    v_values := jsonb_build_object(
        'table', r_aggregate.aggregate_table::text,
        'difference', format('work.%I', p_aggregate || '_difference'),
        'difference_name', quote_literal(format('work.%I', p_aggregate || '_difference')),
        'group', to_jsonb(r_aggregate.group_key),
        'group_name', quote_literal(r_aggregate.group_key),
        'measures', to_jsonb(r_aggregate.measures),
        'expected', etl._expected_aggregate_sql(p_aggregate),
        'missing', etl._list(r_aggregate.measures, 'coalesce(e.%1$I, 0) - coalesce(a.%1$I, 0)'),
        'is_missing', etl._list(r_aggregate.measures, 'coalesce(e.%1$I, 0) <> coalesce(a.%1$I, 0)', ' OR '),
        'sums', array_to_string(etl._sums_sql(r_aggregate), ', '),
        'is_not_zero', etl._list(r_aggregate.measures, 'sum(c.%1$I) <> 0', ' OR '),
        'new_sums', etl._list(r_aggregate.measures, E',\n%1$I = a.%1$I + excluded.%1$I', ''),
        'is_empty', etl._list(r_aggregate.measures, 'a.%1$I = 0', ' AND '),
        'hand_on', etl._hand_on_sql(p_aggregate)
    );
    RETURN ARRAY[
        etl._create_compiled(
            'load_' || p_aggregate,
            'p_run_id bigint, p_is_full boolean',
            'etl.load_result',
            format('Applies to %s the differences that were noted, or those to what it should hold.', p_aggregate),
            etl._render(
                $template$DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_emptied bigint;
BEGIN
    IF p_is_full THEN
        -- What was noted is part of what is summed up.
        PERFORM etl._clear_table({{difference_name}});
        INSERT INTO {{difference}} ({{group}}, {{measures}})
        SELECT {{group}}, {{missing}}
        FROM (
            {{expected}}
        ) AS e
        FULL JOIN {{table}} AS a USING ({{group}})
        WHERE {{is_missing}};
    END IF;
    SELECT count(*)
    INTO r_result.rows_read
    FROM {{difference}};
    PERFORM etl._analyze({{difference_name}}, {{group_name}}, r_result.rows_read);

    WITH applied AS (
        INSERT INTO {{table}} AS a ({{group}}, {{measures}}, run_id)
        SELECT {{c.group}}, {{sums}}, p_run_id
        FROM {{difference}} AS c
        GROUP BY {{c.group}}
        HAVING {{is_not_zero}}
        ORDER BY {{c.group}}
        ON CONFLICT ({{group}}) DO UPDATE
        SET run_id = excluded.run_id{{new_sums}}
        -- xmax is 0 only for a new row; ON CONFLICT DO UPDATE leaves this transaction's row lock in xmax.
        RETURNING a.xmax = 0 AS is_new, {{is_empty}} AS is_emptied
    )
    SELECT count(*) FILTER (WHERE p.is_new), count(*) FILTER (WHERE NOT p.is_new), count(*) FILTER (WHERE p.is_emptied)
    INTO r_result.rows_inserted, r_result.rows_updated, v_emptied
    FROM applied AS p;
    IF v_emptied > 0 THEN
        DELETE FROM {{table}} AS a
        USING {{difference}} AS c
        WHERE {{a.group = c.group}}
            AND {{is_empty}};
        GET DIAGNOSTICS r_result.rows_deleted = ROW_COUNT;
    END IF;
    {{hand_on}}
    PERFORM etl._clear_table({{difference_name}});
    RETURN r_result;
END$template$,
                v_values
            )
        )
    ];
END
$_compile_aggregate$;
COMMENT ON FUNCTION etl._compile_aggregate(name) IS 'Makes the routine of an aggregate in schema compiled; returns its name.';

CREATE OR REPLACE FUNCTION etl._hand_on_sql(p_aggregate name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_hand_on_sql$
    SELECT CASE WHEN count(*) = 0 THEN '' ELSE etl._render(
        E'IF NOT p_is_full THEN\n    -- Coarser aggregates are refreshed themselves when this one is.\n    {{statements}}\nEND IF;',
        jsonb_build_object('statements', string_agg(
            etl._render(
                $template$INSERT INTO {{difference}} ({{group}}, {{measures}})
SELECT {{group_values}}, {{sums}}
FROM {{finer}} AS c
GROUP BY {{positions}}
HAVING {{is_not_zero}};$template$,
                jsonb_build_object(
                    'difference', format('work.%I', a.aggregate || '_difference'),
                    'finer', format('work.%I', p_aggregate || '_difference'),
                    'group', to_jsonb(a.group_key),
                    'group_values', etl._finer_key(a),
                    'measures', to_jsonb(a.measures),
                    'sums', etl._list(a.measures, 'sum(c.%1$I)'),
                    'positions', etl._positions(a.group_key),
                    'is_not_zero', etl._list(a.measures, 'sum(c.%1$I) <> 0', ' OR ')
                )
            ),
            E'\n' ORDER BY a.aggregate
        ))
    ) END
    FROM etl.aggregate AS a
    WHERE a.finer_aggregate = p_aggregate
$_hand_on_sql$;
COMMENT ON FUNCTION etl._hand_on_sql(name) IS 'The statements by which an aggregate hands its differences on to coarser ones.';

/*
Loads an aggregate: applies what its facts, or the finer aggregate, have added and subtracted since its last load, or, when a full refresh
was requested, what it differs in from what it should hold.
Parameters: p_aggregate, the aggregate; p_run_id, the writing run.
Returns:    rows read (differences), inserted, updated, deleted (groups).
Writes:     the aggregate's table, work.<aggregate>_difference, those of coarser aggregates, etl.load_state.
Locks:      its row of etl.load_state, and those of the aggregates that it feeds.
*/
CREATE OR REPLACE FUNCTION etl._load_aggregate(p_aggregate name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_aggregate$
DECLARE
    r_result etl.load_result;
    r_aggregate etl.aggregate;
    v_is_full boolean := etl._needs_reload(p_aggregate);
    v_is_empty boolean := false;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    -- A finer aggregate is locked before the coarser ones, everywhere.
    PERFORM
    FROM etl.load_state AS l
    WHERE l.object = ANY (etl._fed_by(p_aggregate))
    ORDER BY l.object
    FOR UPDATE;
    IF v_is_full THEN
        PERFORM etl._request_reload(ARRAY[p_aggregate]);
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', r_aggregate.aggregate_table) INTO v_is_empty;
    END IF;
    EXECUTE format('SELECT * FROM compiled.%I($1, $2)', 'load_' || p_aggregate) INTO r_result USING p_run_id, v_is_full;
    IF v_is_empty THEN
        EXECUTE format('ANALYZE %s', r_aggregate.aggregate_table);
    END IF;
    PERFORM etl._advance_load_state(ARRAY[p_aggregate]);
    RETURN r_result;
END
$_load_aggregate$;
COMMENT ON FUNCTION etl._load_aggregate(name, bigint) IS 'Applies what has been added to an aggregate and subtracted from it, or what it differs in from what it should hold.';
