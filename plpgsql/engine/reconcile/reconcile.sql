-- Reconciliation: mirrors are compared with the source, stars with their mirrors, aggregates with their facts, queue and quarantine with what
-- they claim. All in the database, on one snapshot, and as of the watermark.
--
-- The load's own statements say what a row should be. A reconciliation therefore takes the transformation views for granted. It proves that
-- every row has gone through them, and has not changed since.
--
-- In three steps, so that several workers can share the objects: begin, compare each object on the same snapshot, end.
-- A worker claims an object by the lock on its row of etl.reconciliation_object, and keeps it until its transaction ends.
--
-- Each comparison writes the differences of its object, of one shape, to pg_temp.reconciled_difference: kind (missing, surplus, different),
-- row_key, expected, actual. They are judged (judge.sql), kept, and repaired (repair.sql).

-- The objects that a reconciliation compares.
-- Returns:    object; comparison, which two layers; is_sliced, whether a slice of its keys can be compared; position, from the source on.
CREATE OR REPLACE FUNCTION etl._reconciled_objects()
RETURNS TABLE (object name, comparison text, is_sliced boolean, "position" bigint)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reconciled_objects$
    SELECT o.object, c.comparison, c.layer < 4, row_number() OVER (ORDER BY c.layer, t.position, o.object)
    FROM (
        SELECT b.kind, b.object FROM etl.object AS b
        UNION ALL
        VALUES ('queue', 'reprocessing_queue'), ('quarantine', 'quarantine')
    ) AS o
    JOIN (
        VALUES
            ('source', 'source to stage', 1), ('dimension', 'stage to dimension', 2), ('fact', 'stage to fact', 3),
            ('aggregate', 'fact to aggregate', 4), ('queue', 'fact to queue', 5), ('quarantine', 'claim to row', 6)
    ) AS c (kind, comparison, layer) USING (kind)
    LEFT JOIN etl.task AS t ON t.object = o.object AND t.kind = CASE o.kind WHEN 'source' THEN 'stage' ELSE o.kind END
$_reconciled_objects$;

-- Begins a reconciliation.
-- Parameters: p_objects, source tables, dimensions, facts and aggregates, with everything upstream; all by default. p_slices, into how many
--             slices the keys are divided: each reconciliation compares the next slice, so as many of them compare everything. Aggregates, the
--             queue and quarantine are compared as a whole, each in one of the slices. A slice saves time on comparing rows, not on reading them.
-- Returns:    the reconciliation; until it ends it counts as incomplete.
-- Writes:     etl.reconciliation, etl.reconciliation_object.
-- Errors:     ET002 if there is no such object, 22023 if the slices are not from 1 to 1000.
CREATE OR REPLACE FUNCTION etl.begin_reconciliation(p_objects text[], p_slices integer)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $begin_reconciliation$
DECLARE
    v_id bigint;
    v_name text;
    v_slice integer;
BEGIN
    PERFORM etl._pin_session();
    IF p_slices IS NULL OR p_slices NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'the number of slices cannot be %', coalesce(p_slices::text, 'NULL')
            USING ERRCODE = '22023', HINT = 'Give a number from 1 to 1000.';
    END IF;
    FOREACH v_name IN ARRAY coalesce(p_objects, '{}')
    LOOP
        IF NOT EXISTS (SELECT FROM etl._reconciled_objects() AS o WHERE o.object = v_name) THEN
            RAISE EXCEPTION 'there is no source table, dimension, fact or aggregate "%"', v_name
                USING ERRCODE = 'ET002', HINT = 'To list the objects, run: oceanrecords ls.';
        END IF;
    END LOOP;
    SELECT (r.slice + 1) % p_slices
    INTO v_slice
    FROM etl.reconciliation AS r
    WHERE r.slices = p_slices
        AND r.objects IS NOT DISTINCT FROM p_objects
        AND r.ended_at IS NOT NULL
    ORDER BY r.reconciliation_id DESC
    LIMIT 1;
    INSERT INTO etl.reconciliation (objects, slices, slice, status, differences)
    VALUES (p_objects, p_slices, coalesce(v_slice, 0), 'incomplete', 0)
    RETURNING reconciliation_id, slice INTO v_id, v_slice;
    INSERT INTO etl.reconciliation_object (reconciliation_id, object, position, comparison, status, message)
    SELECT v_id, o.object, o.position, o.comparison, 'skipped', 'it was not compared: the reconciliation was interrupted'
    FROM (
        SELECT r.*, row_number() OVER (PARTITION BY r.is_sliced ORDER BY r.position) AS number
        FROM etl._reconciled_objects() AS r
    ) AS o
    WHERE (o.is_sliced OR o.number % p_slices = v_slice)
        AND (
            p_objects IS NULL
            OR o.object = ANY (p_objects)
            OR EXISTS (SELECT FROM unnest(p_objects) AS n (object) WHERE o.object = ANY (etl._upstream_of(n.object)))
            OR o.object = 'reprocessing_queue' AND EXISTS (SELECT FROM etl.fact AS f WHERE f.fact = ANY (p_objects))
            OR o.object = 'quarantine' AND EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = ANY (p_objects))
        );
    RETURN v_id;
