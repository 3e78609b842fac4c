-- stage -> dimension: slowly changing dimensions of type 0, 1 and 2, attribute by attribute, for the pending keys alone.
--
-- For each pending key its timeline is made of what is known:
--   * the versions that the dimension holds,
--   * the member as the transformation view gives it now, from its effective_at on (absent from then on when it is deleted),
--   * the source's log of some attributes, where a history view reads one; it alone decides on those attributes.
-- Without a log the source's word comes after all that the dimension holds: the last version goes on, or ends, and another may follow.
-- With one, all moments of change are lined up, values are carried forward, equal neighbours become one version, valid_to is the next
-- version's valid_from. So several changes of a key in one batch, changes that arrive late, a deleted member that comes back,
-- all end in the timeline that they would have made one by one. A version once written keeps its surrogate key for ever.
-- Validity is half-open, [valid_from, valid_to): what happens at the very moment of a change belongs to the new version. The
-- first version reaches back to -infinity, for facts older than the source's memory of the member.

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

/*
The earliest moment at which a version that was decided on ends sooner than it did. Told to the planner, it keeps the search for
the facts after it to the blocks where they lie.
Parameters: p_dimension, the dimension.
Returns:    the moment; NULL when no version ends sooner.
*/
CREATE OR REPLACE FUNCTION etl._earliest_end(p_dimension name)
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_earliest_end$
DECLARE
    r_dimension etl.dimension;
    v_earliest timestamptz;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    EXECUTE format(
        $sql$SELECT min(w.valid_to)
FROM work.%1$I AS w
JOIN %2$s AS d ON d.%3$I = w.%3$I
WHERE w.operation = 'update'
    AND w.valid_to < d.valid_to$sql$,
        p_dimension || '_decision', r_dimension.dimension_table, r_dimension.surrogate_key
    )
    INTO v_earliest;
    RETURN v_earliest;
END
$_earliest_end$;
COMMENT ON FUNCTION etl._earliest_end(name) IS 'The earliest moment at which a version that was decided on ends sooner than it did.';

