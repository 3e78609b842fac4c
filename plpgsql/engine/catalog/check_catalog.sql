-- What the catalog asks for is checked before anything is built from it.

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
