-- The statements that plan the changes of a dimension: the timeline of each pending key, and what becomes of its versions.

CREATE OR REPLACE FUNCTION etl._dimension_sql(p_dimension name, p_are_many boolean DEFAULT false)
RETURNS TABLE (title text, statement text)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_dimension_sql$
DECLARE
    r_dimension etl.dimension;
    v_kept name[];      -- type 0
    v_overwritten name[];  -- type 1
    v_tracked name[];   -- type 2
    v_bk name[];
    v_all name[];
    v_key_table text;
    v_decision text;
    r_role record;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    SELECT
        coalesce(array_agg(a.attribute ORDER BY c.attnum) FILTER (WHERE a.scd_type = 0), '{}'),
        coalesce(array_agg(a.attribute ORDER BY c.attnum) FILTER (WHERE a.scd_type = 1), '{}'),
        coalesce(array_agg(a.attribute ORDER BY c.attnum) FILTER (WHERE a.scd_type = 2), '{}')
    INTO v_kept, v_overwritten, v_tracked
    FROM etl.dimension_attribute AS a
    JOIN pg_attribute AS c ON c.attrelid = r_dimension.dimension_table AND c.attname = a.attribute
    WHERE a.dimension = p_dimension;
    v_bk := r_dimension.business_key;
    v_all := v_kept || v_overwritten || v_tracked;
    v_key_table := format('work.%I', p_dimension || '_key');
    v_decision := format('work.%I', p_dimension || '_decision');

    title := 'decide: timelines of the pending members';
    statement := format(
        $sql$INSERT INTO %1$s (operation, %2$I, %3$s, %4$s, valid_from, valid_to, is_current, run_id)
WITH source_state AS MATERIALIZED (
    SELECT v.*
    FROM %5$s AS k
    %6$s
),
known AS MATERIALIZED (
    SELECT d.*
    FROM %5$s AS k
    JOIN %7$s AS d ON %8$s
),
latest AS MATERIALIZED (
    SELECT DISTINCT ON (%9$s) n.*
    FROM known AS n
    ORDER BY %9$s, n.valid_from DESC
),
member AS MATERIALIZED (
    -- What the source says of it, and since when: later than all that the dimension holds.
    SELECT
        %10$s,
        v.effective_at IS NOT NULL AND v.deleted_at IS NULL AS is_there,
        greatest(
            coalesce(v.deleted_at, v.effective_at, $2),
            CASE WHEN l.valid_to = 'infinity' THEN l.valid_from + interval '1 microsecond' ELSE l.valid_to END
        ) AS at%11$s
    FROM %5$s AS k
    LEFT JOIN source_state AS v ON %12$s
    LEFT JOIN latest AS l ON %13$s
),
%14$s
wanted AS (
    SELECT t.version_key, %15$s, t.valid_from, t.valid_to%16$s
    FROM timeline AS t
    LEFT JOIN source_state AS v ON %17$s
    LEFT JOIN latest AS l ON %18$s
)
SELECT
    CASE
        WHEN n.%2$I IS NULL THEN 'insert'
        WHEN (n.valid_from, n.valid_to) <> (w.valid_from, w.valid_to) OR %19$s THEN 'update'
        ELSE 'unchanged'
    END,
    n.%2$I, %20$s, %21$s, w.valid_from, w.valid_to, w.valid_to = 'infinity', $1
FROM wanted AS w
LEFT JOIN known AS n ON n.%2$I = w.version_key$sql$,
        v_decision,                                            -- 1
        r_dimension.surrogate_key,                             -- 2
        etl._list(v_bk),                                       -- 3
        etl._list(v_all),                                      -- 4
        v_key_table,                                           -- 5
        etl._join_keys(r_dimension.transform_view, v_bk, 'k', 'v', p_are_many),  -- 6
        r_dimension.dimension_table,                           -- 7
        etl._match(v_bk, 'd', 'k'),                            -- 8
        etl._list(v_bk, 'n.%1$I'),                             -- 9
        etl._list(v_bk, 'k.%1$I'),                             -- 10
        etl._list(v_tracked, ', v.%1$I', ''),                  -- 11
        etl._match(v_bk, 'v', 'k'),                            -- 12
        etl._match(v_bk, 'l', 'k'),                            -- 13
        CASE WHEN r_dimension.history_view IS NULL
            THEN etl._succession_sql(r_dimension, v_tracked)
            ELSE etl._timeline_sql(r_dimension, v_key_table, v_tracked, p_are_many)
        END,                                                   -- 14
        etl._list(v_bk, 't.%1$I'),                             -- 15
        etl._list(v_kept, format(E',\n        CASE WHEN l.%I IS NOT NULL THEN l.%%1$I ELSE v.%%1$I END AS %%1$I', r_dimension.surrogate_key), '')
            || etl._list(v_overwritten, E',\n        CASE WHEN v.effective_at IS NOT NULL AND v.deleted_at IS NULL THEN v.%1$I ELSE l.%1$I END AS %1$I', '')
            || etl._list(v_tracked, ', t.%1$I', ''),           -- 16
        etl._match(v_bk, 'v', 't'),                            -- 17
        etl._match(v_bk, 'l', 't'),                            -- 18
        etl._differs(v_all, 'n', 'w'),                         -- 19
        etl._list(v_bk, 'w.%1$I'),                             -- 20
        etl._list(v_all, 'w.%1$I')                             -- 21
    );
    RETURN NEXT;

    -- The end of a version moved forward: facts after it belong to a later version.
    FOR r_role IN
        SELECT f.fact, f.fact_table, f.business_key, k.key_column, k.as_of_column
        FROM etl.fact_dimension AS k
        JOIN etl.fact AS f USING (fact)
        WHERE k.dimension = p_dimension
            AND k.as_of_column IS NOT NULL
        ORDER BY f.fact, k.key_column
    LOOP
        title := format('requeue: %s of a version that ends earlier now', r_role.fact);
        statement := format(
            $sql$INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension, dimension_key, is_ready, run_id)
