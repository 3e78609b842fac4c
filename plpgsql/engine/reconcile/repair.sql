-- Repair: the differences of a reconciliation are handed to the next run, upstream first. An object is left alone while something upstream of it
-- differs: what it should be cannot be known before that is right. So a repair may take several rounds of repair, run and reconciliation.

-- Deletes all but one of the rows that share a key, among the surplus rows of a mirror, fact or aggregate: only a table without its primary key holds such.
-- Parameters: p_reconciliation_id, the reconciliation; p_object, the object; p_key, p_table, its key and table.
-- Writes:     the table.
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

-- Replaces differing rows by those that should be there, in a table that no load writes.
-- Parameters: p_reconciliation_id, p_object, the differences; p_key, p_table, key and table of the rows; p_rows, a SELECT of all columns, which may
--             return more rows; p_is_surplus, condition on a row d that it may be deleted without another in its place.
-- Writes:     the table.
CREATE OR REPLACE FUNCTION etl._replace_rows(
    p_reconciliation_id bigint,
    p_object name,
    p_key name[],
    p_table regclass,
    p_rows text,
    p_is_surplus text
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_replace_rows$
DECLARE
    v_values jsonb := (
        SELECT jsonb_build_object(
            'table', p_table::text,
            'key', to_jsonb(p_key),
            'columns', jsonb_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attname <> 'run_id'),
            'run_id', CASE WHEN bool_or(a.attname = 'run_id') THEN ', run_id' ELSE '' END,
            'no_run', CASE WHEN bool_or(a.attname = 'run_id') THEN ', 0' ELSE '' END,
            'rows', p_rows,
            'is_surplus', p_is_surplus,
            'differing', format(
                '(SELECT x.kind, %s FROM etl.reconciliation_difference AS x WHERE x.reconciliation_id = %s AND x.object = %L AND %s OFFSET 0) AS x (_kind, %s)',
                etl._from_json(p_key, 'x.row_key', p_table), p_reconciliation_id, p_object, etl._list(p_key, 'x.row_key ? %1$L', ' AND '), etl._list(p_key)
            )
        )
        FROM pg_attribute AS a
        WHERE a.attrelid = p_table
            AND a.attnum > 0
            AND NOT a.attisdropped
            AND a.attgenerated = ''
    );
BEGIN
    EXECUTE etl._render(
        'DELETE FROM {{table}} AS d USING {{differing}} WHERE {{d.key = x.key}} AND (x._kind = ''different'' OR x._kind = ''surplus'' AND {{is_surplus}})', v_values
    );
    EXECUTE etl._render(
        $sql$INSERT INTO {{table}} ({{columns}}{{run_id}})
OVERRIDING SYSTEM VALUE
SELECT {{v.columns}}{{no_run}}
FROM ({{rows}}) AS v
JOIN {{differing}} ON {{v.key = x.key}}
WHERE x._kind <> 'surplus'$sql$,
        v_values
    );
END
$_replace_rows$;

