-- From the catalog to tables, routines and tasks.

-- Creates a table with the columns of a query if it is missing, or replaces it if its columns no longer match and p_replace allows it.
-- Parameters: p_schema, p_table, name of the table; p_query, SELECT that shapes it; p_unlogged, whether it may be lost in a crash; p_replace, whether
-- a table of another shape is dropped (it must then hold nothing that is needed).
-- Returns: whether the table was created.
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
        SELECT count(DISTINCT r.columns) = 1
        INTO v_same
        FROM (
            SELECT array_agg(ROW(a.attname, a.atttypid, a.atttypmod, a.attcollation)::text ORDER BY a.attname)
            FROM pg_attribute AS a
            WHERE a.attrelid IN (v_found, 'pg_temp._shape'::regclass)
                AND a.attnum > 0
                AND NOT a.attisdropped
            GROUP BY a.attrelid
        ) AS r (columns);
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

-- Applies column changes of the contract (added, dropped, retyped) to a mirror. The next run extracts the table completely, which fills them.
-- Parameters: p_source_table, the table; p_columns, its columns by the contract.
-- Errors: 2BP01 or 0A000 when a view still uses a column that the contract has lost or retyped.
CREATE OR REPLACE FUNCTION etl._follow_columns(p_source_table name, p_columns name[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_follow_columns$
DECLARE
    v_source regclass := format('source.%I', p_source_table)::regclass;
    v_stage regclass := format('stage.%I', p_source_table)::regclass;
    v_column name;
    v_changes text[] := ARRAY[]::text[];
BEGIN
    FOREACH v_column IN ARRAY etl._without(etl._columns(v_stage), p_columns || '{batch_id,deleted_at}'::name[])
    LOOP
        v_changes := v_changes || format('DROP COLUMN %I', v_column);
    END LOOP;
    FOREACH v_column IN ARRAY p_columns
    LOOP
        v_changes := v_changes || CASE
            WHEN etl._column_type(v_stage, v_column) IS NULL
                THEN format('ADD COLUMN %I %s', v_column, etl._held_type(v_source, v_column))
            WHEN etl._column_type(v_stage, v_column) <> etl._held_type(v_source, v_column)
                THEN format('ALTER COLUMN %1$I TYPE %2$s USING %1$I::%2$s', v_column, etl._held_type(v_source, v_column))
        END;
    END LOOP;
    v_changes := array_remove(v_changes, NULL);
    IF cardinality(v_changes) > 0 THEN
        EXECUTE format('ALTER TABLE %s %s', v_stage, array_to_string(v_changes, ', '));
        DELETE FROM etl.reextraction AS e WHERE e.source_table = p_source_table;
        PERFORM etl._request_refresh(ARRAY[p_source_table::text]);
    END IF;
END
$_follow_columns$;

-- Takes a changed key into a mirror. Rows that were told apart by another key are read again, and what depends on them is loaded again.
-- Parameters: p_source_table, the source table; p_key, its key.
CREATE OR REPLACE FUNCTION etl._follow_key(p_source_table name, p_key name[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_follow_key$
DECLARE
    v_stage regclass := format('stage.%I', p_source_table)::regclass;
    v_constraint name;
BEGIN
    SELECT c.conname
    INTO v_constraint
    FROM pg_constraint AS c
    WHERE c.conrelid = v_stage
        AND c.contype = 'p'
        AND p_key <> ARRAY(
            SELECT a.attname
            FROM unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute AS a ON a.attrelid = v_stage AND a.attnum = k.attnum
            ORDER BY k.place
        );
    IF FOUND THEN
        EXECUTE format('TRUNCATE %s', v_stage);
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD PRIMARY KEY (%s)', v_stage, v_constraint, etl._list(p_key));
        PERFORM etl._request_refresh(ARRAY[p_source_table::text]);
        PERFORM etl._request_reload(ARRAY(
            SELECT d.object
            FROM etl.dependency AS d
            WHERE d.source_table = p_source_table
        ));
    END IF;
END
$_follow_key$;

-- Creates the tables of schema work: pending keys, planned changes and differences. If those of an object have another shape, it is loaded
-- completely.
CREATE OR REPLACE FUNCTION etl._build_work_tables()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_build_work_tables$
DECLARE
    r_object record;
    v_key text;
    v_decision text;
BEGIN
    FOR r_object IN
        SELECT d.dimension AS object, d.dimension_table AS target, d.business_key, '' AS extra_columns, false AS is_fact,
            etl._writable_columns(d.dimension_table) AS columns
        FROM etl.dimension AS d
        WHERE d.transform_view IS NOT NULL
        UNION ALL
        SELECT f.fact, f.fact_table, f.business_key, ', NULL::name[] AS touched_aggregates, NULL::jsonb AS unresolved_keys', true,
            etl._writable_columns(f.fact_table)
        FROM etl.fact AS f
    LOOP
        CONTINUE WHEN etl._is_to_be_declared(r_object.object);
        v_key := format('work.%I', r_object.object || '_key');
        v_decision := format('work.%I', r_object.object || '_decision');
        IF etl._ensure_table(
            'work', r_object.object || '_key', 'SELECT ' || etl._shape(r_object.target, r_object.business_key), p_unlogged => false, p_replace => true
        ) THEN
            -- If it had another shape, its keys are lost, and those in queue and quarantine are of that shape.
            DELETE FROM etl.quarantine AS q WHERE q.object = r_object.object;
            DELETE FROM etl.reprocessing_queue AS q WHERE r_object.object IN (q.fact, q.dimension);
            PERFORM etl._request_reload(r_object.object || ARRAY(SELECT k.fact FROM etl.fact_dimension AS k WHERE k.dimension = r_object.object));
            EXECUTE format('ALTER TABLE %s %s', v_key, etl._list(r_object.business_key, 'ALTER %1$I SET NOT NULL'));
            EXECUTE format('COMMENT ON TABLE %s IS %L', v_key, 'Pending keys of ' || r_object.object || ', each as often as it was requested.');
        END IF;
        IF etl._ensure_table(
            'work', r_object.object || '_decision',
            format('SELECT NULL::text AS planned_operation, %s%s', etl._shape(r_object.target, r_object.columns), r_object.extra_columns),
            p_unlogged => true, p_replace => true
        ) THEN
            EXECUTE format('COMMENT ON TABLE %s IS %L', v_decision, 'Planned changes of the latest load of ' || r_object.object || '.');
            EXECUTE format('COMMENT ON COLUMN %s.planned_operation IS %L', v_decision, 'insert, update, delete or unchanged.');
            IF r_object.is_fact THEN
                EXECUTE format('COMMENT ON COLUMN %s.touched_aggregates IS %L', v_decision, 'Aggregates to which the row contributes otherwise than before; NULL for all.');
                EXECUTE format('COMMENT ON COLUMN %s.unresolved_keys IS %L', v_decision, 'Key columns whose member is unknown, each with the business key looked up; NULL for none.');
            END IF;
        END IF;
    END LOOP;

    FOR r_object IN
        SELECT a.aggregate AS object, a.aggregate_table AS target, a.group_key || a.measures AS columns
        FROM etl.aggregate AS a
    LOOP
        CONTINUE WHEN etl._is_to_be_declared(r_object.object);
        IF etl._ensure_table(
            'work', r_object.object || '_difference', 'SELECT ' || etl._shape(r_object.target, r_object.columns), p_unlogged => false, p_replace => true
        ) THEN
            PERFORM etl._request_reload(ARRAY[r_object.object]);
            EXECUTE format(
                'COMMENT ON TABLE work.%I IS %L', r_object.object || '_difference',
                'What changed facts add to ' || r_object.object || ' and subtract from it, until its next load.'
            );
        END IF;
    END LOOP;
END
$_build_work_tables$;

-- Creates constraints: each dimension gets an exclusion constraint against overlapping versions, and key columns of facts get foreign keys that are
-- NOT ENFORCED. Enforced, these would cost more than the rest of a fact's load; every key comes from its dimension, and reconciliation checks it.
-- PostgreSQL before version 18 has no such foreign keys and gets none.
CREATE OR REPLACE FUNCTION etl._build_constraints()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_build_constraints$
DECLARE
    r_table record;
    v_exclude CONSTANT text := 'ALTER TABLE %s ADD CONSTRAINT %I EXCLUDE USING gist (%s, tstzrange(valid_from, valid_to) WITH &&) DEFERRABLE';
BEGIN
    FOR r_table IN
        SELECT d.dimension_table, d.business_key, c.relname || '_versions' AS name
        FROM etl.dimension AS d
        JOIN pg_class AS c ON c.oid = d.dimension_table
        WHERE d.transform_view IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_constraint AS x WHERE x.conrelid = d.dimension_table AND x.contype = 'x')
    LOOP
        -- A statement may move versions past each other: a deferrable constraint is checked at its end.
        BEGIN
            EXECUTE format(v_exclude, r_table.dimension_table, r_table.name, etl._list(r_table.business_key, '%1$I WITH ='));
        EXCEPTION
            WHEN undefined_object OR wrong_object_type THEN
                -- GiST cannot index a type of the key: a hash of the key replaces it. Default members have no key and are left out.
                EXECUTE format(
                    v_exclude, r_table.dimension_table, r_table.name,
                    format(
                        '(CASE WHEN num_nulls(%1$s) = 0 THEN hash_record_extended(ROW(%1$s), 0) END) WITH =',
                        etl._list(r_table.business_key)
                    )
                );
        END;
    END LOOP;

    IF current_setting('server_version_num')::integer < 180000 THEN
        RETURN;
    END IF;
    FOR r_table IN
        SELECT f.fact_table, format('%s_%s', f.fact, k.key_column) AS name, k.key_column, d.dimension_table, d.surrogate_key
        FROM etl.fact_dimension AS k
        JOIN etl.fact AS f USING (fact)
        JOIN etl.dimension AS d USING (dimension)
        JOIN pg_attribute AS a ON a.attrelid = f.fact_table AND a.attname = k.key_column
        JOIN pg_attribute AS s ON s.attrelid = d.dimension_table AND s.attname = d.surrogate_key
        WHERE NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = f.fact_table AND c.contype = 'f' AND c.conkey = ARRAY[a.attnum])
            AND EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = d.dimension_table AND c.contype IN ('p', 'u') AND c.conkey = ARRAY[s.attnum])
    LOOP
        BEGIN
            EXECUTE format(
                'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (%I) NOT ENFORCED',
                r_table.fact_table, r_table.name, r_table.key_column, r_table.dimension_table, r_table.surrogate_key
            );
        EXCEPTION
            -- The constraint only informs. A table that cannot have it, such as a distributed one, goes without.
            WHEN feature_not_supported THEN
                NULL;
        END;
    END LOOP;
END
$_build_constraints$;

-- Compiles the routines of all objects, and drops those of objects that have left the catalog. An object that is yet to be declared in this
-- transaction has none until then.
CREATE OR REPLACE FUNCTION etl._compile()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile$
DECLARE
    v_routines name[] := ARRAY[]::name[];
    r_object record;
BEGIN
    FOR r_object IN
        SELECT o.object AS name, o.kind, o.view_name IS NOT NULL AS is_loaded
        FROM etl.object AS o
        WHERE NOT etl._is_to_be_declared(o.object)
    LOOP
        v_routines := v_routines || CASE
            WHEN r_object.kind = 'source' THEN etl._compile_source(r_object.name)
            WHEN r_object.kind = 'dimension' AND r_object.is_loaded THEN etl._compile_dimension(r_object.name)
            WHEN r_object.kind = 'fact' THEN etl._compile_fact(r_object.name)
            WHEN r_object.kind = 'aggregate' THEN etl._compile_aggregate(r_object.name)
        END;
        IF r_object.kind IN ('dimension', 'fact') THEN
            v_routines := v_routines || etl._compile_reconciliation(r_object.name);
        END IF;
    END LOOP;
    v_routines := v_routines || etl._compile_changed_tables() || etl._compile_pending_objects();
    PERFORM etl._execute(ARRAY(
        SELECT format('DROP FUNCTION %s', p.oid::regprocedure)
        FROM pg_proc AS p
        WHERE p.pronamespace = 'compiled'::regnamespace
            AND p.proname <> ALL (v_routines)
            -- Routines that views read belong to etl.publish().
            AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid)
    ));
