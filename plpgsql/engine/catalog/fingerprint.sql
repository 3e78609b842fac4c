-- What the rows of an object depend on besides the mirrors: the views that transform them, the functions that these call, the settings and small
-- reference tables that both read, the object's declaration, and the statements that the engine compiles from these. A fingerprint shows whether
-- all that is still what the rows were loaded with.

-- Relations and functions that a view or function reads or calls directly. For a view, and a function whose body PostgreSQL has parsed, these are its
-- recorded dependencies; for any other function, those whose names occur in its body, names of tables with their schema. The engine's own tables and
-- functions, and PostgreSQL's, are left out.
CREATE OR REPLACE FUNCTION etl._reads_of(p_classid oid, p_objid oid)
RETURNS TABLE (classid oid, objid oid)
LANGUAGE sql
STABLE
-- The calling recursion sizes its hash table by this estimate; the default of 1,000 rows took longer than everything else together.
ROWS 2
SET search_path = pg_catalog, pg_temp
-- A plan for one object looks cheaper, because it leaves out the half that does not apply. Making it took ten times as long as the reading.
SET plan_cache_mode = force_generic_plan
AS $_reads_of$
    WITH noted (refclassid, refobjid) AS (
        SELECT d.refclassid, d.refobjid
        FROM pg_class AS v
        JOIN pg_rewrite AS r ON r.ev_class = v.oid
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE p_classid = 'pg_class'::regclass
            AND v.oid = p_objid
            -- A materialized view counts by its rows, like a table.
            AND v.relkind = 'v'
        UNION
        SELECT d.refclassid, d.refobjid
        FROM pg_depend AS d
        WHERE p_classid = 'pg_proc'::regclass
            AND d.classid = p_classid
            AND d.objid = p_objid
    )
    SELECT n.refclassid, n.refobjid
    FROM noted AS n
    LEFT JOIN pg_class AS c ON n.refclassid = 'pg_class'::regclass AND c.oid = n.refobjid
    LEFT JOIN pg_proc AS f ON n.refclassid = 'pg_proc'::regclass AND f.oid = n.refobjid
    WHERE c.relkind = 'v'
        OR coalesce(c.relnamespace, f.pronamespace)::regnamespace::text <> ALL ('{pg_catalog,information_schema,etl}')
    UNION
    SELECT 'pg_proc'::regclass, o.oprcode
    FROM noted AS n
    JOIN pg_operator AS o ON n.refclassid = 'pg_operator'::regclass AND o.oid = n.refobjid
    WHERE o.oprnamespace <> 'pg_catalog'::regnamespace
    UNION
    SELECT m.classid, m.objid
    FROM pg_proc AS p
    JOIN (
        SELECT 'pg_proc'::regclass::oid, f.oid, f.proname, n.nspname
        FROM pg_proc AS f
        JOIN pg_namespace AS n ON n.oid = f.pronamespace
        UNION ALL
        SELECT 'pg_class'::regclass, c.oid, CASE WHEN c.relkind IN ('v', 'm') THEN c.relname ELSE n.nspname || '.' || c.relname END, n.nspname
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm', 'r', 'p', 'f')
    ) AS m (classid, objid, name, schema_name) ON m.schema_name <> ALL ('{pg_catalog,information_schema,etl}')
        AND position(m.name IN p.prosrc) > 0
        -- A name without schema may be resolved by the function's search_path.
        AND p.prosrc ~ ('\m' || regexp_replace(m.name, '(\W)', '\\\1', 'g') || '\M')
    WHERE p_classid = 'pg_proc'::regclass
        AND p.oid = p_objid
        AND p.prosqlbody IS NULL
        AND m.objid <> p_objid
$_reads_of$;

-- Checksum of the rows of a table, in whatever order they lie.
CREATE OR REPLACE FUNCTION etl._content_checksum(p_table regclass)
RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, MDY'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
AS $_content_checksum$
DECLARE
    v_checksum text;
BEGIN
    EXECUTE format('SELECT concat(count(*), '':'', sum(hashtextextended(t::text, 0)::numeric)) FROM %s AS t', p_table) INTO v_checksum;
    RETURN v_checksum;
END
$_content_checksum$;