-- Repairs what no load of a dimension writes: default members, the sequence of the surrogate key, and differing and missing rows of a dimension that
-- nothing loads. Other surplus rows of such a dimension stay, because facts may refer to them.
-- Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
-- Writes:     the dimension's table and sequence.
CREATE OR REPLACE FUNCTION etl._repair_fixed_members(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_fixed_members$
BEGIN
    PERFORM etl._replace_rows(
        p_reconciliation_id, p_dimension.dimension, ARRAY[p_dimension.surrogate_key], p_dimension.dimension_table,
        format(
            'SELECT r.* FROM etl.default_member AS m CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, m.member || jsonb_build_object(%L, m.surrogate_key)) AS r WHERE m.dimension = %L',
            p_dimension.dimension_table, p_dimension.surrogate_key, p_dimension.dimension
        ),
        format('d.%I < -2', p_dimension.surrogate_key)
    );
    IF p_dimension.expected_view IS NOT NULL THEN
        PERFORM etl._replace_rows(
            p_reconciliation_id, p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table,
            format('SELECT * FROM %s', p_dimension.expected_view), 'false'
        );
    END IF;
    PERFORM setval((x.row_key ->> 'sequence')::regclass, (x.expected ->> 'last_value')::bigint)
    FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = p_dimension.dimension
        AND x.row_key ? 'sequence';
END
$_repair_fixed_members$;

-- Makes the differing members of a dimension pending, and writes their versions as correct_<dimension> has them: a load would take what that corrects
-- for history. Members that are pending already are left to their load.
-- Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
-- Writes:     the dimension's table, work.<dimension>_key.
CREATE OR REPLACE FUNCTION etl._repair_members(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_members$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_values jsonb := etl._version_values(p_dimension) || jsonb_build_object('keys', format('work.%I', p_dimension.dimension || '_key'));
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    PERFORM etl._begin_comparison(v_bk, p_dimension.dimension_table);
    EXECUTE etl._render('INSERT INTO pg_temp.reconciled_ignored SELECT {{bk}} FROM {{keys}}', v_values);
    PERFORM etl._enqueue_keys(p_dimension.dimension, ARRAY(
        SELECT x.row_key FROM etl.reconciliation_difference AS x WHERE x.reconciliation_id = p_reconciliation_id AND x.object = p_dimension.dimension
    ));
    EXECUTE format('SELECT compiled.%I($1, 1, 0)', 'correct_' || p_dimension.dimension) USING etl._note_deletions(p_dimension);
    EXECUTE etl._render('DELETE FROM pg_temp.reconciled_version AS c WHERE NOT EXISTS (SELECT FROM (SELECT * FROM {{keys}}) AS k WHERE {{k.bk = c.bk}})', v_values);
    EXECUTE etl._render(
        $sql$UPDATE {{table}} AS d
SET valid_from = v.valid_from,
    valid_to = v.valid_to,
    is_current = v.valid_to = 'infinity'{{, attributes := v.attributes}}
FROM (SELECT * FROM pg_temp.reconciled_version) AS v
WHERE d.{{sk}} = v.{{sk}}$sql$,
        v_values
    );
END
$_repair_members$;

-- Makes keys of a dimension or fact pending; those that are no keys are left out.
CREATE OR REPLACE FUNCTION etl._enqueue_keys(p_object name, p_row_keys jsonb[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_enqueue_keys$
DECLARE
    v_statement text := (
        SELECT format(
            'INSERT INTO work.%I (%s) SELECT DISTINCT %s FROM unnest($1) AS k (row_key) WHERE %s',
            p_object || '_key', etl._list(o.business_key), etl._from_json(o.business_key, 'k.row_key', o.table_name),
            etl._list(o.business_key, 'k.row_key ->> %1$L IS NOT NULL', ' AND ')
        )
        FROM etl.object AS o
        WHERE o.object = p_object
    );
BEGIN
    EXECUTE v_statement USING p_row_keys;
END
$_enqueue_keys$;

-- Requests that the next load sum up an aggregate completely, which writes the groups that differ. What addition cannot repair is repaired here:
-- measures that are NULL, and groups at zero.
-- Parameters: p_aggregate, the aggregate.
-- Writes:     the aggregate's table, etl.load_state.
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

-- Repairs an object, by its kind. Differing rows of a mirror are extracted again. If more rows of a mirror or fact differ than were kept, it is loaded
-- completely; of a dimension, the rest is repaired in later rounds. Aggregates of a fact that was wrong are summed up again.
-- Parameters: p_reconciliation_id, the reconciliation; p_object, the object.
-- Writes:     etl.reextraction, etl.quarantine; as the functions that it calls.
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
            PERFORM etl._enqueue_keys(p_object, ARRAY(SELECT x.row_key FROM etl.reconciliation_difference AS x WHERE x.reconciliation_id = p_reconciliation_id AND x.object = p_object));
            PERFORM etl._request_reload(etl._fed_by(p_object));
        WHEN 'fact to aggregate' THEN PERFORM etl._repair_aggregate(p_object);
        WHEN 'fact to queue' THEN
            DELETE FROM etl.reprocessing_queue AS q
            USING etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = p_reconciliation_id
                AND x.object = p_object
                AND x.row_key = jsonb_build_object('fact', q.fact, 'fact_key', q.fact_key, 'key_column', q.key_column);
            -- The load queues them again if they refer to another member.
            PERFORM etl._enqueue_keys(f.fact, ARRAY(
                SELECT x.row_key -> 'fact_key'
                FROM etl.reconciliation_difference AS x
                WHERE x.reconciliation_id = p_reconciliation_id
                    AND x.object = p_object
                    AND x.row_key ->> 'fact' = f.fact
            ))
            FROM etl.fact AS f;
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

-- Hands the differences of a reconciliation to the next run, upstream first. Objects downstream of one that differs, or could not be compared, are
-- left for the repair after the next reconciliation.
-- Parameters: p_reconciliation_id, the reconciliation; the last one by default.
-- Returns:    number of differences handed over.
-- Writes:     etl.reextraction, the dimensions' tables, work.<object>_key, etl.load_state, etl.watermark, etl.reprocessing_queue, etl.quarantine,
--             etl.reconciliation.
-- Errors:     ET001 if a run is live, ET002 if there is no such reconciliation.
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
