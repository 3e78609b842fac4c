-- Which differences follow from others upstream: a wrong row of a mirror is reported once, not once more per star that was loaded correctly
-- before it went wrong. Judged when all objects are compared, from the differences that were kept.

-- The objects upstream of an object.
-- Parameters: p_object, dimension, fact, aggregate, or the queue.
-- Returns:    source tables, dimensions, facts, aggregates.
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

-- Removes differences of a dimension or fact whose keys are touched by differing rows of a mirror.
-- Parameters: p_reconciliation_id, the reconciliation; p_dependency, of the object on the source table; p_key, p_table, the object's key and table.
-- Returns:    number of differences removed.
-- Writes:     etl.reconciliation_difference.
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
    -- The row as it is and as it should be, without a batch: no row came together with it.
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

-- Removes differences that follow from others upstream, object by object from the source on.
-- Parameters: p_reconciliation_id, the reconciliation.
-- Writes:     etl.reconciliation_difference, etl.reconciliation_object.
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
        SELECT o.object, o.differences, b.kind, b.business_key, b.table_name
        FROM etl.reconciliation_object AS o
        JOIN etl.object AS b USING (object)
        WHERE o.reconciliation_id = p_reconciliation_id
            AND o.differences > 0
            AND b.kind IN ('dimension', 'fact')
            AND b.view_name IS NOT NULL
        ORDER BY o.position
    LOOP
        v_removed := 0;
        IF EXISTS (
            SELECT
            FROM etl.reconciliation_object AS u
            WHERE u.reconciliation_id = p_reconciliation_id
                AND u.object = ANY (etl._upstream_of(r_object.object))
                AND u.differences > v_kept
        ) THEN
            -- More than were kept: this object is judged when those are right.
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
                v_removed := v_removed + etl._remove_touched(p_reconciliation_id, r_dependency, r_object.business_key, r_object.table_name);
            END LOOP;
            IF r_object.kind = 'fact' THEN
                -- The member of either key differs, or the key is -1 and a member is missing.
                v_removed := v_removed + etl._remove_excused(
                    r_object.object,
                    'etl.reconciliation_difference',
                    format('x.reconciliation_id = %s AND x.object = %L', p_reconciliation_id, r_object.object),
                    format(
                        $template$EXISTS (
        SELECT
        FROM etl.reconciliation_difference AS m
        WHERE m.reconciliation_id = %s
            AND m.object = {{dimension}}
            AND (m.row_key @> {{key_as_json}} OR (x.expected ->> {{key_column}}) = '-1' AND m.kind = 'missing')
    )$template$,
                        p_reconciliation_id
                    )
                );
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
