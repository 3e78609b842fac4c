-- The statements that plan the changes of a fact: surrogate keys resolved as of the event, rows compared with those of the table.

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
