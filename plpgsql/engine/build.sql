-- From catalog rows to tables and tasks: what a new source table, dimension or fact needs, made from its description.

/*
Creates schema.table with the columns of a query when it is missing, or anew when its columns no longer fit and p_replace
allows it.
Parameters: p_schema, p_table, name of the table; p_query, SELECT that shapes it; p_unlogged, whether it may be lost in a crash;
            p_replace, whether a table of another shape is dropped (it must then hold nothing that is needed).
Returns:    whether the table was created.
*/
CREATE OR REPLACE FUNCTION etl._ensure_table(
    p_schema name,
    p_table name,
    p_query text,
    p_unlogged boolean,
    p_replace boolean
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_ensure_table$
DECLARE
    v_name text := format('%I.%I', p_schema, p_table);
    v_found regclass := to_regclass(v_name);
    v_same boolean;
BEGIN
    IF v_found IS NOT NULL THEN
        IF NOT p_replace THEN
            RETURN false;
        END IF;
        EXECUTE format('CREATE TEMPORARY TABLE _shape ON COMMIT DROP AS %s WITH NO DATA', p_query);
        SELECT NOT EXISTS (
            (SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = v_found AND attnum > 0 AND NOT attisdropped
            EXCEPT
            SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = 'pg_temp._shape'::regclass AND attnum > 0)
            UNION ALL
            (SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = 'pg_temp._shape'::regclass AND attnum > 0
            EXCEPT
            SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = v_found AND attnum > 0 AND NOT attisdropped)
        )
        INTO v_same;
        DROP TABLE pg_temp._shape;
        IF v_same THEN
            RETURN false;
        END IF;
        EXECUTE format('DROP TABLE %s', v_name);
    END IF;
    EXECUTE format('CREATE %s TABLE %s AS %s WITH NO DATA', CASE WHEN p_unlogged THEN 'UNLOGGED' ELSE '' END, v_name, p_query);
    RETURN true;
END
$_ensure_table$;
COMMENT ON FUNCTION etl._ensure_table(name, name, text, boolean, boolean) IS 'Creates a table in the shape of a query where it is missing or no longer fits.';

/*
Refuses a catalog that the engine could not work with, naming the first thing that is wrong.
Errors: ET003.
*/
CREATE OR REPLACE FUNCTION etl._check_catalog()
RETURNS void
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_check_catalog$
DECLARE
    r_fault record;
BEGIN
    FOR r_fault IN
        WITH wanted (object, relation, columns, needed_for) AS (
            SELECT s.source_table, format('source.%I', s.source_table), s.key_columns || coalesce(s.change_column, s.key_columns[1]), 'its key and its change column'
            FROM etl.source_table AS s
            UNION ALL
            SELECT 'tombstones', 'source.tombstones', '{table_name,row_key,deleted_at,row_xid}', 'delete detection by tombstone'
            WHERE EXISTS (SELECT FROM etl.source_table AS s WHERE s.delete_detection = 'tombstone')
            UNION ALL
            SELECT 'extraction_point', 'source.extraction_point', '{snapshot,system_identifier,read_at}', 'every extraction'
            WHERE EXISTS (SELECT FROM etl.source_table)
            UNION ALL
            SELECT d.dimension, d.transform_view::text, d.business_key || '{effective_at,deleted_at}'::name[], 'a transformation view'
            FROM etl.dimension AS d
            WHERE d.transform_view IS NOT NULL
            UNION ALL
            SELECT d.dimension, d.dimension_table::text,
                d.surrogate_key || d.business_key
                || CASE WHEN d.transform_view IS NULL THEN '{}' ELSE '{valid_from,valid_to,is_current,run_id}' END::name[],
                'a dimension table'
            FROM etl.dimension AS d
            UNION ALL
            SELECT d.dimension, d.history_view::text, d.business_key || 'valid_from'::name, 'a history view'
            FROM etl.dimension AS d
            WHERE d.history_view IS NOT NULL
            UNION ALL
            SELECT a.dimension, r.relation, ARRAY[a.attribute], 'the attribute'
            FROM etl.dimension_attribute AS a
            JOIN etl.dimension AS d USING (dimension)
            CROSS JOIN LATERAL (VALUES (d.transform_view::text), (d.dimension_table::text)) AS r (relation)
            UNION ALL
            SELECT f.fact, f.transform_view::text, f.business_key || f.measures || 'deleted_at'::name, 'a transformation view'
            FROM etl.fact AS f
            UNION ALL
            SELECT f.fact, f.fact_table::text, f.business_key || f.measures || '{is_deleted,run_id}'::name[], 'a fact table'
            FROM etl.fact AS f
            UNION ALL
            SELECT k.fact, etl._lookup_relation(k)::text, k.lookup_columns, 'the key ' || k.key_column
            FROM etl.fact_dimension AS k
            UNION ALL
            SELECT k.fact, f.transform_view::text, ARRAY[k.as_of_column], 'the key ' || k.key_column
            FROM etl.fact_dimension AS k
            JOIN etl.fact AS f USING (fact)
            WHERE k.as_of_column IS NOT NULL
            UNION ALL
            SELECT k.fact, f.fact_table::text, ARRAY[k.key_column], 'the dimension ' || k.dimension
            FROM etl.fact_dimension AS k
            JOIN etl.fact AS f USING (fact)
            UNION ALL
            SELECT k.fact, f.fact_table::text, ARRAY[k.as_of_column], 'finding the facts of a version that is split'
            FROM etl.fact_dimension AS k
            JOIN etl.fact AS f USING (fact)
            JOIN etl.dimension AS d USING (dimension)
            WHERE k.as_of_column IS NOT NULL
                AND d.transform_view IS NOT NULL
            UNION ALL
            SELECT a.aggregate, a.contribution_view::text, a.contribution_key || a.group_key || a.measures, 'a contribution view'
            FROM etl.aggregate AS a
            UNION ALL
            SELECT a.aggregate, a.aggregate_table::text, a.group_key || a.measures || 'run_id'::name, 'an aggregate table'
            FROM etl.aggregate AS a
            UNION ALL
            SELECT a.aggregate, f.aggregate_table::text, CASE WHEN a.finer_expressions IS NULL THEN a.group_key ELSE '{}' END || a.measures, 'the aggregate ' || a.aggregate
            FROM etl.aggregate AS a
            JOIN etl.aggregate AS f ON f.aggregate = a.finer_aggregate
            UNION ALL
            SELECT a.aggregate, f.fact_table::text, a.contribution_key, 'its contributions'
            FROM etl.aggregate AS a
            JOIN etl.aggregate_fact AS l USING (aggregate)
            JOIN etl.fact AS f USING (fact)
            UNION ALL
            SELECT l.aggregate, f.fact_table::text, l.watched_columns, 'being watched'
            FROM etl.aggregate_fact AS l
            JOIN etl.fact AS f USING (fact)
            WHERE l.watched_columns IS NOT NULL
        )
        SELECT w.object, w.relation, c.name AS column_name, w.needed_for, to_regclass(w.relation) IS NULL AS is_missing
        FROM wanted AS w
        CROSS JOIN LATERAL unnest(w.columns) AS c (name)
        WHERE to_regclass(w.relation) IS NULL
            OR etl._column_type(to_regclass(w.relation), c.name) IS NULL
        LIMIT 1
    LOOP
        IF r_fault.is_missing THEN
            RAISE EXCEPTION 'catalog of "%": there is no relation %', r_fault.object, r_fault.relation
                USING ERRCODE = 'ET003', HINT = 'Create it, or correct the catalog row, then call etl.build() again.';
        END IF;
        RAISE EXCEPTION 'catalog of "%": % has no column "%"', r_fault.object, r_fault.relation, r_fault.column_name
            USING ERRCODE = 'ET003',
                DETAIL = format('The column is needed for %s.', r_fault.needed_for),
                HINT = 'Add it to the relation, or correct the catalog row, then call etl.build() again.';
    END LOOP;

    FOR r_fault IN
        SELECT p.object, p.source_table
        FROM etl.dependency AS p
        WHERE NOT EXISTS (SELECT FROM etl.dimension AS d WHERE d.dimension = p.object)
            AND NOT EXISTS (SELECT FROM etl.fact AS f WHERE f.fact = p.object)
        LIMIT 1
    LOOP
        RAISE EXCEPTION 'catalog: "%" depends on source table "%", but is neither a dimension nor a fact', r_fault.object, r_fault.source_table
            USING ERRCODE = 'ET003', HINT = 'Correct the row of etl.dependency, or add the object.';
    END LOOP;

    FOR r_fault IN
        SELECT k.fact, k.key_column, k.lookup_columns, d.dimension, d.business_key
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE cardinality(k.lookup_columns) <> cardinality(d.business_key)
        LIMIT 1
    LOOP
        RAISE EXCEPTION 'catalog of "%": key "%" looks up % by %, which has the business key %',
            r_fault.fact, r_fault.key_column, r_fault.dimension, r_fault.lookup_columns, r_fault.business_key
            USING ERRCODE = 'ET003', HINT = 'Name one lookup column for each column of the business key, in its order.';
    END LOOP;

    FOR r_fault IN
        SELECT k.fact, k.key_column, k.lookup_role
        FROM etl.fact_dimension AS k
        JOIN etl.fact_dimension AS r ON r.fact = k.fact AND r.key_column = k.lookup_role
        WHERE r.lookup_role IS NOT NULL
        LIMIT 1
    LOOP
        RAISE EXCEPTION 'catalog of "%": key "%" is looked up by "%", which is looked up by another key itself',
            r_fault.fact, r_fault.key_column, r_fault.lookup_role
            USING ERRCODE = 'ET003', HINT = 'Name a key whose lookup columns are in the fact''s view.';
    END LOOP;

    FOR r_fault IN
        SELECT a.aggregate, f.aggregate_table, etl._finer_key(a) AS key
        FROM etl.aggregate AS a
        JOIN etl.aggregate AS f ON f.aggregate = a.finer_aggregate
        WHERE a.finer_expressions IS NOT NULL
    LOOP
        BEGIN
            EXECUTE format('SELECT %s FROM %s AS c LIMIT 0', r_fault.key, r_fault.aggregate_table);
        EXCEPTION
            WHEN syntax_error_or_access_rule_violation THEN
                RAISE EXCEPTION 'catalog of "%": % cannot be made of %', r_fault.aggregate, r_fault.key, r_fault.aggregate_table
                    USING ERRCODE = 'ET003', DETAIL = SQLERRM,
                        HINT = 'Write each of the finer_expressions of etl.aggregate over columns of the finer aggregate, as c.<column>.';
        END;
    END LOOP;

    FOR r_fault IN
        SELECT l.aggregate, l.fact, r.attname AS column_name
        FROM etl.aggregate_fact AS l
        JOIN etl.aggregate AS a USING (aggregate)
        JOIN etl.fact AS f USING (fact)
        JOIN pg_rewrite AS w ON w.ev_class = a.contribution_view
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = f.fact_table
        JOIN pg_attribute AS r ON r.attrelid = d.refobjid AND r.attnum = d.refobjsubid
        WHERE r.attname <> ALL (l.watched_columns || a.contribution_key)
        LIMIT 1
    LOOP
        RAISE EXCEPTION 'catalog of "%": its contributions read column "%" of %, which is not watched',
            r_fault.aggregate, r_fault.column_name, r_fault.fact
            USING ERRCODE = 'ET003', HINT = 'Add the column to watched_columns in etl.aggregate_fact, or set them to NULL to watch all.';
    END LOOP;
END
$_check_catalog$;
COMMENT ON FUNCTION etl._check_catalog() IS 'Raises ET003 with the first fault of the catalog.';

CREATE OR REPLACE FUNCTION etl._lookup_relation(p_role etl.fact_dimension)
RETURNS regclass
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_lookup_relation$
    SELECT coalesce(
        (
            SELECT d.dimension_table
            FROM etl.fact_dimension AS r
            JOIN etl.dimension AS d USING (dimension)
            WHERE r.fact = p_role.fact
                AND r.key_column = p_role.lookup_role
        ),
        (SELECT f.transform_view FROM etl.fact AS f WHERE f.fact = p_role.fact)
    )
$_lookup_relation$;
COMMENT ON FUNCTION etl._lookup_relation(etl.fact_dimension) IS 'Relation that has the lookup columns of a key: the dimension of its lookup_role, or the view of the fact.';

/*
Brings tables and tasks in line with the catalog: delta and stage for each source table, key and decision table for each
dimension and fact, difference table for each aggregate, triggers against overlapping versions, tasks and their edges. Call it after
every change of the catalog; a second call changes nothing.
Writes:  delta.*, stage.*, work.*_key, work.*_decision, dimensions (structure), etl.load_state, etl.task, etl.task_edge.
Errors:  ET003 when the catalog does not fit the relations that it names.
*/
CREATE OR REPLACE PROCEDURE etl.build()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $build$
DECLARE
    r_source etl.source_table;
    r_object record;
    v_columns name[];
BEGIN
    PERFORM etl._check_catalog();

    FOR r_source IN
        SELECT *
        FROM etl.source_table
    LOOP
        v_columns := etl._source_columns(r_source.source_table);
        IF etl._ensure_table(
            'stage', r_source.source_table,
            format('SELECT %s, NULL::bigint AS batch_id, NULL::timestamptz AS deleted_at FROM source.%I', etl._list(v_columns), r_source.source_table),
            p_unlogged => false, p_replace => false
        ) THEN
            EXECUTE format('ALTER TABLE stage.%I ALTER batch_id SET NOT NULL, ADD PRIMARY KEY (%s)', r_source.source_table, etl._list(r_source.key_columns));
            EXECUTE format('ALTER TABLE stage.%I SET (fillfactor = 90)', r_source.source_table);
            EXECUTE format('COMMENT ON TABLE stage.%I IS %L', r_source.source_table, 'Mirror of source.' || r_source.source_table);
            EXECUTE format('COMMENT ON COLUMN stage.%I.batch_id IS %L', r_source.source_table, 'Batch that last wrote the row.');
            EXECUTE format('COMMENT ON COLUMN stage.%I.deleted_at IS %L', r_source.source_table, 'When the row was deleted in the source; NULL while it is there.');
        END IF;
        PERFORM etl._follow_columns(r_source.source_table, v_columns);
        IF etl._ensure_table(
            'delta', r_source.source_table,
            format('SELECT NULL::bigint AS batch_id, NULL::text AS operation, s.* FROM (SELECT %s, deleted_at FROM stage.%I) AS s', etl._list(v_columns), r_source.source_table),
            p_unlogged => true, p_replace => true
        ) THEN
            EXECUTE format('COMMENT ON TABLE delta.%I IS %L', r_source.source_table, 'Rows of source.' || r_source.source_table || ' that the latest batch extracted.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.batch_id IS %L', r_source.source_table, 'Batch.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.operation IS %L', r_source.source_table, 'upsert, delete, or before: the row as stage held it until this batch.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.deleted_at IS %L', r_source.source_table, 'When the row was deleted in the source.');
        END IF;
    END LOOP;

    FOR r_object IN
        SELECT dimension AS object, dimension_table AS target, business_key, '' AS extra_columns, false AS is_fact
        FROM etl.dimension
        WHERE transform_view IS NOT NULL
        UNION ALL
        SELECT f.fact, f.fact_table, f.business_key,
            -- Lookup columns travel with the decision, for the queue.
            coalesce((
                SELECT string_agg(DISTINCT format(', (SELECT r.%1$I FROM %2$s AS r LIMIT 0) AS %1$I', c.name, etl._lookup_relation(k)), '')
                FROM etl.fact_dimension AS k
                CROSS JOIN LATERAL unnest(k.lookup_columns) AS c (name)
                WHERE k.fact = f.fact
                    AND c.name <> ALL (etl._columns(f.fact_table))
            ), '') || ', NULL::name[] AS touched_aggregates',
            true
        FROM etl.fact AS f
    LOOP
        IF etl._ensure_table(
            'work', r_object.object || '_key',
            format('SELECT %s FROM %s', etl._list(r_object.business_key), r_object.target),
            p_unlogged => false, p_replace => false
        ) THEN
            EXECUTE format('ALTER TABLE work.%I %s', r_object.object || '_key', etl._list(r_object.business_key, 'ALTER %1$I SET NOT NULL'));
            EXECUTE format(
                'COMMENT ON TABLE work.%I IS %L', r_object.object || '_key',
                'Business keys of ' || r_object.object || ' that wait for a load, each as often as something asked for it.'
            );
        END IF;
        IF etl._ensure_table(
            'work', r_object.object || '_decision',
            format('SELECT NULL::text AS operation, t.*%s FROM %s AS t', r_object.extra_columns, r_object.target),
            p_unlogged => true, p_replace => true
        ) THEN
            EXECUTE format(
                'COMMENT ON TABLE work.%I IS %L', r_object.object || '_decision',
                'What the last load of ' || r_object.object || ' decided for each row: insert, update, delete or unchanged.'
            );
            EXECUTE format('COMMENT ON COLUMN work.%I.operation IS %L', r_object.object || '_decision', 'insert, update, delete or unchanged.');
            IF r_object.is_fact THEN
                EXECUTE format(
                    'COMMENT ON COLUMN work.%I.touched_aggregates IS %L', r_object.object || '_decision',
                    'Aggregates to which the row contributes otherwise than before; NULL for all.'
                );
            END IF;
        END IF;
    END LOOP;

    FOR r_object IN
        SELECT *
        FROM etl.aggregate
    LOOP
        IF etl._ensure_table(
            'work', r_object.aggregate || '_difference',
            format('SELECT %s FROM %s', etl._list(r_object.group_key || r_object.measures), r_object.aggregate_table),
            p_unlogged => false, p_replace => false
        ) THEN
            EXECUTE format(
                'COMMENT ON TABLE work.%I IS %L', r_object.aggregate || '_difference',
                'What changed facts add to ' || r_object.aggregate || ' and take from it, until its next load.'
            );
        END IF;
    END LOOP;

    INSERT INTO etl.load_state (object)
    SELECT dimension FROM etl.dimension WHERE transform_view IS NOT NULL
    UNION ALL
    SELECT fact FROM etl.fact
    UNION ALL
    SELECT aggregate FROM etl.aggregate
    ON CONFLICT DO NOTHING;

    PERFORM etl._guard_versions(d.dimension_table)
    FROM etl.dimension AS d
    WHERE d.transform_view IS NOT NULL;

    PERFORM etl._build_tasks();
    PERFORM etl._comment_mirrors();
    PERFORM etl._hand_over_built();
END
$build$;
COMMENT ON PROCEDURE etl.build() IS 'Brings tables and tasks in line with the catalog. Call it after every change of the catalog.';

CREATE OR REPLACE FUNCTION etl._source_columns(p_source_table name)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_source_columns$
    -- A transaction id serves extraction only; the mirror has no use for it.
    SELECT etl._without(
        etl._columns(to_regclass(format('source.%I', s.source_table))),
        CASE WHEN s.change_detection = 'snapshot' THEN ARRAY[s.change_column] ELSE '{}' END
    )
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table
$_source_columns$;
COMMENT ON FUNCTION etl._source_columns(name) IS 'Columns of a source table that the mirror takes.';

/*
Orders tasks by their critical path: what most work waits for comes first, so that workers end together.
Parameters: p_tasks, the tasks; p_weights, how much work each is, in any unit.
Returns:    the tasks and their places, from 1.
Source:     list scheduling by critical path: R. L. Graham, Bounds on Multiprocessing Timing Anomalies, 1969.
*/
CREATE OR REPLACE FUNCTION etl._critical_path(p_tasks text[], p_weights bigint[])
RETURNS TABLE (task text, place bigint)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_critical_path$
    WITH RECURSIVE weight (task, weight) AS (
        SELECT *
        FROM unnest(p_tasks, p_weights)
    ),
    path (task, weight) AS (
        SELECT w.task, w.weight
        FROM weight AS w
        UNION
        SELECT w.task, p.weight + w.weight
        FROM path AS p
        JOIN etl.task_edge AS e ON e.task = p.task
        JOIN weight AS w ON w.task = e.predecessor
    )
    SELECT p.task, row_number() OVER (ORDER BY max(p.weight) DESC, p.task)
    FROM path AS p
    GROUP BY p.task
$_critical_path$;
COMMENT ON FUNCTION etl._critical_path(text[], bigint[]) IS 'Orders tasks by their critical path: what most work waits for comes first.';

/*
Whether a transformation view is made of mirrors alone, as far as PostgreSQL can tell: then what it gives is settled when they are merged,
whatever is loaded meanwhile. Not when it reads a star, or calls a function that is not the engine's: nobody knows what that reads.
Parameters: p_view, the view; views that it reads are followed.
*/
CREATE OR REPLACE FUNCTION etl._reads_mirrors_only(p_view regclass)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reads_mirrors_only$
    WITH RECURSIVE reads (classid, objid) AS (
        SELECT 'pg_class'::regclass::oid, p_view::oid
        UNION
        SELECT d.refclassid, d.refobjid
        FROM reads AS v
        JOIN pg_rewrite AS w ON v.classid = 'pg_class'::regclass AND w.ev_class = v.objid
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
    )
    SELECT NOT EXISTS (
        SELECT
        FROM reads AS r
        LEFT JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
        LEFT JOIN pg_proc AS f ON r.classid = 'pg_proc'::regclass AND f.oid = r.objid
        WHERE c.relkind NOT IN ('v', 'S') AND c.relnamespace::regnamespace::text <> ALL ('{stage,etl}')
            OR f.pronamespace::regnamespace::text <> 'etl'
    )
$_reads_mirrors_only$;
COMMENT ON FUNCTION etl._reads_mirrors_only(regclass) IS 'Whether a transformation view is made of mirrors alone, as far as PostgreSQL can tell.';

/*
Derives tasks and edges from the catalog: a source table is filled if its mirror is empty, extracted, then staged; a dimension or fact
is loaded after the stage tasks that it depends on succeeded; a fact after its dimensions have ended, however they ended, and after the
facts that its table refers to succeeded (it may decide on its rows before); an aggregate after the facts or the finer aggregate that
feed it; foreign keys that were set aside are made again after the facts that they connect; checks after everything else has ended,
maintenance after the checks.
Writes: etl.task, etl.task_edge. Settings of a task (max_attempts, is_enabled) are kept.
*/
CREATE OR REPLACE FUNCTION etl._build_tasks()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_build_tasks$
BEGIN
    WITH wanted AS (
        SELECT k.kind || ':' || s.source_table AS task, k.kind, s.source_table AS object
        FROM etl.source_table AS s
        CROSS JOIN (VALUES ('fill'), ('extract'), ('stage')) AS k (kind)
        UNION ALL
        SELECT 'dimension:' || d.dimension, 'dimension', d.dimension
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT k.kind || ':' || f.fact, k.kind, f.fact
        FROM etl.fact AS f
        CROSS JOIN (VALUES ('fact'), ('constrain')) AS k (kind)
        UNION ALL
        SELECT 'aggregate:' || a.aggregate, 'aggregate', a.aggregate
        FROM etl.aggregate AS a
        UNION ALL
        VALUES ('check:quality', 'check', 'quality'), ('maintain:history', 'maintain', 'history')
    ),
    removed AS (
        DELETE FROM etl.task AS t
        WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.task = t.task)
    )
    INSERT INTO etl.task (task, kind, object, position)
    SELECT w.task, w.kind, w.object, 0
    FROM wanted AS w
    ON CONFLICT (task) DO NOTHING;

    WITH wanted AS (
        SELECT k.task || ':' || s.source_table AS task, k.predecessor || ':' || s.source_table AS predecessor, 'success' AS wait_for, false AS may_overlap
        FROM etl.source_table AS s
        CROSS JOIN (VALUES ('extract', 'fill'), ('stage', 'extract')) AS k (task, predecessor)
        UNION ALL
        SELECT t.task, 'stage:' || p.source_table, 'success', false
        FROM etl.dependency AS p
        JOIN etl.task AS t ON t.object = p.object AND t.kind IN ('dimension', 'fact')
        UNION
        SELECT 'fact:' || k.fact, t.task, 'end', false
        FROM etl.fact_dimension AS k
        JOIN etl.task AS t ON t.kind = 'dimension' AND t.object = k.dimension
        UNION
        SELECT 'fact:' || f.fact, 'fact:' || referenced.fact, 'success', etl._reads_mirrors_only(f.transform_view)
        FROM etl.fact AS f
        JOIN pg_constraint AS c ON c.conrelid = f.fact_table AND c.contype = 'f'
        JOIN etl.fact AS referenced ON referenced.fact_table = c.confrelid AND referenced.fact <> f.fact
        UNION
        SELECT 'constrain:' || d.fact, 'fact:' || referenced.fact, 'success', false
        FROM etl.deferred_constraint AS d
        JOIN etl.fact AS referenced ON referenced.fact_table = d.referenced_table
        UNION
        SELECT 'constrain:' || f.fact, 'fact:' || f.fact, 'success', false
        FROM etl.fact AS f
        UNION
        SELECT 'aggregate:' || l.aggregate, 'fact:' || l.fact, 'end', false
        FROM etl.aggregate_fact AS l
        UNION
        SELECT 'aggregate:' || a.aggregate, 'aggregate:' || a.finer_aggregate, 'end', false
        FROM etl.aggregate AS a
        WHERE a.finer_aggregate IS NOT NULL
        UNION
        SELECT 'check:quality', t.task, 'end', false
        FROM etl.task AS t
        WHERE t.kind IN ('stage', 'dimension', 'fact', 'aggregate', 'constrain')
        UNION
        VALUES ('maintain:history', 'check:quality', 'end', false)
    ),
    removed AS (
        DELETE FROM etl.task_edge AS e
        WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.task = e.task AND w.predecessor = e.predecessor)
    )
    INSERT INTO etl.task_edge AS e (task, predecessor, wait_for, may_overlap)
    SELECT w.task, w.predecessor, w.wait_for, w.may_overlap
    FROM wanted AS w
    ON CONFLICT (task, predecessor) DO UPDATE
    SET may_overlap = excluded.may_overlap
    WHERE e.may_overlap <> excluded.may_overlap;

    UPDATE etl.task AS t
    SET position = p.position
    FROM (
        SELECT k.task, b.base + row_number() OVER (PARTITION BY k.kind ORDER BY k.object)
        FROM etl.task AS k
        JOIN (VALUES ('fill', 0), ('extract', 100), ('constrain', 550), ('check', 600), ('maintain', 700)) AS b (kind, base) USING (kind)
        UNION ALL
        SELECT c.task, 200 + c.place
        FROM (
            -- What a run will find to do is not known before; to merge a table is about half of loading what depends on it.
            SELECT array_agg(l.task) AS tasks, array_agg(CASE l.kind WHEN 'stage' THEN 1 ELSE 2 END::bigint) AS weights
            FROM etl.task AS l
            WHERE l.kind IN ('stage', 'dimension', 'fact', 'aggregate')
        ) AS w
        CROSS JOIN LATERAL etl._critical_path(w.tasks, w.weights) AS c
    ) AS p (task, position)
    WHERE t.task = p.task
        AND t.position <> p.position;
