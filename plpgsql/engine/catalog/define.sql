-- Declarations: one call for each object of a business. What can be derived is derived: keys from constraints, attributes from the columns that view
-- and table share, names of tables and views from the name of the object. A table of a dimension, fact or aggregate that does not exist
-- is created in the shape of its view.
--
-- An installation declares its business in one transaction, between etl.begin_declarations() and etl.end_declarations(): what it no longer declares
-- leaves the catalog. Tables with data stay. Declarations made at other times stay until they are dropped by hand.

CREATE OR REPLACE FUNCTION etl.begin_declarations(p_business text)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $begin_declarations$
    SELECT set_config('etl.business', p_business, true)
$begin_declarations$;
COMMENT ON FUNCTION etl.begin_declarations(text) IS 'Begins the declarations of a business: end_declarations() drops from the catalog what it no longer declares.';

-- Records that an object is declared by this transaction.
CREATE OR REPLACE FUNCTION etl._declare(p_kind text, p_object name)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_declare$
    INSERT INTO etl.declaration (kind, object, business, declared_by)
    VALUES (p_kind, p_object, nullif(current_setting('etl.business', true), ''), pg_current_xact_id())
    ON CONFLICT (kind, object) DO UPDATE
    SET business = excluded.business,
        declared_by = excluded.declared_by
$_declare$;

-- The tables of what is dropped stay, with their data. Returns kind and name of each object.
CREATE OR REPLACE FUNCTION etl.end_declarations()
RETURNS TABLE (kind text, object name)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $end_declarations$
DECLARE
    v_gone etl.declaration[] := ARRAY(
        SELECT d
        FROM etl.declaration AS d
        WHERE d.business = current_setting('etl.business', true)
            AND d.declared_by <> pg_current_xact_id()
    );
    v_loaded name[] := ARRAY(SELECT g.object FROM unnest(v_gone) AS g WHERE g.kind IN ('dimension', 'fact', 'aggregate'));
    v_sources name[] := ARRAY(SELECT g.object FROM unnest(v_gone) AS g WHERE g.kind = 'source');
BEGIN
    -- What stands on another goes before it. Foreign keys of the catalog refuse an object that still stands on one that is dropped.
    DELETE FROM etl.aggregate AS a USING unnest(v_gone) AS g WHERE g.kind = 'aggregate' AND g.object = a.aggregate;
    DELETE FROM etl.fact AS f USING unnest(v_gone) AS g WHERE g.kind = 'fact' AND g.object = f.fact;
    DELETE FROM etl.dimension AS d USING unnest(v_gone) AS g WHERE g.kind = 'dimension' AND g.object = d.dimension;
    DELETE FROM etl.dependency AS p WHERE p.object = ANY (v_loaded);
    DELETE FROM etl.source_table AS s WHERE s.source_table = ANY (v_sources);
    DELETE FROM etl.load_state AS l WHERE l.object = ANY (v_loaded);
    DELETE FROM etl.quarantine AS q WHERE q.object = ANY (v_loaded || v_sources);
    DELETE FROM etl.quality_check AS c USING unnest(v_gone) AS g WHERE g.kind = 'check' AND g.object = c.check_name;
    DELETE FROM etl.row_filter AS f USING unnest(v_gone) AS g WHERE g.kind = 'row filter' AND g.object = f.attribute;
    DELETE FROM etl.declaration AS d USING unnest(v_gone) AS g WHERE (d.kind, d.object) = (g.kind, g.object);
    PERFORM set_config('etl.business', '', true);
    RETURN QUERY
    SELECT g.kind, g.object
    FROM unnest(v_gone) AS g;
END
$end_declarations$;
COMMENT ON FUNCTION etl.end_declarations() IS 'Ends the declarations of a business: drops from the catalog what it no longer declares; returns what was dropped.';

-- The relation that a declaration gives, or the one that bears the object's name; ET003 when there is none.
CREATE OR REPLACE FUNCTION etl._relation_of(p_schema text, p_name name, p_given regclass)
RETURNS regclass
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_relation_of$
DECLARE
    v_relation regclass := coalesce(p_given, to_regclass(format('%I.%I', p_schema, p_name)));
BEGIN
    IF v_relation IS NULL THEN
        RAISE EXCEPTION 'catalog of "%": there is no relation %', p_name, format('%I.%I', p_schema, p_name)
            USING ERRCODE = 'ET003', HINT = 'Create it before the declaration, or name another one there.';
    END IF;
    RETURN v_relation;
