-- What a transformation must not read, because no load would follow its changes: the rows would stay as they were, and every run would succeed.

-- The views that make the rows of the objects.
CREATE OR REPLACE FUNCTION etl._transformation_views()
RETURNS TABLE (object name, kind text, view regclass)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_transformation_views$
    SELECT d.dimension, 'dimension', v.view
    FROM etl.dimension AS d
    CROSS JOIN LATERAL (VALUES (d.transform_view), (d.history_view)) AS v (view)
    WHERE v.view IS NOT NULL
    UNION ALL
    SELECT f.fact, 'fact', f.transform_view
    FROM etl.fact AS f
    UNION ALL
    SELECT a.aggregate, 'aggregate', a.contribution_view
    FROM etl.aggregate AS a
    WHERE a.finer_aggregate IS NULL
$_transformation_views$;

-- Everything that the transformation of an object reads or calls, through views and functions.
CREATE OR REPLACE FUNCTION etl._transformation_reads()
RETURNS TABLE (object name, kind text, classid oid, objid oid)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_transformation_reads$
    WITH RECURSIVE reads (object, kind, classid, objid) AS (
        SELECT v.object, v.kind, 'pg_class'::regclass::oid, v.view::oid
        FROM etl._transformation_views() AS v
        UNION
        SELECT r.object, r.kind, n.classid, n.objid
        FROM reads AS r
        CROSS JOIN LATERAL etl._reads_of(r.classid, r.objid) AS n
    )
    SELECT *
    FROM reads
$_transformation_reads$;

-- Whether a row of a view comes from rows of a table with the same key and from no others, so that the key of a changed row is the only key that the
-- change touches. The planner proves it: a condition on the view's key then reaches every scan of the table. It does not through a window function,
-- LIMIT, an aggregate over other keys, or a join on other columns.
CREATE OR REPLACE FUNCTION etl._is_read_by_key(p_view regclass, p_key name[], p_table regclass)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A custom plan would replace the parameters by their values.
SET plan_cache_mode = force_generic_plan
SET quote_all_identifiers = off
AS $_is_read_by_key$
DECLARE
    v_query text := format('SELECT * FROM %s AS v WHERE ', p_view);
    v_value text := '\$%s';
    v_plan jsonb;
BEGIN
    IF etl._is_distributed(NULL) THEN
        -- Citus plans no parameters. There, a subquery stands for the value.
        v_value := '(\$\d+|\(InitPlan \d+\)\.col1)';
        EXECUTE 'EXPLAIN (FORMAT json, VERBOSE, COSTS off) ' || v_query || (
            SELECT string_agg(format('v.%I = (SELECT NULL::%s)', k.name, etl._column_type(p_view, k.name)), ' AND ') FROM unnest(p_key) AS k (name)
        )
        INTO v_plan;
        -- EXPLAIN has set it to off for the rest of the transaction.
        PERFORM set_config('citus.enable_local_execution', 'on', true);
    ELSE
        -- Without types: the role that runs the loads may lack USAGE on their schema.
        EXECUTE 'PREPARE _etl_read_by_key AS ' || v_query || (
            SELECT string_agg(format('v.%I = $%s', k.name, k.position), ' AND ') FROM unnest(p_key) WITH ORDINALITY AS k (name, position)
        );
        EXECUTE format(
            'EXPLAIN (FORMAT json, VERBOSE, COSTS off) EXECUTE _etl_read_by_key (%s)',
            array_to_string(array_fill('NULL'::text, ARRAY[cardinality(p_key)]), ', ')
        )
        INTO v_plan;
        DEALLOCATE _etl_read_by_key;
    END IF;
    RETURN NOT EXISTS (
        SELECT
        FROM jsonb_path_query(v_plan, 'strict $.** ? (exists (@."Relation Name"))') AS s (scan)
        JOIN (
            SELECT t.relid FROM pg_partition_tree(p_table) AS t
            UNION
            SELECT p_table
        ) AS t (relid) ON true
        JOIN pg_class AS c ON c.oid = t.relid AND c.relnamespace::regnamespace::text = quote_ident(s.scan ->> 'Schema')
        CROSS JOIN unnest(p_key) WITH ORDINALITY AS k (name, position)
        -- On the nodes of a cluster, the name of a table goes on with the number of its part.
        WHERE regexp_replace(s.scan ->> 'Relation Name', CASE WHEN v_value ~ 'InitPlan' THEN '_\d+$' ELSE '$' END, '') = c.relname
            AND concat_ws(' ', s.scan ->> 'Index Cond', s.scan ->> 'Recheck Cond', s.scan ->> 'Filter')
            -- As in "((e.thing_id)::text = $1)". A function of the key, as in "(btrim(e.thing_id) = $1)", is not the key.
            !~ format(
                '(?<![\w"])\(\(?("[^"]+"|\w+)\.%s\)?(::[^=]*)? (=|OPERATOR\([^)]*=\)) \(*' || v_value || '(\M|\))',
                regexp_replace(quote_ident(k.name), '(\W)', '\\\1', 'g'), k.position
            )
    );
