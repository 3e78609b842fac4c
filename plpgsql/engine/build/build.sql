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
Takes columns that the contract has gained, lost or retyped into a mirror. The next run then extracts the table anew, which fills
them.
Parameters: p_source_table, the table; p_columns, its columns by the contract.
Writes:     stage.<table> (structure), etl.watermark.
Errors:     2BP01 or 0A000 when a view still uses a column that the contract has lost or retyped.
*/
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
                THEN format('ADD COLUMN %I %s', v_column, etl._column_type(v_source, v_column))
            WHEN etl._column_type(v_stage, v_column) <> etl._column_type(v_source, v_column)
                THEN format('ALTER COLUMN %1$I TYPE %2$s USING %1$I::%2$s', v_column, etl._column_type(v_source, v_column))
        END;
    END LOOP;
    v_changes := array_remove(v_changes, NULL);
    IF cardinality(v_changes) > 0 THEN
        EXECUTE format('ALTER TABLE %s %s', v_stage, array_to_string(v_changes, ', '));
        PERFORM etl._request_refresh(ARRAY[p_source_table::text]);
    END IF;
END
$_follow_columns$;
COMMENT ON FUNCTION etl._follow_columns(name, name[]) IS 'Takes columns that the contract has gained, lost or retyped into a mirror.';

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
    -- A run that is live holds what is changed here.
    PERFORM etl._await_no_run();
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
END
$build$;
COMMENT ON PROCEDURE etl.build() IS 'Brings tables and tasks in line with the catalog. Call it after every change of the catalog.';

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
