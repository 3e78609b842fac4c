-- Repair: the differences of a reconciliation are handed to the next run, upstream first. An object is left alone while something upstream of it
-- differs: what it should be cannot be known before that is right. So a repair may take several rounds of repair, run and reconciliation.

/*
Deletes all but one of the rows that share a key, among the surplus rows of a mirror, fact or aggregate: only a table without its primary key holds such.
Parameters: p_reconciliation_id, the reconciliation; p_object, the object; p_key, p_table, its key and table.
Writes:     the table.
*/
CREATE OR REPLACE FUNCTION etl._delete_repeated(p_reconciliation_id bigint, p_object name, p_key name[], p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_delete_repeated$
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_index AS i
        WHERE i.indrelid = p_table
            AND i.indisprimary
            AND p_key @> ARRAY(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = p_table AND a.attnum = ANY (i.indkey))
    ) THEN
        RETURN;
    END IF;
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE etl._render(
        $sql$DELETE FROM {{table}} AS t
USING (
    SELECT r.tableoid, r.ctid, row_number() OVER (PARTITION BY {{r.key}}) AS occurrence
    FROM {{table}} AS r
    WHERE ({{r.key}}) IN (
        SELECT {{surplus_key}}
        FROM etl.reconciliation_difference AS x
        WHERE x.reconciliation_id = $1
            AND x.object = $2
            AND x.kind = 'surplus'
    )
) AS d
WHERE t.tableoid = d.tableoid
    AND t.ctid = d.ctid
    AND d.occurrence > 1$sql$,
        jsonb_build_object('table', p_table::text, 'key', to_jsonb(p_key), 'surplus_key', etl._from_json(p_key, 'x.row_key', p_table))
    )
    USING p_reconciliation_id, p_object;
END
$_delete_repeated$;

/*
Writes rows as they should be, in a table that no load writes.
Parameters: p_reconciliation_id, p_object, $1 and $2 of p_rows; p_key, p_table, key and table of the rows; p_rows, a SELECT of all columns.
Writes:     the table, pg_temp.reconciled_expected.
*/
CREATE OR REPLACE FUNCTION etl._write_expected(p_reconciliation_id bigint, p_object name, p_key name[], p_table regclass, p_rows text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_write_expected$
DECLARE
    v_values jsonb := (
        SELECT jsonb_build_object(
            'table', p_table::text,
            'key', to_jsonb(p_key),
            'columns', coalesce(jsonb_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attname <> ALL (p_key || 'run_id'::name)), '[]'),
            'rows', p_rows,
            'run_id', CASE WHEN bool_or(a.attname = 'run_id') THEN ', run_id' ELSE '' END,
            'no_run', CASE WHEN bool_or(a.attname = 'run_id') THEN ', 0' ELSE '' END
        )
        FROM pg_attribute AS a
        WHERE a.attrelid = p_table
            AND a.attnum > 0
            AND NOT a.attisdropped
            AND a.attgenerated = ''
    );
BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_expected;
    EXECUTE etl._render('CREATE TEMPORARY TABLE reconciled_expected ON COMMIT DROP AS SELECT {{key}}{{, columns}} FROM {{table}} WITH NO DATA', v_values);
    EXECUTE etl._render('INSERT INTO pg_temp.reconciled_expected SELECT {{v.key}}{{, v.columns}} FROM ({{rows}}) AS v', v_values)
    USING p_reconciliation_id, p_object;
    EXECUTE etl._render(
        'UPDATE {{table}} AS d SET {{columns := v.columns}} FROM (SELECT * FROM pg_temp.reconciled_expected) AS v WHERE {{d.key = v.key}}', v_values
    );
    EXECUTE etl._render(
        $sql$INSERT INTO {{table}} ({{key}}{{, columns}}{{run_id}})
OVERRIDING SYSTEM VALUE
SELECT {{v.key}}{{, v.columns}}{{no_run}}
FROM pg_temp.reconciled_expected AS v
WHERE NOT EXISTS (SELECT FROM {{table}} AS d WHERE {{d.key = v.key}})$sql$,
        v_values
    );
END
$_write_expected$;