END
$_relation_of$;

-- Parameters: p_name, its name; p_key, columns that identify a row (by default the primary key of the table that the contract view reads);
-- p_change_column, of type xid8 (the writing transaction) or timestamptz (the time of change), by default row_xid or updated_at where the relation
-- has one, otherwise all rows are compared every time, as they are with ''; p_delete_detection, tombstone, comparison or none, by default tombstone
-- where the change column is exact and source.tombstones exists, otherwise comparison; p_lookback, how far before the last time of change rows are
-- read again.
-- Errors: ET003 when the relation does not exist, or no key can be derived.
CREATE OR REPLACE FUNCTION etl.define_source(
    p_name name,
    p_key name[] DEFAULT NULL,
    p_change_column name DEFAULT NULL,
    p_delete_detection text DEFAULT NULL,
    p_lookback interval DEFAULT '10 minutes'
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_source$
DECLARE
    v_relation regclass := etl._relation_of('source', p_name, NULL);
    -- While the source is on another server, its view waits in source_local.
    v_key name[] := coalesce(p_key, etl._primary_key_behind(coalesce(to_regclass(format('source_local.%I', p_name)), v_relation)));
    v_change name := nullif(coalesce(p_change_column, (
        SELECT c.name
        FROM (VALUES ('row_xid'::name, 'xid8'), ('updated_at', 'timestamp with time zone')) AS c (name, type)
        WHERE etl._column_type(v_relation, c.name) = c.type
        LIMIT 1
    )), '');
    v_detection text := CASE WHEN v_change IS NULL THEN 'comparison' WHEN etl._column_type(v_relation, v_change) = 'xid8' THEN 'snapshot' ELSE 'timestamp' END;
BEGIN
    IF v_key IS NULL THEN
        RAISE EXCEPTION 'catalog of "%": no key can be derived', p_name
            USING ERRCODE = 'ET003', DETAIL = 'The contract view reads no table whose primary key it returns.', HINT = 'Declare it: p_key => ''{…}''.';
    END IF;
    INSERT INTO etl.source_table AS s (source_table, key_columns, change_detection, change_column, delete_detection, lookback)
    VALUES (
        p_name, v_key, v_detection, v_change,
        coalesce(p_delete_detection, CASE WHEN v_detection = 'snapshot' AND to_regclass('source.tombstones') IS NOT NULL THEN 'tombstone' ELSE 'comparison' END),
        p_lookback
    )
    ON CONFLICT (source_table) DO UPDATE
    SET key_columns = excluded.key_columns,
        change_detection = excluded.change_detection,
        change_column = excluded.change_column,
        delete_detection = excluded.delete_detection,
        lookback = excluded.lookback;
    PERFORM etl._declare('source', p_name);
END
$define_source$;
COMMENT ON FUNCTION etl.define_source(name, name[], name, text, interval) IS 'Declares a source table; key, change column and delete detection are derived where they are not given.';

-- Parameters: p_source_table, the source table; p_key_query, a SELECT of the object's business key from "changed", the changed rows of the source
-- table before and after (by default the business key's columns of "changed" themselves); p_watched_columns, the only columns whose changes count
-- (all by default).
CREATE OR REPLACE FUNCTION etl.depends_on(p_source_table name, p_key_query text DEFAULT NULL, p_watched_columns name[] DEFAULT NULL)
RETURNS etl.dependency
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $depends_on$
    SELECT ROW(NULL, p_source_table, p_key_query, p_watched_columns, false)::etl.dependency
$depends_on$;
COMMENT ON FUNCTION etl.depends_on(name, text, name[]) IS 'Says which keys of an object a change in a source table touches, for p_depends_on of a declaration.';

-- Records the dependencies of an object: those that are declared, and the mirrors with its business key that its views read by this key alone. For
-- any other mirror that its views read, etl.build() wants a declaration.
CREATE OR REPLACE FUNCTION etl._define_dependencies(p_object name, p_key name[], p_views regclass[], p_depends_on etl.dependency[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_define_dependencies$
BEGIN
    DELETE FROM etl.dependency AS p
    WHERE p.object = p_object;
    INSERT INTO etl.dependency (object, source_table, key_query, watched_columns)
    SELECT p_object, d.source_table, coalesce(d.key_query, format('SELECT %s FROM changed', etl._list(p_key))), d.watched_columns
    FROM unnest(p_depends_on) AS d;
    INSERT INTO etl.dependency (object, source_table, key_query, is_derived)
    SELECT p_object, m.source_table, format('SELECT %s FROM changed', etl._list(p_key)), true
    FROM unnest(p_views) AS v (view)
    CROSS JOIN LATERAL etl._mirrors_of(v.view) AS m
    JOIN etl.source_table AS s USING (source_table)
    WHERE s.key_columns @> p_key
        AND s.key_columns <@ p_key
        AND s.source_table NOT IN (SELECT d.source_table FROM unnest(p_depends_on) AS d)
        AND p_key <@ etl._columns(v.view)
    GROUP BY m.source_table
    HAVING bool_and(etl._is_read_by_key(v.view, p_key, format('stage.%I', m.source_table)::regclass));
END
$_define_dependencies$;

-- Parameters: p_name, its name; p_key, its business key; p_type_2, attributes whose change opens a new version; p_type_0, attributes that keep their
-- first value (all others are overwritten in all versions); p_depends_on, dependencies by etl.depends_on(): its own source table follows from the
-- key; p_table, p_view, p_history_view, by default dwh.<name>, work.<name> and, where it exists, work.<name>_history; p_surrogate_key, by default the
-- table's primary key; p_is_loaded, false for a dimension that is filled once and for all.
-- Errors: ET003 when a relation does not exist.
CREATE OR REPLACE FUNCTION etl.define_dimension(
    p_name name,
    p_key name[],
    p_type_2 name[] DEFAULT '{}',
    p_type_0 name[] DEFAULT '{}',
    p_depends_on etl.dependency[] DEFAULT '{}',
    p_table regclass DEFAULT NULL,
    p_view regclass DEFAULT NULL,
    p_history_view regclass DEFAULT NULL,
    p_surrogate_key name DEFAULT NULL,
    p_is_loaded boolean DEFAULT true
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_dimension$
DECLARE
    v_view regclass := CASE WHEN p_is_loaded THEN etl._relation_of('work', p_name, p_view) END;
    v_history regclass := CASE WHEN p_is_loaded THEN coalesce(p_history_view, to_regclass(format('work.%I', p_name || '_history'))) END;
    v_table regclass;
BEGIN
    IF p_is_loaded AND p_table IS NULL AND to_regclass(format('dwh.%I', p_name)) IS NULL THEN
        PERFORM etl._create_dimension_table(p_name, p_key, v_view);
    END IF;
    v_table := etl._relation_of('dwh', p_name, p_table);
    INSERT INTO etl.dimension (dimension, dimension_table, transform_view, history_view, surrogate_key, business_key)
    VALUES (p_name, v_table, v_view, v_history, coalesce(p_surrogate_key, (etl._primary_key(v_table))[1]), p_key)
    ON CONFLICT (dimension) DO UPDATE
    SET dimension_table = excluded.dimension_table,
        transform_view = excluded.transform_view,
        history_view = excluded.history_view,
        surrogate_key = excluded.surrogate_key,
        business_key = excluded.business_key;

    DELETE FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_name;
    INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
    SELECT p_name, a.name, CASE WHEN a.name = ANY (p_type_2) THEN 2 WHEN a.name = ANY (p_type_0) THEN 0 ELSE 1 END
    FROM unnest(
        -- Those that are named, so that a misspelt one is refused, and all that view and table share.
        p_type_2 || p_type_0 || etl._without(
            ARRAY(SELECT unnest(etl._columns(v_view)) INTERSECT SELECT unnest(etl._writable_columns(v_table))),
            p_key || p_type_2 || p_type_0 || '{effective_at,deleted_at,valid_from,valid_to,is_current,run_id}'::name[]
        )
    ) AS a (name)
    WHERE p_is_loaded;
    PERFORM etl._define_dependencies(p_name, p_key, array_remove(ARRAY[v_view, v_history], NULL), p_depends_on);
    PERFORM etl._declare('dimension', p_name);
END
$define_dimension$;
COMMENT ON FUNCTION etl.define_dimension(name, name[], name[], name[], etl.dependency[], regclass, regclass, regclass, name, boolean) IS 'Declares a dimension: business key and the type of its attributes; the rest is derived where it is not given.';

-- Parameters: p_dimension, the dimension; p_key_column, column of the fact (by default the surrogate key's name); p_lookup, columns of the fact's
-- view that hold the business key (by default columns of its name); p_as_of, column with the point in time whose version is wanted, needed where an
-- attribute of the dimension has type 2; p_null_key, key of a row without a business key; p_through, another key column whose member has the lookup
-- columns.
CREATE OR REPLACE FUNCTION etl.fact_key(
    p_dimension name,
    p_key_column name DEFAULT NULL,
    p_lookup name[] DEFAULT NULL,
    p_as_of name DEFAULT NULL,
    p_null_key bigint DEFAULT -1,
    p_through name DEFAULT NULL
) RETURNS etl.fact_dimension
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $fact_key$
    SELECT ROW(
        NULL, coalesce(p_key_column, d.surrogate_key), p_dimension, coalesce(p_lookup, d.business_key), p_as_of, p_null_key, p_through
    )::etl.fact_dimension
    FROM (SELECT p_dimension) AS g (dimension)
    LEFT JOIN etl.dimension AS d USING (dimension)
$fact_key$;
COMMENT ON FUNCTION etl.fact_key(name, name, name[], name, bigint, name) IS 'Says which dimension a key column of a fact refers to, for p_dimensions of a declaration.';

-- Parameters: p_name, its name; p_key, its business key, the grain; p_measures, columns that a deleted row takes out of every sum; p_dimensions, its
-- keys by etl.fact_key(); p_depends_on, dependencies by etl.depends_on(): its own source table follows from the key; p_table, p_view, by default
-- dwh.<name> and work.<name>.
-- Errors: ET003 when a relation does not exist.
CREATE OR REPLACE FUNCTION etl.define_fact(
    p_name name,
    p_key name[],
    p_measures name[] DEFAULT '{}',
    p_dimensions etl.fact_dimension[] DEFAULT '{}',
    p_depends_on etl.dependency[] DEFAULT '{}',
    p_table regclass DEFAULT NULL,
    p_view regclass DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_fact$
DECLARE
    v_view regclass := etl._relation_of('work', p_name, p_view);
    v_dimension name := (SELECT k.dimension FROM unnest(p_dimensions) AS k WHERE k.dimension NOT IN (SELECT d.dimension FROM etl.dimension AS d) LIMIT 1);
BEGIN
    IF v_dimension IS NOT NULL THEN
        RAISE EXCEPTION 'catalog of "%": there is no dimension "%"', p_name, v_dimension
            USING ERRCODE = 'ET003', HINT = 'Declare the dimension before the fact.';
    END IF;
    IF p_table IS NULL AND to_regclass(format('dwh.%I', p_name)) IS NULL THEN
        PERFORM etl._create_fact_table(p_name, p_key, v_view, p_dimensions);
    END IF;
    INSERT INTO etl.fact (fact, fact_table, transform_view, business_key, measures)
    VALUES (p_name, etl._relation_of('dwh', p_name, p_table), v_view, p_key, p_measures)
    ON CONFLICT (fact) DO UPDATE
    SET fact_table = excluded.fact_table,
        transform_view = excluded.transform_view,
        business_key = excluded.business_key,
        measures = excluded.measures;

    DELETE FROM etl.fact_dimension AS k
    WHERE k.fact = p_name;
    INSERT INTO etl.fact_dimension (fact, key_column, dimension, lookup_columns, as_of_column, null_key, lookup_role)
    SELECT p_name, k.key_column, k.dimension, k.lookup_columns, k.as_of_column, k.null_key, k.lookup_role
    FROM unnest(p_dimensions) AS k;
    PERFORM etl._define_dependencies(p_name, p_key, ARRAY[v_view], p_depends_on);
    PERFORM etl._declare('fact', p_name);
END
$define_fact$;
COMMENT ON FUNCTION etl.define_fact(name, name[], name[], etl.fact_dimension[], etl.dependency[], regclass, regclass) IS 'Declares a fact: grain, measures and dimensions; the rest is derived where it is not given.';

-- Parameters: p_fact, the fact; p_watched_columns, columns of it that the contribution view reads (all by default).
CREATE OR REPLACE FUNCTION etl.fed_by(p_fact name, p_watched_columns name[] DEFAULT NULL)
RETURNS etl.aggregate_fact
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $fed_by$
    SELECT ROW(NULL, p_fact, p_watched_columns)::etl.aggregate_fact
$fed_by$;
COMMENT ON FUNCTION etl.fed_by(name, name[]) IS 'Says that changes of a fact touch an aggregate, for p_facts of a declaration.';

-- Parameters: p_name, its name; p_group, columns that identify a row; p_measures, additive measures; p_contribution_key, columns of the contribution
-- view and of its facts by which contributions are found; p_facts, facts by etl.fed_by(); p_rollup_of, a finer aggregate of the same contributions
-- that feeds this one in place of facts; p_rollup_expressions, what its columns (alias c) make each group column from, where they are not the same;
-- p_table, p_view, by default dwh.<name> and work.<name>.
-- Errors: ET003 when a relation does not exist.
CREATE OR REPLACE FUNCTION etl.define_aggregate(
    p_name name,
    p_group name[],
    p_measures name[],
    p_contribution_key name[],
    p_facts etl.aggregate_fact[] DEFAULT '{}',
    p_rollup_of name DEFAULT NULL,
    p_rollup_expressions text[] DEFAULT NULL,
    p_table regclass DEFAULT NULL,
    p_view regclass DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_aggregate$
DECLARE
    v_view regclass := etl._relation_of('work', p_name, coalesce(p_view, (SELECT a.contribution_view FROM etl.aggregate AS a WHERE a.aggregate = p_rollup_of)));
BEGIN
    IF p_table IS NULL AND to_regclass(format('dwh.%I', p_name)) IS NULL THEN
        PERFORM etl._create_target(
            p_name,
            v_view,
            '{{columns}}run_id bigint NOT NULL, PRIMARY KEY ({{group}})',
            jsonb_build_object('group', to_jsonb(p_group), 'columns', concat(etl._column_definitions(v_view, p_group, ' NOT NULL'), (
                -- A sum has the type that sum() returns.
                SELECT string_agg(
                    format(
                        E'%I %s NOT NULL,\n', m.name,
                        CASE WHEN etl._held_type(v_view, m.name) IN ('smallint', 'integer') THEN 'bigint' ELSE 'numeric' END
                    ),
                    '' ORDER BY m.position
                )
                FROM unnest(p_measures) WITH ORDINALITY AS m (name, position)
            ))),
            ARRAY[['run_id', 'Run that last wrote the row.']]
        );
    END IF;
    INSERT INTO etl.aggregate (
        aggregate, aggregate_table, contribution_view, contribution_key, group_key, measures, finer_aggregate, finer_expressions
    )
    VALUES (
        p_name, etl._relation_of('dwh', p_name, p_table), v_view, p_contribution_key, p_group, p_measures, p_rollup_of, p_rollup_expressions
    )
    ON CONFLICT (aggregate) DO UPDATE
    SET aggregate_table = excluded.aggregate_table,
        contribution_view = excluded.contribution_view,
        contribution_key = excluded.contribution_key,
        group_key = excluded.group_key,
        measures = excluded.measures,
        finer_aggregate = excluded.finer_aggregate,
        finer_expressions = excluded.finer_expressions;
    DELETE FROM etl.aggregate_fact AS l
    WHERE l.aggregate = p_name;
    INSERT INTO etl.aggregate_fact (aggregate, fact, watched_columns)
    SELECT p_name, l.fact, l.watched_columns
    FROM unnest(p_facts) AS l;
    PERFORM etl._declare('aggregate', p_name);
END
$define_aggregate$;
COMMENT ON FUNCTION etl.define_aggregate(name, name[], name[], name[], etl.aggregate_fact[], name, text[], regclass, regclass) IS 'Declares an aggregate that is maintained by difference.';

-- Parameters: p_name, its name; p_severity, warn or fail; p_description, what holds when it passes; p_query, a SELECT of the violating rows, every
-- name qualified; p_every, how often runs do it (0 for every run); p_written_objects, objects whose written rows it reads: a run that has written
-- none of them leaves it out.
CREATE OR REPLACE FUNCTION etl.define_check(
    p_name text,
    p_severity text,
    p_description text,
    p_query text,
    p_every interval DEFAULT '0',
    p_written_objects name[] DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $define_check$
BEGIN
    INSERT INTO etl.quality_check (check_name, severity, description, query, run_every, written_objects)
    VALUES (p_name, p_severity, p_description, p_query, p_every, p_written_objects)
    ON CONFLICT (check_name) DO UPDATE
    SET description = excluded.description,
        query = excluded.query,
        written_objects = excluded.written_objects
    WHERE (etl.quality_check.description, etl.quality_check.query, etl.quality_check.written_objects)
        IS DISTINCT FROM (excluded.description, excluded.query, excluded.written_objects);
    PERFORM etl._declare('check', p_name::name);
END
$define_check$;
COMMENT ON FUNCTION etl.define_check(text, text, text, text, interval, name[]) IS 'Declares a data quality check.';