END
$_build_tasks$;
COMMENT ON FUNCTION etl._build_tasks() IS 'Derives tasks and their edges from the catalog.';

/*
Carries the source's column comments over to the tables that the engine made from them.
Writes: comments of delta.*, stage.*, work.*_key and work.*_decision.
*/
CREATE OR REPLACE FUNCTION etl._comment_mirrors()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_comment_mirrors$
DECLARE
    r_column record;
BEGIN
    FOR r_column IN
        WITH mirror (origin, copy, columns) AS (
            SELECT to_regclass(format('source.%I', s.source_table)), to_regclass(format('%I.%I', m.schema_name, s.source_table)), NULL::name[]
            FROM etl.source_table AS s
            CROSS JOIN (VALUES ('delta'), ('stage')) AS m (schema_name)
            UNION ALL
            SELECT o.target, to_regclass(format('work.%I', o.object || m.suffix)), NULL
            FROM (
                SELECT dimension, dimension_table FROM etl.dimension WHERE transform_view IS NOT NULL
                UNION ALL
                SELECT fact, fact_table FROM etl.fact
            ) AS o (object, target)
            CROSS JOIN (VALUES ('_key'), ('_decision')) AS m (suffix)
            UNION ALL
            SELECT f.transform_view, to_regclass(format('work.%I', f.fact || '_decision')), NULL
            FROM etl.fact AS f
            UNION ALL
            SELECT etl._lookup_relation(k), to_regclass(format('work.%I', k.fact || '_decision')), k.lookup_columns
            FROM etl.fact_dimension AS k
            WHERE k.lookup_role IS NOT NULL
            UNION ALL
            SELECT a.aggregate_table, to_regclass(format('work.%I', a.aggregate || '_difference')), NULL
            FROM etl.aggregate AS a
        )
        SELECT m.copy, c.attname, col_description(m.origin, o.attnum) AS comment
        FROM mirror AS m
        JOIN pg_attribute AS c ON c.attrelid = m.copy AND c.attnum > 0 AND NOT c.attisdropped AND (c.attname = ANY (m.columns)) IS NOT FALSE
        JOIN pg_attribute AS o ON o.attrelid = m.origin AND o.attname = c.attname AND NOT o.attisdropped
        WHERE col_description(m.copy, c.attnum) IS NULL
            AND col_description(m.origin, o.attnum) IS NOT NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', r_column.copy, r_column.attname, r_column.comment);
    END LOOP;
END
$_comment_mirrors$;
COMMENT ON FUNCTION etl._comment_mirrors() IS 'Carries column comments over to the tables that the engine made.';