END
$_is_read_by_key$;

-- Tables and columns whose changes do not reach the object that reads them.
CREATE OR REPLACE FUNCTION etl._find_unfollowed_reads()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_unfollowed_reads$
    WITH read AS (
        SELECT r.object, r.kind, c.oid::regclass AS relation, c.relkind, c.relnamespace::regnamespace::text AS schema_name
        FROM etl._transformation_reads() AS r
        JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        WHERE c.relkind <> 'v'
    )
    -- A small table is compared by its contents before each run (etl._fingerprint).
    SELECT r.object, format('its transformation reads %s, which %s', r.relation,
            CASE WHEN r.relkind IN ('r', 'm') THEN format('has %s', pg_size_pretty(pg_table_size(r.relation))) ELSE 'is foreign or partitioned' END),
        'A table that is not a mirror is compared as a whole before each run, which suits reference tables of up to 16 MB.',
        'Declare it as a source table, and read its mirror.'
    FROM read AS r
    WHERE r.schema_name <> ALL ('{stage,dwh}')
        AND (r.relkind NOT IN ('r', 'm') OR pg_table_size(r.relation) > 16 * 1024 * 1024)
    UNION ALL
    SELECT r.object, format('its transformation reads %s, which the warehouse loads itself', r.relation), 'Changes of that table would not reach the object.',
        'Read the mirrors that it is made of. Keys of dimensions are looked up by themselves (p_dimensions).'
    FROM read AS r
    WHERE r.kind IN ('dimension', 'fact')
        AND r.schema_name = 'dwh'
        AND r.relation NOT IN (SELECT d.dimension_table FROM etl.dimension AS d WHERE d.transform_view IS NULL)
    UNION ALL
    SELECT r.object, format('its contributions read %s, which does not feed it', r.relation), 'Changes of that table would not reach the aggregate.',
        'If it is a fact, name it in p_facts (fed_by); otherwise leave it out.'
    FROM read AS r
    WHERE r.kind = 'aggregate'
        AND r.schema_name = 'dwh'
        AND r.relation NOT IN (SELECT d.dimension_table FROM etl.dimension AS d)
        AND r.relation NOT IN (SELECT f.fact_table FROM etl.fact AS f JOIN etl.aggregate_fact AS l USING (fact) WHERE l.aggregate = r.object)
    UNION ALL
    SELECT a.aggregate, c.fault, c.detail, c.hint
    FROM etl.aggregate AS a
    JOIN etl.aggregate_fact AS l USING (aggregate)
    JOIN etl.fact AS f USING (fact)
    CROSS JOIN LATERAL (
        SELECT format('its contributions are found by (%s), which is no part of the key (%s) of %s', etl._list(a.contribution_key), etl._list(f.business_key), f.fact),
            'A row that moves to another such key would stay in the contribution that it leaves.',
            'Make it part of the fact''s key, so that a row that moves is another row, or choose another p_contribution_key.'
        WHERE NOT a.contribution_key <@ f.business_key
        UNION ALL
        SELECT format('a contribution is made of several rows of %s, and not of those with its key (%s) alone', f.fact_table, etl._list(a.contribution_key)),
            'A changed row would change contributions with other keys, which the aggregate would keep as they were.',
            'Choose a p_contribution_key that the rows share, such as the order of order lines. Or work it out in a view of schema kpi.'
        WHERE NOT etl._is_read_by_key(a.contribution_view, a.contribution_key, f.fact_table)
    ) AS c (fault, detail, hint)
    UNION ALL
    SELECT r.object, format('its contributions read column "%s" of %s, which changes in place', a.attname, d.dimension_table),
        'An aggregate follows the keys of its facts. A new version has a new key, an overwritten attribute has not.',
        'Give the attribute type 2, or join it to the aggregate in a view of schema kpi.'
    FROM etl._transformation_reads() AS r
    JOIN pg_rewrite AS w ON r.classid = 'pg_class'::regclass AND w.ev_class = r.objid
    JOIN pg_depend AS n ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid AND n.refclassid = 'pg_class'::regclass
    JOIN etl.dimension AS d ON d.dimension_table = n.refobjid AND d.transform_view IS NOT NULL
    JOIN pg_attribute AS a ON a.attrelid = n.refobjid AND a.attnum = n.refobjsubid
    WHERE r.kind = 'aggregate'
        AND a.attname <> ALL (d.surrogate_key || d.business_key)
        AND NOT EXISTS (
            SELECT
            FROM etl.dimension_attribute AS t
            WHERE t.dimension = d.dimension
                AND t.attribute = a.attname
                -- A log may correct what an earlier version holds.
                AND (t.scd_type = 0 OR t.scd_type = 2 AND (d.history_view IS NULL OR etl._column_type(d.history_view, a.attname) IS NULL))
        )