-- Fingerprint of the definitions that the rows of an object depend on: each part by its name, such as "view work.dim_person" or "setting time_zone",
-- with a checksum of its definition, or with the value of a setting.
CREATE OR REPLACE FUNCTION etl._fingerprint(p_object name)
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
-- Session settings change how definitions are printed.
SET quote_all_identifiers = off
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, MDY'
SET IntervalStyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
AS $_fingerprint$
    WITH RECURSIVE declared (part, definition, views) AS (
        SELECT 'declaration', to_jsonb(d)::text, ARRAY[d.transform_view, d.history_view]
        FROM etl.dimension AS d
        WHERE d.dimension = p_object
        UNION ALL
        SELECT 'attribute ' || a.attribute, to_jsonb(a)::text, NULL
        FROM etl.dimension_attribute AS a
        WHERE a.dimension = p_object
        UNION ALL
        SELECT 'declaration', to_jsonb(f)::text, ARRAY[f.transform_view]
        FROM etl.fact AS f
        WHERE f.fact = p_object
        UNION ALL
        SELECT 'key column ' || k.key_column, to_jsonb(k)::text, NULL
        FROM etl.fact_dimension AS k
        WHERE k.fact = p_object
        UNION ALL
        SELECT 'declaration', to_jsonb(a)::text, ARRAY[a.contribution_view]
        FROM etl.aggregate AS a
        WHERE a.aggregate = p_object
        UNION ALL
        SELECT 'fed by ' || l.fact, to_jsonb(l)::text, NULL
        FROM etl.aggregate_fact AS l
        WHERE l.aggregate = p_object
        UNION ALL
        SELECT 'dependency on ' || n.source_table, (to_jsonb(n) - 'is_derived')::text, NULL
        FROM etl.dependency AS n
        WHERE n.object = p_object
    ),
    reads (classid, objid) AS (
        SELECT 'pg_class'::regclass::oid, v.view::oid
        FROM declared AS d
        CROSS JOIN LATERAL unnest(d.views) AS v (view)
        WHERE v.view IS NOT NULL
        UNION
        SELECT n.classid, n.objid
        FROM reads AS r
        CROSS JOIN LATERAL etl._reads_of(r.classid, r.objid) AS n
    ),
    defined (part, definition) AS (
        SELECT
            'view ' || c.oid::regclass,
            pg_get_viewdef(c.oid) || (
                SELECT string_agg(format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
                FROM pg_attribute AS a
                WHERE a.attrelid = c.oid
                    AND a.attnum > 0
            )
        FROM reads AS r
        JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        WHERE c.relkind = 'v'
        UNION ALL
        SELECT 'table ' || c.oid::regclass, etl._content_checksum(c.oid)
        FROM reads AS r
        JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        WHERE c.relkind <> 'v'
            AND c.relnamespace::regnamespace::text <> ALL ('{stage,dwh}')
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure, CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END
        FROM reads AS r
        JOIN pg_proc AS p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
    ),
    reading (definition, are_named) AS (
        SELECT d.definition, EXISTS (SELECT FROM etl.setting AS s WHERE position(quote_literal(s.name) IN d.definition) > 0)
        FROM defined AS d
        WHERE d.definition ~ 'get_setting\(|etl\.setting'
    )
    SELECT jsonb_object_agg(p.part, p.value)
    FROM (
        SELECT d.part, md5(d.definition) AS value
        FROM declared AS d
        UNION ALL
        -- The rows that a dimension or fact should hold: another version of the engine may compile other ones. An aggregate only adds up.
        SELECT 'routine compiled.' || r.proname, md5(r.prosrc)
        FROM pg_proc AS r
        WHERE r.pronamespace = 'compiled'::regnamespace
            AND r.proname = 'verify_' || p_object
        UNION ALL
        SELECT d.part, md5(d.definition)
        FROM defined AS d
        UNION ALL
        -- If a definition does not name the setting that it reads, it may read any.
        SELECT 'setting ' || s.name, s.value
        FROM etl.setting AS s
        WHERE EXISTS (
            SELECT
            FROM reading AS d
            WHERE NOT d.are_named
                OR position(quote_literal(s.name) IN d.definition) > 0
        )
    ) AS p
$_fingerprint$;

-- Those that were never loaded, whose refresh is requested, or with a definition that has changed; in the order in which they are loaded.
CREATE OR REPLACE FUNCTION etl.plan()
RETURNS TABLE (object name, kind text, reasons text[])
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $plan$
    SELECT
        l.object,
        t.kind,
        CASE
            WHEN l.loaded_at IS NULL THEN '{it was never loaded}'
            WHEN l.fingerprint IS NULL THEN '{it is not known what it was loaded with}'
            WHEN l.needs_reload AND cardinality(c.changes) = 0 THEN '{a full refresh is requested}'
            ELSE c.changes
        END
    FROM etl.load_state AS l
    JOIN etl.task AS t ON t.object = l.object AND t.kind IN ('dimension', 'fact', 'aggregate')
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(d.sentence ORDER BY d.part) FILTER (WHERE d.is_reason OR d.is_only_reason), '{}')
        FROM (
            SELECT
                p.part,
                CASE
                    WHEN b.value IS NULL THEN p.part || ' is new'
                    WHEN n.value IS NULL THEN p.part || ' is gone'
                    WHEN p.part LIKE 'setting %' THEN format('%s has changed from %s to %s', p.part, b.value, n.value)
                    ELSE p.part || ' has changed'
                END AS sentence,
                -- A routine changes with every definition that it is compiled from.
                p.part NOT LIKE 'routine %' AS is_reason,
                bool_and(p.part LIKE 'routine %') OVER () AS is_only_reason
            FROM jsonb_each_text(l.fingerprint) AS b
            FULL JOIN jsonb_each_text(etl._fingerprint(l.object)) AS n ON n.key = b.key
            CROSS JOIN LATERAL coalesce(n.key, b.key) AS p (part)
            WHERE n.value IS DISTINCT FROM b.value
        ) AS d
    ) AS c (changes)
    WHERE l.needs_reload
        OR l.fingerprint IS NULL
        OR cardinality(c.changes) > 0
    ORDER BY t.position