SELECT %1$L, %2$s, %3$L, %4$L, %5$s, true, $1
FROM %6$s AS w
JOIN %7$s AS d ON d.%8$I = w.%8$I
JOIN %9$s AS f ON f.%10$I = w.%8$I AND f.%11$I >= w.valid_to
WHERE w.operation = 'update'
    AND w.valid_to < d.valid_to
    AND f.%11$I >= $3
ON CONFLICT (fact, fact_key, key_column) DO UPDATE
SET is_ready = true$sql$,
            r_role.fact, etl._json_key(r_role.business_key, 'f'), r_role.key_column, p_dimension, etl._json_key(v_bk, 'w'),
            v_decision, r_dimension.dimension_table, r_dimension.surrogate_key, r_role.fact_table, r_role.key_column, r_role.as_of_column
        );
        RETURN NEXT;
    END LOOP;

    title := 'update: close versions, overwrite attributes';
    statement := format(
        $sql$UPDATE %1$s AS d
SET valid_from = w.valid_from,
    valid_to = w.valid_to,
    is_current = w.is_current,
    run_id = w.run_id%2$s
FROM %3$s AS w
WHERE w.operation = 'update'
    AND d.%4$I = w.%4$I$sql$,
        r_dimension.dimension_table, etl._list(v_all, E',\n    %1$I = w.%1$I', ''), v_decision, r_dimension.surrogate_key
    );
    RETURN NEXT;

    title := 'insert: new members and new versions';
    statement := format(
        $sql$INSERT INTO %1$s (%2$s, %3$s, valid_from, valid_to, is_current, run_id)
SELECT %4$s, %5$s, w.valid_from, w.valid_to, w.is_current, w.run_id
FROM %6$s AS w
WHERE w.operation = 'insert'$sql$,
        r_dimension.dimension_table, etl._list(v_bk), etl._list(v_all), etl._list(v_bk, 'w.%1$I'), etl._list(v_all, 'w.%1$I'), v_decision
    );
    RETURN NEXT;

    title := 'ready: facts that waited for these members';
    statement := format(
        $sql$UPDATE etl.reprocessing_queue AS q
SET is_ready = true
FROM (SELECT DISTINCT %1$s AS dimension_key FROM %2$s AS w) AS m
WHERE q.dimension = %3$L
    AND q.dimension_key = m.dimension_key
    AND NOT q.is_ready$sql$,
        etl._json_key(v_bk, 'w'), v_decision, p_dimension
    );
    RETURN NEXT;
END
$_dimension_sql$;
COMMENT ON FUNCTION etl._dimension_sql(name, boolean) IS 'Statements that load the pending keys of a dimension (are they many?). $1 run, $2 moment at which a member without a trace counts as gone, $3 earliest moment at which a version ends sooner than it did.';