$_find_unfollowed_reads$;

-- Transformations that read the clock, the session or chance. Their values change although no source row does.
CREATE OR REPLACE FUNCTION etl._find_fleeting_values()
RETURNS TABLE (object name, fault text, detail text, hint text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_find_fleeting_values$
    WITH defined AS (
        SELECT r.object, 'view ' || c.oid::regclass AS name, pg_get_viewdef(c.oid) AS definition
        FROM etl._transformation_reads() AS r
        JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid AND c.relkind = 'v'
        UNION ALL
        SELECT r.object, 'function ' || p.oid::regprocedure, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)
        FROM etl._transformation_reads() AS r
        JOIN pg_proc AS p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
    )
    SELECT d.object, format('%s reads "%s"', d.name, lower(m.found[2])), 'Its value changes without a change of the source, and the rows would keep what it was when they were loaded.',
        'Leave it out. What depends on the present belongs into a view of schema kpi.'
    FROM defined AS d
    CROSS JOIN LATERAL regexp_match(
        -- Without literals, quoted names and comments.
        regexp_replace(d.definition, $re$'([^']|'')*'|"([^"]|"")*"|--[^\n]*|/\*([^*]|\*+[^*/])*\*+/$re$, ' ', 'g'),
        -- age() of one argument counts from today.
        format(
            '(^|[^.\w]|\mpg_catalog\.)(%s|age(?=\s*\([^,()]*(\([^()]*\)[^,()]*)*\))|(%s)(?=\s*\())',
            'current_(date|time|timestamp|user|role|catalog|schema)\M|(local(time|timestamp)|(session|system)_user)\M',
            (
                SELECT string_agg(p.proname, '|')
                FROM (
                    SELECT f.proname
                    FROM pg_proc AS f
                    WHERE f.pronamespace = 'pg_catalog'::regnamespace
                    GROUP BY f.proname
                    HAVING bool_and(f.provolatile = 'v')
                        OR f.proname IN ('now', 'statement_timestamp', 'transaction_timestamp', 'current_setting')
                ) AS p
            )
        ),
        'i'
    ) AS m (found)
    WHERE m.found IS NOT NULL
$_find_fleeting_values$;

-- Mirrors that a view reads, through other views as well, and whether every view that reads the mirror reads its column deleted_at.
CREATE OR REPLACE FUNCTION etl._mirrors_of(p_view regclass)
RETURNS TABLE (source_table name, sees_deletions boolean)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_mirrors_of$
    WITH RECURSIVE read (view, relation, attnum) AS (
        SELECT NULL::oid, p_view::oid, 0
        UNION
        SELECT v.relation, d.refobjid, d.refobjsubid
        FROM read AS v
        JOIN pg_rewrite AS w ON w.ev_class = v.relation
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    )
    SELECT m.relname, bool_and(m.sees_deletions)
    FROM (
        SELECT c.relname, coalesce(bool_or(a.attname = 'deleted_at'), false) AS sees_deletions
        FROM read AS r
        JOIN pg_class AS c ON c.oid = r.relation AND c.relnamespace = 'stage'::regnamespace
        LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = r.attnum
        GROUP BY r.view, c.relname
    ) AS m
    GROUP BY m.relname
$_mirrors_of$;