END
$_compile$;

-- Call it after every change of the catalog. It is idempotent.
-- Errors: ET003 when the catalog does not fit the relations that it names.
CREATE OR REPLACE PROCEDURE etl.build()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $build$
DECLARE
    r_source etl.source_table;
    v_columns name[];
    v_propagation text := coalesce(current_setting('citus.enable_ddl_propagation', true), 'on');
BEGIN
    -- On Citus, changes of spread tables reach the nodes, whatever else the transaction keeps on the coordinator.
    PERFORM set_config('citus.enable_ddl_propagation', 'on', true);
    -- A live run uses the tables that change here.
    PERFORM etl.await_no_run();
    PERFORM etl._check_catalog();

    FOR r_source IN
        SELECT *
        FROM etl.source_table
    LOOP
        PERFORM etl._check_source_key(r_source);
        UPDATE etl.source_table AS s
        SET read_relations = etl._read_relations(r_source.source_table)
        WHERE s.source_table = r_source.source_table
            AND s.read_relations IS DISTINCT FROM etl._read_relations(r_source.source_table);
        v_columns := etl._source_columns(r_source.source_table);
        IF etl._ensure_table(
            'stage', r_source.source_table,
            format('SELECT %s, NULL::bigint AS batch_id, NULL::timestamptz AS deleted_at FROM source.%I', etl._mirror_list(r_source.source_table), r_source.source_table),
            p_unlogged => false, p_replace => false
        ) THEN
            EXECUTE format('ALTER TABLE stage.%I ALTER batch_id SET NOT NULL, ADD PRIMARY KEY (%s)', r_source.source_table, etl._list(r_source.key_columns));
            EXECUTE format('ALTER TABLE stage.%I SET (fillfactor = 90)', r_source.source_table);
            EXECUTE format('COMMENT ON TABLE stage.%I IS %L', r_source.source_table, 'Mirror of source.' || r_source.source_table);
            EXECUTE format('COMMENT ON COLUMN stage.%I.batch_id IS %L', r_source.source_table, 'Batch that last wrote the row.');
            EXECUTE format('COMMENT ON COLUMN stage.%I.deleted_at IS %L', r_source.source_table, 'When the row was deleted in the source; NULL while it is there.');
        END IF;
        PERFORM etl._follow_columns(r_source.source_table, v_columns);
        PERFORM etl._follow_key(r_source.source_table, r_source.key_columns);
        IF etl._ensure_table(
            'delta', r_source.source_table,
            format('SELECT NULL::bigint AS batch_id, NULL::text AS delta_operation, s.* FROM (SELECT %s, deleted_at FROM stage.%I) AS s', etl._list(v_columns), r_source.source_table),
            p_unlogged => true, p_replace => true
        ) THEN
            EXECUTE format('COMMENT ON TABLE delta.%I IS %L', r_source.source_table, 'Rows of source.' || r_source.source_table || ' that the latest batch extracted.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.batch_id IS %L', r_source.source_table, 'Batch.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.delta_operation IS %L', r_source.source_table, 'upsert, delete, or before: the row as stage held it until this batch.');
            EXECUTE format('COMMENT ON COLUMN delta.%I.deleted_at IS %L', r_source.source_table, 'When the row was deleted in the source.');
        END IF;
    END LOOP;

    PERFORM etl._remove_deleted_rows();
    PERFORM etl._build_work_tables();
    PERFORM etl._check_plans();

    PERFORM etl._add_load_states();
    PERFORM etl._build_constraints();
    -- Compiled routines are needed on the coordinator only.
    PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
    PERFORM etl._compile();
    PERFORM set_config('citus.enable_ddl_propagation', 'on', true);
    PERFORM etl._build_tasks();
    PERFORM etl._comment_mirrors();
    PERFORM etl._hand_over_built();
    PERFORM set_config('citus.enable_ddl_propagation', v_propagation, true);