END
$begin_reconciliation$;
COMMENT ON FUNCTION etl.begin_reconciliation(text[], integer) IS 'Begins a reconciliation that several workers share, and returns its number; then etl.compare_next_object().';

-- Keeps the differing rows that a comparison has found, as many as the setting reconciliation_rows_kept allows.
-- Parameters: p_reconciliation_id, the reconciliation; p_object, the object.
-- Writes:     etl.reconciliation_difference.
CREATE OR REPLACE FUNCTION etl._keep_differences(p_reconciliation_id bigint, p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_keep_differences$
BEGIN
    INSERT INTO etl.reconciliation_difference (reconciliation_id, object, kind, row_key, columns, expected, actual)
    SELECT
        p_reconciliation_id,
        p_object,
        d.kind,
        d.row_key,
        c.columns,
        CASE WHEN d.kind = 'different' THEN c.expected ELSE d.expected END,
        CASE WHEN d.kind = 'different' THEN c.actual ELSE d.actual END
    FROM (
        SELECT *
        FROM pg_temp.reconciled_difference
        ORDER BY row_key
        LIMIT etl.get_setting('reconciliation_rows_kept')::bigint
    ) AS d
    CROSS JOIN LATERAL (
        SELECT
            coalesce(array_agg(n.key ORDER BY n.key), '{}') AS columns,
            jsonb_object_agg(n.key, d.expected -> n.key) AS expected,
            jsonb_object_agg(n.key, d.actual -> n.key) AS actual
        FROM jsonb_object_keys(d.expected) AS n (key)
        WHERE d.kind = 'different'
            -- As text: 1.0 and 1.00 are the same number to jsonb.
            AND (d.expected -> n.key)::text IS DISTINCT FROM (d.actual -> n.key)::text
    ) AS c;
END
$_keep_differences$;

-- Compares an object, on the snapshot of this transaction.
-- Parameters: p_reconciliation, the reconciliation; p_object, one of its objects; p_comparison, which two layers.
-- Writes:     etl.reconciliation_object, etl.reconciliation_difference.
-- Errors:     none: if the comparison fails, the object counts as skipped, with the error as message.
CREATE OR REPLACE FUNCTION etl._compare_object(p_reconciliation etl.reconciliation, p_object name, p_comparison text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_object$
DECLARE
    r_object etl.reconciliation_object;
    v_facts name[];
    v_started_at timestamptz := clock_timestamp();
BEGIN
    v_facts := ARRAY(
        SELECT f.fact
        FROM etl.fact AS f
        WHERE p_reconciliation.objects IS NULL
            OR f.fact = ANY (p_reconciliation.objects)
            OR 'reprocessing_queue' = ANY (p_reconciliation.objects)
    );
    BEGIN
        IF EXISTS (SELECT FROM etl.load_state AS l WHERE l.object = p_object AND l.needs_reload) THEN
            RAISE EXCEPTION 'the object waits to be loaded completely'
                USING ERRCODE = 'ET017', HINT = 'Reconcile after the next run.';
        END IF;
        PERFORM etl._begin_comparison(
            (SELECT o.business_key FROM etl.object AS o WHERE o.object = p_object AND o.kind <> 'aggregate'),
            (SELECT o.table_name FROM etl.object AS o WHERE o.object = p_object)
        );
        r_object := CASE p_comparison
            WHEN 'source to stage' THEN (
                SELECT etl._compare_source(s, p_reconciliation.slices, p_reconciliation.slice)
                FROM etl.source_table AS s
                WHERE s.source_table = p_object
            )
            WHEN 'stage to dimension' THEN (
                SELECT etl._compare_dimension(d, p_reconciliation.slices, p_reconciliation.slice)
                FROM etl.dimension AS d
                WHERE d.dimension = p_object
            )
            WHEN 'stage to fact' THEN (
                SELECT etl._compare_fact(f, p_reconciliation.slices, p_reconciliation.slice)
                FROM etl.fact AS f
                WHERE f.fact = p_object
            )
            WHEN 'fact to aggregate' THEN (SELECT etl._compare_aggregate(a) FROM etl.aggregate AS a WHERE a.aggregate = p_object)
            WHEN 'fact to queue' THEN etl._compare_queue(v_facts)
            ELSE etl._compare_quarantine(CASE WHEN NOT 'quarantine' = ANY (p_reconciliation.objects) THEN p_reconciliation.objects::name[] END)
        END;
        SELECT
            count(*),
            coalesce(
                r_object.expected_rows,
                r_object.actual_rows + count(*) FILTER (WHERE x.kind = 'missing') - count(*) FILTER (WHERE x.kind = 'surplus')
            )
        INTO r_object.differences, r_object.expected_rows
        FROM pg_temp.reconciled_difference AS x;
        PERFORM etl._keep_differences(p_reconciliation.reconciliation_id, p_object);
        r_object.status := CASE WHEN r_object.differences > 0 THEN 'different' ELSE 'equal' END;
    EXCEPTION
        WHEN OTHERS THEN
            r_object := NULL;
            r_object.status := 'skipped';
            r_object.differences := 0;
            r_object.message := CASE WHEN SQLSTATE = 'ET017' THEN SQLERRM ELSE format('%s (%s)', SQLERRM, SQLSTATE) END;
    END;
    UPDATE etl.reconciliation_object AS o
    SET status = r_object.status,
        expected_rows = r_object.expected_rows,
        actual_rows = r_object.actual_rows,
        expected_sums = r_object.expected_sums,
        actual_sums = r_object.actual_sums,
        buckets = r_object.buckets,
        different_buckets = r_object.different_buckets,
        differences = r_object.differences,
        left_out = (SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}') FROM jsonb_each(r_object.left_out) AS c WHERE c.value <> '0'),
        message = r_object.message,
        seconds = extract(epoch FROM clock_timestamp() - v_started_at)
    WHERE o.reconciliation_id = p_reconciliation.reconciliation_id
        AND o.object = p_object;
END
$_compare_object$;

-- Compares the next object of a reconciliation that no other worker compares, on the snapshot of this transaction.
-- Parameters: p_reconciliation_id, the reconciliation.
-- Returns:    the object; NULL if none is left.
-- Writes:     etl.reconciliation_object, etl.reconciliation_difference.
-- Errors:     ET016 if the transaction is not REPEATABLE READ, ET039 if a temporary relation of the caller is in the way.
CREATE OR REPLACE FUNCTION etl.compare_next_object(p_reconciliation_id bigint)
RETURNS name
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $compare_next_object$
DECLARE
    r_reconciliation etl.reconciliation;
    r_object record;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'a reconciliation needs one snapshot, this transaction is %', current_setting('transaction_isolation')
            USING ERRCODE = 'ET016', HINT = 'CALL etl.reconcile(), outside a transaction block.';
    END IF;
    PERFORM etl._refuse_foreign_temporary('reconciled\_%');
    SELECT *
    INTO r_reconciliation
    FROM etl.reconciliation AS r
    WHERE r.reconciliation_id = p_reconciliation_id;
    FOR r_object IN
        SELECT o.object, o.comparison
        FROM etl.reconciliation_object AS o
        WHERE o.reconciliation_id = p_reconciliation_id
            AND o.seconds IS NULL
        -- Facts take longest: no worker should be left with one at the end.
        ORDER BY o.comparison <> 'stage to fact', o.position
    LOOP
        BEGIN
            PERFORM
            FROM etl.reconciliation_object AS o
            WHERE o.reconciliation_id = p_reconciliation_id
                AND o.object = r_object.object
            FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
        EXCEPTION
            WHEN serialization_failure THEN
                -- Another worker has compared it since the snapshot.
                CONTINUE;
        END;
        PERFORM etl._compare_object(r_reconciliation, r_object.object, r_object.comparison);
        RETURN r_object.object;
    END LOOP;
    RETURN NULL;
END
$compare_next_object$;
COMMENT ON FUNCTION etl.compare_next_object(bigint) IS 'Compares the next object of a reconciliation that no other worker compares, and returns its name; NULL if none is left.';

-- Adds to differences in surrogate keys the members that they refer to.
-- Parameters: p_reconciliation_id, the reconciliation.
-- Writes:     etl.reconciliation_difference.
CREATE OR REPLACE FUNCTION etl._name_members(p_reconciliation_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_name_members$
DECLARE
    r_role record;
    v_members jsonb;  -- by surrogate key
BEGIN
    FOR r_role IN
        SELECT k.fact, k.key_column, d.dimension_table, d.surrogate_key,
            d.business_key || CASE WHEN etl._column_type(d.dimension_table, 'valid_from') IS NULL THEN '{}' ELSE '{valid_from}'::name[] END AS shown
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        JOIN etl.reconciliation_object AS o ON o.reconciliation_id = p_reconciliation_id AND o.object = k.fact AND o.differences > 0
    LOOP
        EXECUTE format(
            'SELECT jsonb_object_agg(d.%1$I, jsonb_build_object(''key'', d.%1$I) || %2$s) FROM %3$s AS d WHERE d.%1$I = ANY ($1)',
            r_role.surrogate_key, etl._json_key(r_role.shown, 'd'), r_role.dimension_table
        )
        INTO v_members
        USING ARRAY(
            SELECT unnest(ARRAY[x.expected ->> r_role.key_column, x.actual ->> r_role.key_column])::bigint
            FROM etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = p_reconciliation_id
                AND x.object = r_role.fact
                AND x.kind = 'different'
                AND r_role.key_column = ANY (x.columns)
        );
        UPDATE etl.reconciliation_difference AS x
        SET expected = x.expected || jsonb_build_object(r_role.key_column, coalesce(v_members -> (x.expected ->> r_role.key_column), x.expected -> r_role.key_column)),
            actual = x.actual || jsonb_build_object(r_role.key_column, coalesce(v_members -> (x.actual ->> r_role.key_column), x.actual -> r_role.key_column))
        WHERE x.reconciliation_id = p_reconciliation_id
            AND x.object = r_role.fact
            AND x.kind = 'different'
            AND r_role.key_column = ANY (x.columns);
    END LOOP;
END
$_name_members$;

-- Ends a reconciliation: removes differences that follow from others upstream, and decides on the status of the whole.
-- Parameters: p_reconciliation_id, the reconciliation.
-- Writes:     etl.reconciliation, etl.reconciliation_object, etl.reconciliation_difference.
CREATE OR REPLACE FUNCTION etl.end_reconciliation(p_reconciliation_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $end_reconciliation$
BEGIN
    PERFORM etl._pin_session();
    PERFORM etl._judge(p_reconciliation_id);
    PERFORM etl._name_members(p_reconciliation_id);
    UPDATE etl.reconciliation_object AS o
    SET status = CASE WHEN o.status = 'skipped' THEN o.status WHEN o.differences > 0 THEN 'different' ELSE 'equal' END,
        ignored_rows = (SELECT coalesce(sum(c.value::bigint), 0) FROM jsonb_each_text(o.left_out) AS c)
    WHERE o.reconciliation_id = p_reconciliation_id;
    UPDATE etl.reconciliation AS r
    SET ended_at = clock_timestamp(),
        differences = t.differences,
        left_out = (
            SELECT coalesce(jsonb_object_agg(c.reason, c.row_count), '{}')
            FROM (
                SELECT l.key, sum(l.value::bigint)
                FROM etl.reconciliation_object AS o
                CROSS JOIN LATERAL jsonb_each_text(o.left_out) AS l
                WHERE o.reconciliation_id = p_reconciliation_id
                GROUP BY l.key
            ) AS c (reason, row_count)
        ),
        status = CASE WHEN t.differences > 0 THEN 'different' WHEN t.is_incomplete THEN 'incomplete' ELSE 'equal' END
    FROM (
        SELECT
            coalesce(sum(o.differences), 0) AS differences,
            -- Pending rows are not known to be right. Neither is a warehouse of which nothing was compared.
            coalesce(bool_or(o.status = 'skipped' OR o.left_out ? 'pending'), true) AS is_incomplete
        FROM etl.reconciliation_object AS o
        WHERE o.reconciliation_id = p_reconciliation_id
    ) AS t
    WHERE r.reconciliation_id = p_reconciliation_id;
END
$end_reconciliation$;
COMMENT ON FUNCTION etl.end_reconciliation(bigint) IS 'Ends a reconciliation when its objects are compared: decides which differences follow from others, and on the status of the whole.';

-- Compares source, mirrors and stars on one snapshot. Call it outside a transaction block.
-- Parameters: p_objects, source tables, dimensions, facts and aggregates, all by default; p_reconciliation_id, returns the reconciliation;
--             p_slices, compare the next of so many slices.
-- Writes:     etl.reconciliation, etl.reconciliation_object, etl.reconciliation_difference.
-- Errors:     as etl.begin_reconciliation.
CREATE OR REPLACE PROCEDURE etl.reconcile(p_objects text[] DEFAULT NULL, INOUT p_reconciliation_id bigint DEFAULT NULL, p_slices integer DEFAULT 1)
LANGUAGE plpgsql
AS $reconcile$
BEGIN
    p_reconciliation_id := etl.begin_reconciliation(p_objects, p_slices);
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    WHILE etl.compare_next_object(p_reconciliation_id) IS NOT NULL LOOP
        NULL;
    END LOOP;
    COMMIT;
    PERFORM etl.end_reconciliation(p_reconciliation_id);
    COMMIT;
END
$reconcile$;
COMMENT ON PROCEDURE etl.reconcile(text[], bigint, integer) IS 'Compares source, mirrors and stars on one snapshot; etl.reconciliation_status shows the result.';

CREATE OR REPLACE VIEW etl.reconciliation_status AS
SELECT
    r.reconciliation_id,
    r.started_at,
    r.ended_at,
    r.objects,
    r.status AS overall_status,
    r.differences AS overall_differences,
    r.repair_requested_at,
    r.slices,
    r.slice,
    r.left_out AS overall_left_out,
    o.object,
    o.comparison,
    o.status,
    o.expected_rows,
    o.actual_rows,
    o.ignored_rows,
    o.left_out,
    o.expected_sums,
    o.actual_sums,
    o.buckets,
    o.different_buckets,
    o.differences,
    o.seconds,
    o.message
FROM etl.reconciliation AS r
LEFT JOIN etl.reconciliation_object AS o USING (reconciliation_id)
WHERE r.reconciliation_id = (SELECT max(l.reconciliation_id) FROM etl.reconciliation AS l);
COMMENT ON VIEW etl.reconciliation_status IS 'The last reconciliation, one row per object; the differing rows are in etl.reconciliation_difference.';
COMMENT ON COLUMN etl.reconciliation_status.reconciliation_id IS 'Reconciliation.';
COMMENT ON COLUMN etl.reconciliation_status.overall_status IS 'equal, different or incomplete.';
COMMENT ON COLUMN etl.reconciliation_status.overall_differences IS 'Number of differing rows of all objects.';
COMMENT ON COLUMN etl.reconciliation_status.overall_left_out IS 'Rows left out of all objects, by reason.';
COMMENT ON COLUMN etl.reconciliation_status.status IS 'equal, different or skipped.';
COMMENT ON COLUMN etl.reconciliation_status.left_out IS 'Rows left out by reason: changed, pending, quarantined, forgotten, following, unlogged.';