/*
The part of the decision that finds the timelines of members without a log, as common table expressions that end in "timeline". To take
them through etl._timeline_sql, which comes to the same, took twice as long.
Parameters: p_dimension, the dimension; p_tracked, its attributes of type 2.
Returns:    text; reads known, latest and member.
*/
CREATE OR REPLACE FUNCTION etl._succession_sql(p_dimension etl.dimension, p_tracked name[])
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_succession_sql$
    SELECT format(
        $sql$succession AS MATERIALIZED (
    SELECT m.*, l.%1$I AS latest_key, coalesce(m.is_there AND l.valid_to IN ('infinity', m.at) AND NOT %2$s, false) AS goes_on
    FROM member AS m
    LEFT JOIN latest AS l ON %3$s
),
timeline AS (
    SELECT n.%1$I AS version_key, %4$s, n.valid_from,
        CASE
            WHEN n.%1$I <> s.latest_key THEN n.valid_to
            WHEN s.goes_on THEN 'infinity'
            ELSE least(n.valid_to, s.at)
        END AS valid_to%5$s
    FROM known AS n
    JOIN succession AS s ON %6$s
    UNION ALL
    SELECT NULL, %7$s, CASE WHEN s.latest_key IS NULL THEN '-infinity' ELSE s.at END, 'infinity'%8$s
    FROM succession AS s
    WHERE s.is_there
        AND NOT s.goes_on
),$sql$,
        p_dimension.surrogate_key,                       -- 1
        etl._differs(p_tracked, 'l', 'm'),               -- 2
        etl._match(p_dimension.business_key, 'l', 'm'),  -- 3
        etl._list(p_dimension.business_key, 'n.%1$I'),   -- 4
        etl._list(p_tracked, ', n.%1$I', ''),            -- 5
        etl._match(p_dimension.business_key, 's', 'n'),  -- 6
        etl._list(p_dimension.business_key, 's.%1$I'),   -- 7
        etl._list(p_tracked, ', s.%1$I', '')             -- 8
    )
$_succession_sql$;
COMMENT ON FUNCTION etl._succession_sql(etl.dimension, name[]) IS 'Common table expressions that find the timelines of members without a log.';