CREATE OR REPLACE FUNCTION etl._raise_overlap(
    p_table regclass,
    p_member text,
    p_valid_from timestamptz,
    p_valid_to timestamptz,
    p_next_from timestamptz
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_raise_overlap$
BEGIN
    RAISE EXCEPTION 'versions of member (%) of % overlap', p_member, p_table
        USING ERRCODE = 'exclusion_violation',
            DETAIL = format('One holds from %s to %s, the next from %s.', p_valid_from, p_valid_to, p_next_from),
            HINT = 'Let a version end where the next one begins, or before.';
END
$_raise_overlap$;
COMMENT ON FUNCTION etl._raise_overlap(regclass, text, timestamptz, timestamptz, timestamptz) IS 'Raises 23P01: a version overlaps the next one of its member.';

/*
The statement that refuses overlapping versions. One look at each pair of neighbours tells: in order of their begin, each has to end before
the next.
Parameters: p_dimension, the dimension; p_written, relation with the versions whose members are looked at (all members by default).
Returns:    a statement that raises 23P01 for a version which overlaps the next one.
*/
CREATE OR REPLACE FUNCTION etl._refuse_overlap_sql(p_dimension etl.dimension, p_written text DEFAULT NULL)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_refuse_overlap_sql$
    SELECT format(
        $sql$SELECT etl._raise_overlap(%3$L, concat_ws(', ', %1$s), v.valid_from, v.valid_to, v.next_from)
FROM (
    SELECT %2$s, d.valid_from, d.valid_to, lead(d.valid_from) OVER (PARTITION BY %2$s ORDER BY d.valid_from) AS next_from
    FROM %3$s AS d%4$s
    WHERE (%2$s) IS NOT NULL
) AS v
WHERE v.next_from < v.valid_to$sql$,
        etl._list(p_dimension.business_key, 'v.%1$I'),
        etl._list(p_dimension.business_key, 'd.%1$I'),
        p_dimension.dimension_table,
        E'\n    JOIN (SELECT DISTINCT ' || etl._list(p_dimension.business_key, 'w.%1$I') || ' FROM ' || p_written || ' AS w) AS k ON '
            || etl._match(p_dimension.business_key, 'k', 'd')
    )
$_refuse_overlap_sql$;
COMMENT ON FUNCTION etl._refuse_overlap_sql(etl.dimension, text) IS 'The statement that raises 23P01 when versions overlap: of the members that were written, or of all.';

/*
Trigger of each dimension, after a statement that inserts versions or makes one wider: refuses it when versions of a member overlap. Writers of
a dimension come one after the other, so that each sees what those before it have committed (in READ COMMITTED; an older snapshot does
not).

An exclusion constraint (GiST over business key and range) promises the same, and was here before. With it, to close a version took 58
microseconds instead of 15, to insert one 28 instead of 13, and a first load a tenth longer, since PostgreSQL looks each row up by itself,
when the constraint is made as well. The B-tree that look-ups as of a moment need serves a whole statement at once.
Reads:  the dimension's table, at the members that were written.
Errors: 23P01 when versions overlap.
Locks:  an advisory lock on the dimension's versions, until the end of the transaction.
*/
CREATE OR REPLACE FUNCTION etl._refuse_overlap()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_overlap$
DECLARE
    r_dimension etl.dimension;
    v_may_overlap boolean;
BEGIN
    SELECT *
    INTO r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension_table = TG_RELID;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- What became narrower cannot overlap any more than before: all that a load does to versions which are there, as a rule.
        EXECUTE format(
            $sql$SELECT EXISTS (
    SELECT
    FROM written AS w
    LEFT JOIN replaced AS r ON r.%1$I = w.%1$I AND %2$s
    WHERE (w.valid_from >= r.valid_from AND w.valid_to <= r.valid_to) IS NOT TRUE
)$sql$,
            r_dimension.surrogate_key, etl._match(r_dimension.business_key, 'r', 'w')
        )
        INTO v_may_overlap;
    ELSE
        v_may_overlap := EXISTS (SELECT FROM written);
    END IF;
    IF v_may_overlap THEN
        PERFORM pg_advisory_xact_lock(etl._lock_class('versions'), etl._lock_number(TG_RELID::bigint));
        EXECUTE etl._refuse_overlap_sql(r_dimension, 'written');
    END IF;
    RETURN NULL;
END
$_refuse_overlap$;
COMMENT ON FUNCTION etl._refuse_overlap() IS 'Trigger of each dimension: refuses a statement after which versions of a member overlap (23P01).';

/*
Gives a dimension the triggers that refuse overlapping versions, where they are missing. One that has an exclusion constraint is
left alone.
Parameters: p_table, the dimension's table.
Writes:     triggers of the table.
*/
CREATE OR REPLACE FUNCTION etl._guard_versions(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_guard_versions$
DECLARE
    r_trigger record;
BEGIN
    IF EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = p_table AND c.contype = 'x') THEN
        RETURN;
    END IF;
    -- A trigger that is given the rows can be of one event only.
    FOR r_trigger IN
        SELECT v.event, v.rows
        FROM (
            VALUES
                ('insert', 'NEW TABLE AS written', NULL),
                ('update', 'OLD TABLE AS replaced NEW TABLE AS written', 'replaced')
        ) AS v (event, rows, old_table)
        WHERE NOT EXISTS (
            SELECT
            FROM pg_trigger AS t
            WHERE t.tgrelid = p_table
                AND t.tgname = 'refuse_overlap_on_' || v.event
                AND t.tgoldtable IS NOT DISTINCT FROM v.old_table
        )
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION etl._refuse_overlap()',
            'refuse_overlap_on_' || r_trigger.event, upper(r_trigger.event), p_table, r_trigger.rows
        );
    END LOOP;
END
$_guard_versions$;
COMMENT ON FUNCTION etl._guard_versions(regclass) IS 'Gives a dimension the triggers that refuse overlapping versions.';