$plan$;
COMMENT ON FUNCTION etl.plan() IS 'Objects that the next run loads completely, and why.';

-- Signature of everything that fingerprints are made of: while it is the same, no fingerprint has changed.
CREATE OR REPLACE FUNCTION etl._definition_signature()
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_definition_signature$
    -- The xmin of each catalog row that holds a definition, and the rows of small tables: cheap to read, and no change escapes it.
    SELECT md5(concat_ws(
        ',',
        -- What a session has for itself is left out: no rows depend on it.
        (
            SELECT string_agg(r.oid || ':' || r.xmin, ',' ORDER BY r.oid)
            FROM pg_rewrite AS r
            JOIN pg_class AS c ON c.oid = r.ev_class AND c.relpersistence <> 't'
            WHERE r.oid >= 16384
        ),
        (
            SELECT string_agg(p.oid || ':' || p.xmin, ',' ORDER BY p.oid)
            FROM pg_proc AS p
            JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname NOT LIKE 'pg\_temp%'
            WHERE p.oid >= 16384
        ),
        (
            SELECT string_agg(concat_ws(':', c.oid, c.relfilenode, i.inhparent, g.oid, g.xmin), ',' ORDER BY c.oid, i.inhparent, g.oid)
            FROM pg_class AS c
            LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
            LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND NOT g.tgisinternal
            WHERE c.oid >= 16384
                AND c.relkind IN ('m', 'p', 'r')
                AND c.relpersistence <> 't'
                AND c.relnamespace::regnamespace::text <> ALL ('{audit,delta,dwh,etl,pg_toast,stage,work}')
        ),
        (SELECT string_agg(s.name || ':' || s.value, ',' ORDER BY s.name) FROM etl.setting AS s),
        (
            SELECT string_agg(etl._content_checksum(to_regclass(t.name)), ',' ORDER BY t.name)
            FROM (
                SELECT DISTINCT substr(k.part, 7)
                FROM etl.load_state AS l
                CROSS JOIN LATERAL jsonb_object_keys(l.fingerprint) AS k (part)
                WHERE k.part LIKE 'table %'
            ) AS t (name)
            WHERE to_regclass(t.name) IS NOT NULL
        ),
        (SELECT string_agg(to_jsonb(d)::text, ',' ORDER BY d.dimension) FROM etl.dimension AS d),
        (SELECT string_agg(to_jsonb(a)::text, ',' ORDER BY a.dimension, a.attribute) FROM etl.dimension_attribute AS a),
        (SELECT string_agg(to_jsonb(f)::text, ',' ORDER BY f.fact) FROM etl.fact AS f),
        (SELECT string_agg(to_jsonb(k)::text, ',' ORDER BY k.fact, k.key_column) FROM etl.fact_dimension AS k),
        (SELECT string_agg(to_jsonb(g)::text, ',' ORDER BY g.aggregate) FROM etl.aggregate AS g),
        (SELECT string_agg(to_jsonb(l)::text, ',' ORDER BY l.aggregate, l.fact) FROM etl.aggregate_fact AS l),
        (SELECT string_agg(to_jsonb(n)::text, ',' ORDER BY n.object, n.source_table) FROM etl.dependency AS n)
    ))