/*
The part of the decision that finds the timelines of members with a log, as common table expressions that end in "timeline". A moment of
the log takes the other attributes from the state before it, and every moment takes the logged attributes from the log; what lies before
the first word of either takes that first word. A member that was deleted and came back has several lives, and the log of one says
nothing of another: a source that deletes a member forgets its log, the dimension does not.
Parameters: p_dimension, the dimension; p_keys, its pending keys; p_tracked, its attributes of type 2; p_are_many, whether the keys are
            many.
Returns:    text; reads known and member.
*/
CREATE OR REPLACE FUNCTION etl._timeline_sql(p_dimension etl.dimension, p_keys text, p_tracked name[], p_are_many boolean)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_timeline_sql$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_logged name[] := etl._without(etl._columns(p_dimension.history_view), v_bk || 'valid_from'::name);
BEGIN
    RETURN format(
        $sql$log AS MATERIALIZED (
    SELECT %1$s, h.valid_from AS at, %2$s
    FROM %3$s AS k
    %4$s
),
states AS MATERIALIZED (
    -- At one moment the source's word comes before the version that starts then, and that before the end of another.
    SELECT DISTINCT ON (%5$s, e.at) e.*
    FROM (
        SELECT %6$s, n.valid_from AS at, 1 AS precedence, n.%7$I AS version_key, false AS is_absent%8$s
        FROM known AS n
        UNION ALL
        SELECT %6$s, n.valid_to, 0, NULL, true%9$s
        FROM known AS n
        WHERE n.valid_to < 'infinity'
        UNION ALL
        SELECT %10$s, m.at, 2, NULL, NOT m.is_there%11$s
        FROM member AS m
    ) AS e
    ORDER BY %5$s, e.at, e.precedence DESC
),
moments AS (
    SELECT %12$s, s.at FROM states AS s
    UNION
    SELECT %13$s, g.at FROM log AS g
),
aligned AS (
    SELECT %14$s, b.at, s.version_key, s.is_absent, s.at IS NULL AS is_log_only%15$s%16$s,
        g.at IS NULL AS is_state_only,
        greatest(count(s.at) OVER moment, 1) AS state_number,
        count(*) FILTER (WHERE s.is_absent) OVER moment AS life
    FROM moments AS b
    LEFT JOIN states AS s ON %17$s AND s.at = b.at
    LEFT JOIN log AS g ON %18$s AND g.at = b.at
    WINDOW moment AS (PARTITION BY %14$s ORDER BY b.at)
),
counted AS (
    SELECT a.*, greatest(count(*) FILTER (WHERE NOT a.is_state_only) OVER (PARTITION BY %19$s, a.life ORDER BY a.at), 1) AS log_number
    FROM aligned AS a
),
filled AS (
    SELECT %19$s, a.at, a.version_key,
        first_value(a.is_absent) OVER last_state AS is_absent%20$s
    FROM counted AS a
    WINDOW
        last_state AS (PARTITION BY %19$s, a.state_number ORDER BY a.is_log_only),
        last_log AS (PARTITION BY %19$s, a.life, a.log_number ORDER BY a.is_state_only)
),
carried AS (
    SELECT %21$s, f.at, f.version_key, f.is_absent%22$s
    FROM filled AS f
),
marked AS (
    SELECT c.*, (
        lag(c.is_absent) OVER moment IS DISTINCT FROM c.is_absent%23$s
    ) AS starts_run
    FROM carried AS c
    WINDOW moment AS (PARTITION BY %24$s ORDER BY c.at)
),
numbered AS (
    SELECT m.*, count(*) FILTER (WHERE m.starts_run) OVER (PARTITION BY %25$s ORDER BY m.at) AS run_number
    FROM marked AS m
),
matched AS (
    -- Two versions that were written never become one: facts may point at either.
    SELECT r.*, greatest(count(r.version_key) OVER (PARTITION BY %26$s, r.run_number ORDER BY r.at), 1) AS known_number
    FROM numbered AS r
),
version AS (
    SELECT %27$s, min(t.at) AS at, max(t.version_key) AS version_key, t.is_absent%28$s
    FROM matched AS t
    GROUP BY %27$s, t.run_number, t.known_number, t.is_absent%28$s
),
succeeded AS (
    SELECT w.*,
        CASE WHEN row_number() OVER moment = 1 THEN '-infinity' ELSE w.at END AS valid_from,
        coalesce(lead(w.at) OVER moment, 'infinity') AS valid_to
    FROM version AS w
    WINDOW moment AS (PARTITION BY %29$s ORDER BY w.at)
),
timeline AS (
    SELECT *
    FROM succeeded
    WHERE NOT is_absent
),$sql$,
        etl._list(v_bk, 'k.%1$I'),                             -- 1
        etl._list(v_logged, 'h.%1$I'),                         -- 2
        p_keys,                                                -- 3
        etl._join_keys(p_dimension.history_view, v_bk, 'k', 'h', p_are_many),  -- 4
        etl._list(v_bk, 'e.%1$I'),                             -- 5
        etl._list(v_bk, 'n.%1$I'),                             -- 6
        p_dimension.surrogate_key,                             -- 7
        etl._list(p_tracked, ', n.%1$I', ''),                  -- 8
        repeat(', NULL', cardinality(p_tracked)),              -- 9
        etl._list(v_bk, 'm.%1$I'),                             -- 10
        etl._list(p_tracked, ', m.%1$I', ''),                  -- 11
        etl._list(v_bk, 's.%1$I'),                             -- 12
        etl._list(v_bk, 'g.%1$I'),                             -- 13
        etl._list(v_bk, 'b.%1$I'),                             -- 14
        etl._list(p_tracked, ', s.%1$I', ''),                  -- 15
        etl._list(v_logged, ', g.%1$I AS logged_%1$s', ''),    -- 16
        etl._match(v_bk, 's', 'b'),                            -- 17
        etl._match(v_bk, 'g', 'b'),                            -- 18
        etl._list(v_bk, 'a.%1$I'),                             -- 19
        etl._list(etl._without(p_tracked, v_logged), E',\n        first_value(a.%1$I) OVER last_state AS %1$I', '')
            || etl._list(v_logged, E',\n        coalesce(first_value(a.logged_%1$s) OVER last_log, first_value(a.%1$I) OVER last_state) AS %1$I', ''),  -- 20
        etl._list(v_bk, 'f.%1$I'),                             -- 21
        etl._list(p_tracked, E',\n        CASE WHEN NOT f.is_absent THEN f.%1$I END AS %1$I', ''),  -- 22
        etl._list(p_tracked, E'\n        OR lag(c.%1$I) OVER moment IS DISTINCT FROM c.%1$I', ''),  -- 23
        etl._list(v_bk, 'c.%1$I'),                             -- 24
        etl._list(v_bk, 'm.%1$I'),                             -- 25
        etl._list(v_bk, 'r.%1$I'),                             -- 26
        etl._list(v_bk, 't.%1$I'),                             -- 27
        etl._list(p_tracked, ', t.%1$I', ''),                  -- 28
        etl._list(v_bk, 'w.%1$I')                              -- 29
    );
END
$_timeline_sql$;
COMMENT ON FUNCTION etl._timeline_sql(etl.dimension, text, name[], boolean) IS 'Common table expressions that find the timelines of members with a log.';