END
$build$;
COMMENT ON PROCEDURE etl.build() IS 'Brings tables and tasks in line with the catalog. Call it after every change of the catalog.';

-- Copies the column comments of the source to the tables that the engine created for it.
CREATE OR REPLACE FUNCTION etl._comment_mirrors()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_comment_mirrors$
DECLARE
    r_column record;
BEGIN
    FOR r_column IN
        WITH mirror (origin, copy) AS (
            SELECT to_regclass(format('source.%I', s.source_table)), to_regclass(format('%I.%I', m.schema_name, s.source_table))
            FROM etl.source_table AS s
            CROSS JOIN (VALUES ('delta'), ('stage')) AS m (schema_name)
            UNION ALL
            SELECT o.target, to_regclass(format('work.%I', o.object || m.suffix))
            FROM (
                SELECT dimension, dimension_table FROM etl.dimension WHERE transform_view IS NOT NULL
                UNION ALL
                SELECT fact, fact_table FROM etl.fact
            ) AS o (object, target)
            CROSS JOIN (VALUES ('_key'), ('_decision')) AS m (suffix)
            UNION ALL
            SELECT a.aggregate_table, to_regclass(format('work.%I', a.aggregate || '_difference'))
            FROM etl.aggregate AS a
        )
        SELECT m.copy, c.attname, col_description(m.origin, o.attnum) AS comment
        FROM mirror AS m
        JOIN pg_attribute AS c ON c.attrelid = m.copy AND c.attnum > 0 AND NOT c.attisdropped
        JOIN pg_attribute AS o ON o.attrelid = m.origin AND o.attname = c.attname AND NOT o.attisdropped
        WHERE col_description(m.copy, c.attnum) IS NULL
            AND col_description(m.origin, o.attnum) IS NOT NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', r_column.copy, r_column.attname, r_column.comment);
    END LOOP;
END
$_comment_mirrors$;