/*
Repairs what no load of a dimension writes: default members, the sequence of the surrogate key, and differing and missing rows of a dimension that
nothing loads. Other surplus rows of such a dimension stay, because facts may refer to them.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Writes:     the dimension's table and sequence.
*/
CREATE OR REPLACE FUNCTION etl._repair_fixed_members(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_fixed_members$
BEGIN
    PERFORM etl._write_expected(
        p_reconciliation_id, p_dimension.dimension, ARRAY[p_dimension.surrogate_key], p_dimension.dimension_table,
        format(
            $sql$SELECT r.*
FROM etl.default_member AS m
CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, m.member || jsonb_build_object(%L, m.surrogate_key)) AS r
JOIN etl.reconciliation_difference AS x ON x.reconciliation_id = $1 AND x.object = $2 AND x.row_key = jsonb_build_object(%2$L, m.surrogate_key)
WHERE m.dimension = $2$sql$,
            p_dimension.dimension_table, p_dimension.surrogate_key
        )
    );
    EXECUTE format(
        $sql$DELETE FROM %s AS d
WHERE d.%I < -2
    AND d.%2$I IN (
        SELECT (x.row_key ->> %L)::bigint
        FROM etl.reconciliation_difference AS x
        WHERE x.reconciliation_id = $1
            AND x.object = $2
            AND x.kind = 'surplus'
    )$sql$,
        p_dimension.dimension_table, p_dimension.surrogate_key, p_dimension.surrogate_key
    )
    USING p_reconciliation_id, p_dimension.dimension;
    PERFORM setval((x.row_key ->> 'sequence')::regclass, (x.expected ->> 'last_value')::bigint)
    FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = p_dimension.dimension
        AND x.row_key ? 'sequence';
    IF p_dimension.expected_view IS NOT NULL THEN
        PERFORM etl._write_expected(
            p_reconciliation_id, p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table,
            format(
                $sql$SELECT e.*
FROM %s AS e
WHERE (%s) IN (
    SELECT %s
    FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = $1
        AND x.object = $2
        AND x.kind <> 'surplus'
        AND %s
)$sql$,
                p_dimension.expected_view, etl._list(p_dimension.business_key, 'e.%1$I'),
                etl._from_json(p_dimension.business_key, 'x.row_key', p_dimension.dimension_table), etl._list(p_dimension.business_key, 'x.row_key ? %1$L', ' AND ')
            )
        );
    END IF;
END
$_repair_fixed_members$;