$_definition_signature$;

-- State of what the contract of a source table reads, as a checksum: the definitions of its views and functions, and of each table its identity, its
-- file, its partitions and its triggers. It changes when a view is replaced, a table is created again or swapped, a partition is attached, detached
-- or truncated, or a trigger is disabled or enabled: no trigger of the source marks the rows that this brings or takes.
CREATE OR REPLACE FUNCTION etl._contract_state(p_source_table name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $_contract_state$
    WITH RECURSIVE reads (classid, objid) AS (
        SELECT 'pg_class'::regclass::oid, to_regclass(format('source.%I', p_source_table))::oid
        UNION
        SELECT n.classid, n.objid
        FROM reads AS r
        CROSS JOIN LATERAL (
            SELECT * FROM etl._reads_of(r.classid, r.objid)
            UNION ALL
            SELECT r.classid, i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = r.objid
        ) AS n (classid, objid)
    )
    SELECT md5(string_agg(d.definition, ',' ORDER BY d.definition))
    FROM (
        SELECT concat_ws(
            ':', c.oid, c.relfilenode, CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END,
            (SELECT string_agg(g.oid || ':' || g.xmin, ',' ORDER BY g.oid) FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)
        )
        FROM reads AS r
        JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        UNION ALL
        SELECT p.oid || ':' || p.xmin
        FROM reads AS r
        JOIN pg_proc AS p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
    ) AS d (definition)
$_contract_state$;

-- Requests a full refresh of the objects whose definitions have changed since their last full load, and a complete comparison of the source tables
-- whose contract reads something else. Aggregates of such a fact apply its differences, as in any load.
-- Returns: the objects and their changes, empty if no object was loaded with what has changed; NULL if no definition has changed, or if another
-- session locks a table that a view reads: then the next run checks again.
CREATE OR REPLACE FUNCTION etl._request_changed()
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $_request_changed$
DECLARE
    v_signature text;
    v_before jsonb;
    v_now jsonb;
    v_sources text[];
    v_reasons jsonb;
BEGIN
    -- Here, and not above: the handler below catches nothing that happens in a declaration.
    v_signature := etl._definition_signature();
    SELECT c.contract_states
    INTO v_before
    FROM etl.run_control AS c
    WHERE c.definition_signature IS DISTINCT FROM v_signature;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT
        coalesce(jsonb_object_agg(s.source_table, s.state), '{}'),
        coalesce(array_agg(s.source_table) FILTER (WHERE v_before ->> s.source_table::text <> s.state), '{}')
    INTO v_now, v_sources
    FROM (SELECT t.source_table, etl._contract_state(t.source_table) FROM etl.source_table AS t) AS s (source_table, state);
    UPDATE etl.watermark AS w
    SET compared_at = NULL
    WHERE w.source_table = ANY (v_sources);
    WITH changed AS (
        UPDATE etl.load_state AS l
        SET needs_reload = true
        FROM etl.plan() AS p
        WHERE p.object = l.object
            AND l.loaded_at IS NOT NULL
            AND NOT l.needs_reload
        RETURNING l.object, p.reasons
    )
    SELECT coalesce(jsonb_object_agg(c.object, c.reasons), '{}')
    INTO v_reasons
    FROM (
        SELECT * FROM changed
        UNION ALL
        SELECT s.name, ARRAY[format('what source.%I reads has changed', s.name)] FROM unnest(v_sources) AS s (name)
    ) AS c;
    UPDATE etl.run_control
    SET definition_signature = v_signature,
        contract_states = v_now;
    RETURN v_reasons;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN NULL;
END
$_request_changed$;
