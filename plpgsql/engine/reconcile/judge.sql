-- Which differences follow from others further up: a wrong row of a mirror is told once, not once more for each star that was loaded rightly
-- before it. Judged when all objects are compared, from the differences that were kept.

/*
What an object is made of, all the way up.
Parameters: p_object, dimension, fact, aggregate, or the queue.
Returns:    source tables, dimensions, facts, aggregates.
*/
CREATE OR REPLACE FUNCTION etl._upstream_of(p_object name)
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_upstream_of$
    WITH RECURSIVE edge (object, made_of) AS (
        SELECT d.object, d.source_table FROM etl.dependency AS d
        UNION ALL
        SELECT k.fact, k.dimension FROM etl.fact_dimension AS k
        UNION ALL
        SELECT l.aggregate, l.fact FROM etl.aggregate_fact AS l
        UNION ALL
        SELECT a.aggregate, a.finer_aggregate FROM etl.aggregate AS a WHERE a.finer_aggregate IS NOT NULL
        UNION ALL
        SELECT 'reprocessing_queue', f.fact FROM etl.fact AS f
    ),
    upstream (object) AS (
        SELECT e.made_of FROM edge AS e WHERE e.object = p_object
        UNION
        SELECT e.made_of FROM upstream AS u JOIN edge AS e USING (object)
    )
    SELECT coalesce(array_agg(u.object ORDER BY u.object), '{}')
    FROM upstream AS u
$_upstream_of$;
COMMENT ON FUNCTION etl._upstream_of(name) IS 'What an object is made of, all the way up.';

/*
Removes differences of a dimension or fact that rows of a mirror touch which differ themselves.
Parameters: p_reconciliation_id, the reconciliation; p_dependency, of the object on the source table; p_key, p_table, the object's key and table.
Returns:    number of differences removed.
Writes:     etl.reconciliation_difference.
*/
CREATE OR REPLACE FUNCTION etl._remove_touched(p_reconciliation_id bigint, p_dependency etl.dependency, p_key name[], p_table regclass)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET timezone = 'UTC'
AS $_remove_touched$
DECLARE
    v_stage regclass := format('stage.%I', p_dependency.source_table)::regclass;
    v_source_key name[] := (SELECT s.key_columns FROM etl.source_table AS s WHERE s.source_table = p_dependency.source_table);
    v_count bigint;
BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_changed;
    -- The row as it is and as it should be. No batch brought it, so nothing came together with it.
    EXECUTE format(
        $sql$CREATE TEMPORARY TABLE reconciled_changed ON COMMIT DROP AS
SELECT m.*
FROM etl.reconciliation_difference AS x
CROSS JOIN LATERAL (SELECT %1$s) AS k (%2$s)
LEFT JOIN %3$s AS s ON %4$s
CROSS JOIN LATERAL (VALUES (to_jsonb(s.*)), (coalesce(to_jsonb(s.*), '{}') || coalesce(x.expected, '{}')), (x.actual)) AS i (image)
CROSS JOIN LATERAL jsonb_populate_record(NULL::%3$s, x.row_key || i.image || '{"batch_id": null}') AS m
WHERE x.reconciliation_id = $1
    AND x.object = $2
    AND i.image IS NOT NULL$sql$,
        etl._from_json(v_source_key, 'x.row_key', v_stage), etl._list(v_source_key), v_stage, etl._match(v_source_key, 's', 'k')
    )
    USING p_reconciliation_id, p_dependency.source_table;
    EXECUTE format(
        $sql$WITH changed AS (
    SELECT * FROM pg_temp.reconciled_changed
)
DELETE FROM etl.reconciliation_difference AS x
USING (
    SELECT DISTINCT %3$s
    FROM (
        %2$s
    ) AS q (%3$s)
) AS k
WHERE x.reconciliation_id = $1
    AND x.object = $2
    AND (%4$s) = (%1$s)$sql$,
        etl._list(p_key, 'k.%1$I'), p_dependency.key_query, etl._list(p_key), etl._from_json(p_key, 'x.row_key', p_table)
    )
    USING p_reconciliation_id, p_dependency.object;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$_remove_touched$;
COMMENT ON FUNCTION etl._remove_touched(bigint, etl.dependency, name[], regclass) IS 'Removes differences of an object that rows of a mirror touch which differ themselves.';

/*
Removes differences of a fact in keys alone whose members differ themselves.
Parameters: p_reconciliation_id, the reconciliation; p_fact, the fact.
Returns:    number of differences removed.
Writes:     etl.reconciliation_difference.
*/
CREATE OR REPLACE FUNCTION etl._remove_unsettled(p_reconciliation_id bigint, p_fact name)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_remove_unsettled$
DECLARE
    r_role record;
    v_count bigint;
BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_unsettled;
    CREATE TEMPORARY TABLE reconciled_unsettled (difference_id bigint, key_column name) ON COMMIT DROP;
    FOR r_role IN
        SELECT k.key_column, d.dimension, d.dimension_table, d.surrogate_key, d.business_key
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        JOIN etl.reconciliation_object AS o ON o.reconciliation_id = p_reconciliation_id AND o.object = d.dimension AND o.differences > 0
        WHERE k.fact = p_fact
    LOOP
        EXECUTE format(
            $sql$INSERT INTO pg_temp.reconciled_unsettled (difference_id, key_column)
SELECT x.difference_id, %1$L
FROM etl.reconciliation_difference AS x
WHERE x.reconciliation_id = $1
    AND x.object = $2
    AND x.kind = 'different'
    AND %1$L = ANY (x.columns)
    AND (
        EXISTS (
            SELECT
            FROM %2$s AS d
            JOIN etl.reconciliation_difference AS m ON m.reconciliation_id = $1 AND m.object = $3 AND m.row_key @> %3$s
            WHERE d.%4$I IN ((x.expected ->> %1$L)::bigint, (x.actual ->> %1$L)::bigint)
        )
        OR (x.expected ->> %1$L)::bigint = -1
        AND EXISTS (SELECT FROM etl.reconciliation_difference AS m WHERE m.reconciliation_id = $1 AND m.object = $3 AND m.kind = 'missing')
    )$sql$,
            r_role.key_column, r_role.dimension_table, etl._json_key(r_role.business_key, 'd'), r_role.surrogate_key
        )
        USING p_reconciliation_id, p_fact, r_role.dimension;
    END LOOP;
    WITH RECURSIVE excused (difference_id, key_column) AS (
        SELECT u.difference_id, u.key_column
        FROM pg_temp.reconciled_unsettled AS u
        UNION
        SELECT e.difference_id, k.key_column
        FROM excused AS e
        JOIN etl.fact_dimension AS k ON k.fact = p_fact AND k.lookup_role = e.key_column
    )
    DELETE FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = p_fact
        AND x.kind = 'different'
        AND cardinality(x.columns) > 0
        AND x.columns <@ ARRAY(SELECT e.key_column FROM excused AS e WHERE e.difference_id = x.difference_id);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$_remove_unsettled$;
COMMENT ON FUNCTION etl._remove_unsettled(bigint, name) IS 'Removes differences of a fact in keys alone whose members differ themselves.';

/*
Removes what follows from differences further up, object by object from the source on.
Parameters: p_reconciliation_id, the reconciliation.
Writes:     etl.reconciliation_difference, etl.reconciliation_object.
*/
CREATE OR REPLACE FUNCTION etl._judge(p_reconciliation_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_judge$
DECLARE
    v_kept bigint := etl.get_setting('reconciliation_rows_kept')::bigint;
    r_object record;
    r_dependency etl.dependency;
    v_removed bigint;
BEGIN
    FOR r_object IN
        SELECT o.object, o.comparison, o.differences, b.business_key, b.target
        FROM etl.reconciliation_object AS o
        JOIN (
            SELECT d.dimension, d.business_key, d.dimension_table FROM etl.dimension AS d WHERE d.transform_view IS NOT NULL
            UNION ALL
            SELECT f.fact, f.business_key, f.fact_table FROM etl.fact AS f
        ) AS b (object, business_key, target) USING (object)
        WHERE o.reconciliation_id = p_reconciliation_id
            AND o.differences > 0
        ORDER BY o.comparison
    LOOP
        v_removed := 0;
        IF EXISTS (
            SELECT
            FROM etl.reconciliation_object AS u
            WHERE u.reconciliation_id = p_reconciliation_id
                AND u.object = ANY (etl._upstream_of(r_object.object))
                AND u.differences > v_kept
        ) THEN
            -- Too many to tell which of these follow from them: this object is judged when those are right.
            DELETE FROM etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = p_reconciliation_id
                AND x.object = r_object.object;
            v_removed := r_object.differences;
        ELSE
            FOR r_dependency IN
                SELECT d.*
                FROM etl.dependency AS d
                JOIN etl.reconciliation_object AS u ON u.reconciliation_id = p_reconciliation_id AND u.object = d.source_table AND u.differences > 0
                WHERE d.object = r_object.object
            LOOP
                v_removed := v_removed + etl._remove_touched(p_reconciliation_id, r_dependency, r_object.business_key, r_object.target);
            END LOOP;
            IF r_object.comparison = 'stage to fact' THEN
                v_removed := v_removed + etl._remove_unsettled(p_reconciliation_id, r_object.object);
            END IF;
        END IF;
        UPDATE etl.reconciliation_object AS o
        SET differences = o.differences - v_removed,
            left_out = o.left_out || jsonb_build_object('following', v_removed)
        WHERE o.reconciliation_id = p_reconciliation_id
            AND o.object = r_object.object
            AND v_removed > 0;
    END LOOP;
END
$_judge$;
COMMENT ON FUNCTION etl._judge(bigint) IS 'Removes what follows from differences further up, object by object from the source on.';