/*
Makes the differing members of a dimension pending, after it has corrected in place what a load would take for history: impossible validity and
first values, tracked attributes of current versions, and attributes of deleted members. The source has not changed since these were loaded.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Writes:     the dimension's table, work.<dimension>_key.
*/
CREATE OR REPLACE FUNCTION etl._repair_members(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_repair_members$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_values jsonb := etl._member_values(p_dimension) || jsonb_build_object('keys', format('work.%I', p_dimension.dimension || '_key'));
    v_pending bigint[];  -- versions of pending members
    r_part record;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    PERFORM etl._enqueue_differing(p_reconciliation_id, p_dimension.dimension, v_bk, p_dimension.dimension_table);
    PERFORM etl._begin_comparison();
    EXECUTE format('SELECT compiled.%I($1, 1, 0)', 'correct_' || p_dimension.dimension) USING etl._note_deletions(p_dimension);
    EXECUTE etl._render('SELECT array_agg(d.{{sk}}) FROM {{dimension_table}} AS d JOIN {{keys}} AS k ON {{k.bk = d.bk}}', v_values) INTO v_pending;
    EXECUTE etl._render('DELETE FROM pg_temp.reconciled_correction AS c WHERE (c.{{sk}} = ANY ($1)) IS NOT TRUE', v_values) USING v_pending;
    EXECUTE etl._render(
        $sql$UPDATE {{dimension_table}} AS d
SET valid_from = c._right_valid_from,
    valid_to = c._right_valid_to,
    is_current = c._right_valid_to = 'infinity'{{right_kept_set}}
FROM (SELECT * FROM pg_temp.reconciled_correction) AS c
WHERE d.{{sk}} = c.{{sk}}$sql$,
        v_values
    );
    -- A deleted member keeps what its mirror held last, in all versions.
    FOR r_part IN
        SELECT *
        FROM (
            VALUES
                (v_values -> 'unlogged', 'IS NULL', format('d.valid_to = ''infinity'' AND x.row_key = %s', v_values ->> 'member')),
                (v_values -> 'overwritten', 'IS NOT NULL', format('x.kind = ''different'' AND x.columns && $3 AND x.row_key @> %s', v_values ->> 'member'))
        ) AS p (attributes, is_deleted, condition)
        WHERE jsonb_array_length(p.attributes) > 0
    LOOP
        v_values := v_values || jsonb_build_object('part', r_part.attributes, 'is_deleted', r_part.is_deleted, 'condition', r_part.condition);
        DROP TABLE IF EXISTS pg_temp.reconciled_plan;
        EXECUTE etl._render('CREATE TEMPORARY TABLE reconciled_plan ON COMMIT DROP AS SELECT {{sk}}{{, part}} FROM {{dimension_table}} WITH NO DATA', v_values);
        EXECUTE etl._render(
            $sql$INSERT INTO pg_temp.reconciled_plan
SELECT d.{{sk}}{{, v.part}}
FROM {{dimension_table}} AS d
JOIN (
    SELECT {{view_typed}}
    FROM {{transform_view}} AS o
    WHERE {{view_deleted_at}} {{is_deleted}}
) AS v ON {{d.bk = v.bk}}
WHERE EXISTS (
    SELECT
    FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = $1
        AND x.object = $2
        AND {{condition}}
)$sql$,
            v_values
        )
        USING p_reconciliation_id, p_dimension.dimension, ARRAY(SELECT jsonb_array_elements_text(r_part.attributes))::name[];
        EXECUTE etl._render(
            'UPDATE {{dimension_table}} AS d SET {{part := v.part}} FROM (SELECT * FROM pg_temp.reconciled_plan) AS v WHERE d.{{sk}} = v.{{sk}}', v_values
        );
    END LOOP;
END
$_repair_members$;

-- Makes the differing keys of a dimension or fact pending.
CREATE OR REPLACE FUNCTION etl._enqueue_differing(p_reconciliation_id bigint, p_object name, p_key name[], p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_enqueue_differing$
BEGIN
    EXECUTE format(
        'INSERT INTO work.%I (%s) SELECT DISTINCT %s FROM etl.reconciliation_difference AS x WHERE x.reconciliation_id = $1 AND x.object = $2 AND %s',
        p_object || '_key', etl._list(p_key), etl._from_json(p_key, 'x.row_key', p_table), etl._list(p_key, 'x.row_key ->> %1$L IS NOT NULL', ' AND ')
    )
    USING p_reconciliation_id, p_object;
END
$_enqueue_differing$;

/*
Requests that the next load sum up an aggregate completely, which writes the groups that differ. What addition cannot repair is repaired here:
measures that are NULL, and groups at zero.
Parameters: p_aggregate, the aggregate.
Writes:     the aggregate's table, etl.load_state.
*/
CREATE OR REPLACE FUNCTION etl._repair_aggregate(p_aggregate name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_aggregate$
DECLARE
    r_aggregate etl.aggregate := (SELECT a FROM etl.aggregate AS a WHERE a.aggregate = p_aggregate);
BEGIN
    EXECUTE format(
        'UPDATE %s AS a SET %s WHERE %s', r_aggregate.aggregate_table,
        etl._list(r_aggregate.measures, '%1$I = coalesce(a.%1$I, 0)'), etl._list(r_aggregate.measures, 'a.%1$I IS NULL', ' OR ')
    );
    EXECUTE format('DELETE FROM %s AS a WHERE %s', r_aggregate.aggregate_table, etl._list(r_aggregate.measures, 'a.%1$I = 0', ' AND '));
    PERFORM etl._request_reload(ARRAY[p_aggregate]);
END
$_repair_aggregate$;

/*
Removes the surplus entries of the queue, and makes the rows of all differing entries pending: the load queues them again if they refer to another
member.
Parameters: p_reconciliation_id, the reconciliation.
Writes:     etl.reprocessing_queue, work.<fact>_key.
*/
CREATE OR REPLACE FUNCTION etl._repair_queue(p_reconciliation_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_queue$
DECLARE
    r_fact etl.fact;
BEGIN
    DELETE FROM etl.reprocessing_queue AS q
    USING etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = 'reprocessing_queue'
        AND x.kind = 'surplus'
        AND x.row_key = jsonb_build_object('fact', q.fact, 'fact_key', q.fact_key, 'key_column', q.key_column);
    FOR r_fact IN
        SELECT *
        FROM etl.fact
    LOOP
        EXECUTE format(
            $sql$INSERT INTO work.%1$I (%2$s)
SELECT DISTINCT %3$s
FROM etl.reconciliation_difference AS x
CROSS JOIN LATERAL (SELECT x.row_key -> 'fact_key') AS k (fact_key)
WHERE x.reconciliation_id = $1
    AND x.object = 'reprocessing_queue'
    AND x.row_key ->> 'fact' = $2
    AND %4$s$sql$,
            r_fact.fact || '_key', etl._list(r_fact.business_key), etl._from_json(r_fact.business_key, 'k.fact_key', r_fact.fact_table),
            etl._list(r_fact.business_key, 'k.fact_key ->> %1$L IS NOT NULL', ' AND ')
        )
        USING p_reconciliation_id, r_fact.fact;
    END LOOP;
END
$_repair_queue$;

/*
Repairs an object, by its kind. Differing rows of a mirror are extracted again. If more rows of a mirror or fact differ than were kept, it is loaded
completely; of a dimension, the rest is repaired in later rounds. Aggregates of a fact that was wrong are summed up again.
Parameters: p_reconciliation_id, the reconciliation; p_object, the object.
Writes:     etl.reextraction, etl.quarantine; as the functions that it calls.
*/
CREATE OR REPLACE FUNCTION etl._repair_object(p_reconciliation_id bigint, p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_object$
DECLARE
    r_found record;
    r_dimension etl.dimension := (SELECT d FROM etl.dimension AS d WHERE d.dimension = p_object);
BEGIN
    SELECT o.comparison, b.business_key, b.table_name, o.differences > etl.get_setting('reconciliation_rows_kept')::bigint AS are_too_many
    INTO STRICT r_found
    FROM etl.reconciliation_object AS o
    LEFT JOIN etl.object AS b USING (object)
    WHERE o.reconciliation_id = p_reconciliation_id
        AND o.object = p_object;
    IF r_found.comparison IN ('source to stage', 'stage to fact', 'fact to aggregate') THEN
        PERFORM etl._delete_repeated(p_reconciliation_id, p_object, r_found.business_key, r_found.table_name);
    END IF;
    CASE r_found.comparison
        WHEN 'source to stage' THEN
            INSERT INTO etl.reextraction (source_table, row_key)
            SELECT DISTINCT x.object, x.row_key
            FROM etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = p_reconciliation_id
                AND x.object = p_object
                AND NOT r_found.are_too_many
            ON CONFLICT (source_table, row_key) DO UPDATE
            SET batch_id = NULL;
        WHEN 'stage to dimension' THEN
            PERFORM etl._repair_fixed_members(p_reconciliation_id, r_dimension);
            IF r_dimension.transform_view IS NOT NULL THEN
                PERFORM etl._repair_members(p_reconciliation_id, r_dimension);
            END IF;
        WHEN 'stage to fact' THEN
            PERFORM etl._enqueue_differing(p_reconciliation_id, p_object, r_found.business_key, r_found.table_name);
            PERFORM etl._request_reload(etl._fed_by(p_object));
        WHEN 'fact to aggregate' THEN PERFORM etl._repair_aggregate(p_object);
        WHEN 'fact to queue' THEN PERFORM etl._repair_queue(p_reconciliation_id);
        ELSE
            DELETE FROM etl.quarantine AS q
            USING etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = p_reconciliation_id
                AND x.object = p_object
                AND x.row_key = jsonb_build_object('object', q.object, 'row_key', q.row_key);
    END CASE;
    IF r_found.are_too_many AND r_found.comparison IN ('source to stage', 'stage to fact') THEN
        PERFORM etl._request_refresh(ARRAY[p_object::text]);
    END IF;
END
$_repair_object$;

/*
Hands the differences of a reconciliation to the next run, upstream first. Objects downstream of one that differs, or could not be compared, are
left for the repair after the next reconciliation.
Parameters: p_reconciliation_id, the reconciliation; the last one by default.
Returns:    number of differences handed over.
Writes:     etl.reextraction, the dimensions' tables, work.<object>_key, etl.load_state, etl.watermark, etl.reprocessing_queue, etl.quarantine,
            etl.reconciliation.
Errors:     ET001 if a run is live, ET002 if there is no such reconciliation.
*/
CREATE OR REPLACE FUNCTION etl.repair(p_reconciliation_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $repair$
DECLARE
    v_id bigint := coalesce(p_reconciliation_id, (SELECT max(r.reconciliation_id) FROM etl.reconciliation AS r));
    v_total bigint := 0;
    r_object record;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.reconciliation AS r WHERE r.reconciliation_id = v_id) THEN
        RAISE EXCEPTION 'there is no reconciliation%', coalesce(' ' || p_reconciliation_id, ' yet')
            USING ERRCODE = 'ET002', HINT = 'CALL etl.reconcile() makes one.';
    END IF;
    PERFORM etl._refuse_foreign_temporary('reconciled\_%');
    -- The end of a load clears the pending keys: nothing may be added to them during a run.
    PERFORM etl._lock_start();
    PERFORM etl._refuse_beside_run(etl._live_run(), 'Repair after its end.');

    FOR r_object IN
        SELECT o.object, o.differences
        FROM etl.reconciliation_object AS o
        WHERE o.reconciliation_id = v_id
            AND o.differences > 0
            AND NOT EXISTS (
                SELECT
                FROM etl.reconciliation_object AS u
                WHERE u.reconciliation_id = v_id
                    AND u.status <> 'equal'
                    AND u.object = ANY (etl._upstream_of(o.object))
            )
        ORDER BY o.object
    LOOP
        v_total := v_total + r_object.differences;
        PERFORM etl._repair_object(v_id, r_object.object);
    END LOOP;
    UPDATE etl.reconciliation AS r
    SET repair_requested_at = clock_timestamp()
    WHERE r.reconciliation_id = v_id
        AND v_total > 0;
    RETURN v_total;
END
$repair$;
COMMENT ON FUNCTION etl.repair(bigint) IS 'Hands the differences of a reconciliation to the next run, upstream first; returns their number.';