/*
Runs the statements of a dimension over its pending keys, all or nothing.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows inserted and updated (versions), queued (facts to be reprocessed).
Writes:     the dimension's table, work.<dimension>_decision, etl.reprocessing_queue.
*/
CREATE OR REPLACE FUNCTION etl._apply_dimension(p_dimension name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_apply_dimension$
DECLARE
    r_dimension etl.dimension;
    r_statement record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_decision regclass := format('work.%I', p_dimension || '_decision')::regclass;
    v_pending bigint;
    v_earliest timestamptz;
    v_rows bigint;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    PERFORM etl._empty(v_decision);
    EXECUTE format('SELECT count(*) FROM work.%I', p_dimension || '_key') INTO v_pending;
    -- Versions may change places within a load, so an exclusion constraint waits where a dimension has one; its verdict belongs to this load.
    SET CONSTRAINTS ALL DEFERRED;
    FOR r_statement IN
        SELECT *
        FROM etl._dimension_sql(
            p_dimension,
            p_are_many => etl._are_many(v_pending, r_dimension.dimension_table, p_part => 20)
        )
    LOOP
        CONTINUE WHEN r_statement.title LIKE 'requeue:%' AND v_earliest IS NULL;
        EXECUTE r_statement.statement USING p_run_id, clock_timestamp(), v_earliest;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        CASE split_part(r_statement.title, ':', 1)
            WHEN 'decide' THEN
                PERFORM etl._analyze(v_decision, r_dimension.business_key || ARRAY[r_dimension.surrogate_key, 'operation'::name], v_rows);
                v_earliest := etl._earliest_end(p_dimension);
            WHEN 'requeue' THEN r_result.rows_queued := r_result.rows_queued + v_rows;
            WHEN 'update' THEN r_result.rows_updated := v_rows;
            WHEN 'insert' THEN r_result.rows_inserted := v_rows;
            ELSE NULL;
        END CASE;
    END LOOP;
    SET CONSTRAINTS ALL IMMEDIATE;
    RETURN r_result;
END
$_apply_dimension$;
COMMENT ON FUNCTION etl._apply_dimension(name, bigint) IS 'Runs the statements of a dimension over its pending keys.';

/*
The statement that fills an empty dimension. Members have the past that a history view tells, otherwise none; so the timeline comes
of the log alone, where each moment at which something differs begins a version. To put it together from all that etl._dimension_sql
minds took four times as long.
Parameters: p_dimension, the dimension.
Returns:    a statement. $1 run.
*/
CREATE OR REPLACE FUNCTION etl._fill_dimension_sql(p_dimension etl.dimension)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fill_dimension_sql$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_attributes name[] := (SELECT array_agg(a.attribute) FROM etl.dimension_attribute AS a WHERE a.dimension = p_dimension.dimension);
    v_logged name[];
    v_members text := format('%s AS v', p_dimension.transform_view);
    v_is_loaded text := format(E'v.deleted_at IS NULL\n    AND (%s) IS NOT NULL', etl._list(v_bk, 'v.%1$I'));
BEGIN
    IF p_dimension.history_view IS NULL THEN
        RETURN format(
            $sql$INSERT INTO %1$s (%2$s, %3$s, valid_from, valid_to, is_current, run_id)
SELECT %4$s, %5$s, '-infinity', 'infinity', true, $1
FROM %6$s
WHERE %7$s$sql$,
            p_dimension.dimension_table, etl._list(v_bk), etl._list(v_attributes), etl._list(v_bk, 'v.%1$I'), etl._list(v_attributes, 'v.%1$I'),
            v_members, v_is_loaded
        );
    END IF;
    v_logged := etl._without(etl._columns(p_dimension.history_view), v_bk || 'valid_from'::name);
    RETURN format(
        $sql$INSERT INTO %1$s (%2$s, %3$s, valid_from, valid_to, is_current, run_id)
WITH state AS (
    SELECT %4$s%5$s%6$s, h.valid_from AS at
    FROM %7$s
    LEFT JOIN %8$s AS h ON %9$s
    WHERE %10$s
),
moment AS (
    SELECT s.*, (
        row_number() OVER log = 1%11$s
    ) AS begins_version
    FROM state AS s
    WINDOW log AS (PARTITION BY %12$s ORDER BY s.at)
)
SELECT
    %13$s, %14$s,
    CASE WHEN row_number() OVER timeline = 1 THEN '-infinity' ELSE m.at END,
    coalesce(lead(m.at) OVER timeline, 'infinity'),
    coalesce(lead(m.at) OVER timeline, 'infinity') = 'infinity',
    $1
FROM moment AS m
WHERE m.begins_version
WINDOW timeline AS (PARTITION BY %13$s ORDER BY m.at)$sql$,
        p_dimension.dimension_table, etl._list(v_bk), etl._list(v_attributes),
        etl._list(v_bk, 'v.%1$I'), etl._list(etl._without(v_attributes, v_logged), ', v.%1$I', ''), etl._list(v_logged, ', coalesce(h.%1$I, v.%1$I) AS %1$I', ''),
        v_members, p_dimension.history_view, etl._match(v_bk, 'h', 'v'), v_is_loaded,
        etl._list(v_logged, E'\n        OR lag(s.%1$I) OVER log IS DISTINCT FROM s.%1$I', ''), etl._list(v_bk, 's.%1$I'),
        etl._list(v_bk, 'm.%1$I'), etl._list(v_attributes, 'm.%1$I')
    );
END
$_fill_dimension_sql$;
COMMENT ON FUNCTION etl._fill_dimension_sql(etl.dimension) IS 'The statement that fills an empty dimension. $1 run.';

/*
Fills an empty dimension, constraints and indexes after the rows.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows read and inserted.
Writes:     the dimension's table, foreign keys of facts that refer to it, etl.reprocessing_queue, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._fill_dimension(p_dimension etl.dimension, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_fill_dimension$
DECLARE
    v_rebuild text[];
    v_rows bigint;
    r_result etl.load_result;
BEGIN
    v_rebuild := etl._begin_bulk(p_dimension.dimension_table);
    EXECUTE etl._fill_dimension_sql(p_dimension) USING p_run_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    PERFORM etl._finish_bulk(p_dimension.dimension_table, v_rebuild);
    PERFORM etl._restore_constraints(p_dimension.dimension_table);

    UPDATE etl.reprocessing_queue AS q
    SET is_ready = true
    WHERE q.dimension = p_dimension.dimension
        AND NOT q.is_ready;
    PERFORM etl._finish_load(p_dimension.dimension);
    r_result := (v_rows, v_rows, 0, 0, 0, 0);
    RETURN r_result;
END
$_fill_dimension$;
COMMENT ON FUNCTION etl._fill_dimension(etl.dimension, bigint) IS 'Fills an empty dimension, constraints and indexes after the rows.';

/*
Loads a dimension: its pending keys, or all of them when a reload was asked for.
Parameters: p_dimension, the dimension; p_run_id, the writing run.
Returns:    rows read (pending members), inserted (versions), updated (versions), queued (facts to be reprocessed), quarantined.
Writes:     the dimension's table, work.<dimension>_key, work.<dimension>_decision, etl.reprocessing_queue, etl.quarantine,
            etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._load_dimension(p_dimension name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_load_dimension$
DECLARE
    r_dimension etl.dimension;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    v_pending bigint;
    v_rebuild text[];
    v_is_empty boolean;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;

    EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s WHERE %I > 0)', r_dimension.dimension_table, r_dimension.surrogate_key) INTO v_is_empty;
    IF etl._needs_reload(p_dimension) AND v_is_empty THEN
        BEGIN
            RETURN etl._fill_dimension(r_dimension, p_run_id);
        EXCEPTION
            WHEN data_exception OR integrity_constraint_violation THEN
                -- Some row is bad. The ordinary way, which follows, finds out which.
                NULL;
        END;
    END IF;

    v_pending := etl._begin_load(p_dimension, r_dimension.business_key, r_dimension.dimension_table, r_dimension.transform_view);
    IF v_pending > 0 THEN
        IF v_is_empty THEN
            v_rebuild := etl._begin_bulk(r_dimension.dimension_table);
        END IF;
        r_result := etl._apply_isolating('dimension', p_dimension, r_dimension.business_key, p_run_id);
        IF v_is_empty THEN
            PERFORM etl._finish_bulk(r_dimension.dimension_table, v_rebuild);
        END IF;
        r_result.rows_read := v_pending;
    END IF;
    PERFORM etl._finish_load(p_dimension);
    RETURN r_result;
END
$_load_dimension$;
COMMENT ON FUNCTION etl._load_dimension(name, bigint) IS 'Loads the pending keys of a dimension, or all of them when a reload was asked for.';
