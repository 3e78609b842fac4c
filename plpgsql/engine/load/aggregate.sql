-- fact -> aggregate: incrementally maintained sums. The transaction that changes fact rows subtracts their former contributions and adds the new ones in a
-- table of differences. The aggregate's own task applies them. The cost follows the change, not the size of a month, and a failed
-- aggregate keeps its differences for the next run.
--
-- A contribution view may read several facts: each load subtracts and adds for the keys that it changes and reads the other facts as they are. One load
-- after another, the differences telescope to the current state. A lock on the aggregate's row of etl.load_state serializes the loads. Attributes that never
-- change under a fact row (type 0 and 2 attributes of its version) may be part of the group.
--
-- A roll-up receives the differences of a finer aggregate, not those of facts. An expression may compute a column of its key from the key of the finer
-- aggregate, for example quarters from months.

-- All groups that an aggregate should hold.
-- Parameters: p_aggregate, the aggregate.
-- Returns:    a SELECT: group key and measures. Groups whose sums are all 0 are left out.
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

-- Compiles compiled.load_<aggregate>, which applies the differences that were noted, or the differences to the rows that the aggregate should hold.
-- Parameters: p_aggregate, the aggregate.
-- Returns:    names of the routines.
-- Writes:     schema compiled.
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
            format('Applies the noted differences to %s, or the differences to the rows that it should hold.', p_aggregate),
            etl._render(
                $template$DECLARE
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_emptied bigint;
BEGIN
    IF p_is_full THEN
        -- The sums below contain the differences noted so far.
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

-- The statements that pass the differences of an aggregate on to its roll-ups.
CREATE OR REPLACE FUNCTION etl._hand_on_sql(p_aggregate name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_hand_on_sql$
    SELECT CASE WHEN count(*) = 0 THEN '' ELSE etl._render(
        E'IF NOT p_is_full THEN\n    -- A full refresh of this aggregate also refreshes its roll-ups.\n    {{statements}}\nEND IF;',
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

-- Loads an aggregate: applies the differences that its facts or the finer aggregate have noted since the last load. If a full refresh was requested, applies
-- the differences between its rows and the rows that it should hold.
-- Parameters: p_aggregate, the aggregate; p_run_id, the writing run.
-- Returns:    rows read (differences), inserted, updated, deleted (groups).
-- Writes:     the aggregate's table, work.<aggregate>_difference, those of coarser aggregates, etl.load_state.
-- Locks:      its row of etl.load_state, and those of the aggregates that it feeds.
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
    -- Lock order: a finer aggregate before its roll-ups.
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
