-- Repair: what a reconciliation found is handed to the next run, upstream first. An object is left alone while something that it is made of
-- differs: what it should be cannot be known before that is right. So a repair may take several rounds of repair, run and reconciliation.

/*
Hands the differing rows of a source table to the next batch.
Parameters: p_reconciliation_id, the reconciliation; p_source_table, the table.
Writes:     etl.reextraction.
*/
CREATE OR REPLACE FUNCTION etl._repair_mirror(p_reconciliation_id bigint, p_source_table name)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $_repair_mirror$
    INSERT INTO etl.reextraction (source_table, row_key)
    SELECT DISTINCT x.object, x.row_key
    FROM etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = p_source_table
    ON CONFLICT (source_table, row_key) DO UPDATE
    SET batch_id = NULL
$_repair_mirror$;
COMMENT ON FUNCTION etl._repair_mirror(bigint, name) IS 'Hands the differing rows of a source table to the next batch.';

/*
Puts rows right in place, in a dimension that nothing loads: rows that differ or are missing. Surplus rows stay, as facts may refer to them.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Writes:     the dimension's table.
*/
CREATE OR REPLACE FUNCTION etl._repair_calendar(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_calendar$
DECLARE
    v_columns name[] := etl._without(etl._columns(p_dimension.dimension_table), p_dimension.business_key || 'run_id'::name);
    v_differing text := format(
        'SELECT %s FROM etl.reconciliation_difference AS x WHERE x.reconciliation_id = $1 AND x.object = $2 AND x.kind = $3 AND %s',
        etl._from_json(p_dimension.business_key, 'x.row_key', p_dimension.dimension_table),
        etl._list(p_dimension.business_key, 'x.row_key ? %1$L', ' AND ')
    );
BEGIN
    IF p_dimension.expected_view IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'UPDATE %s AS d SET %s FROM %s AS v WHERE %s AND (%s) IN (%s)',
        p_dimension.dimension_table, etl._list(v_columns, '%1$I = v.%1$I'), p_dimension.expected_view, etl._match(p_dimension.business_key, 'd', 'v'),
        etl._list(p_dimension.business_key, 'v.%1$I'), v_differing
    )
    USING p_reconciliation_id, p_dimension.dimension, 'different';
    EXECUTE etl._render(
        $template$INSERT INTO {{table}} ({{key}}{{, columns}})
SELECT {{v.key}}{{, v.columns}}
FROM {{expected_view}} AS v
WHERE ({{v.key}}) IN ({{differing}})
    AND NOT EXISTS (SELECT FROM {{table}} AS d WHERE {{d.key = v.key}})$template$,
        jsonb_build_object(
            'table', p_dimension.dimension_table::text, 'key', to_jsonb(p_dimension.business_key), 'columns', to_jsonb(v_columns),
            'expected_view', p_dimension.expected_view::text, 'differing', v_differing
        )
    )
    USING p_reconciliation_id, p_dimension.dimension, 'missing';
END
$_repair_calendar$;
COMMENT ON FUNCTION etl._repair_calendar(bigint, etl.dimension) IS 'Puts differing and missing rows right in a dimension that nothing loads.';

/*
Puts default members right: as they were noted.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Writes:     the dimension's table.
*/
CREATE OR REPLACE FUNCTION etl._repair_default_members(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_default_members$
DECLARE
    v_columns name[] := ARRAY(
        SELECT a.attname
        FROM pg_attribute AS a
        WHERE a.attrelid = p_dimension.dimension_table
            AND a.attnum > 0
            AND NOT a.attisdropped
            AND a.attgenerated = ''
            AND a.attname NOT IN (p_dimension.surrogate_key, 'run_id')
    );
    v_members text := format(
        $sql$(
    SELECT r.*, m.surrogate_key AS default_key
    FROM etl.default_member AS m
    CROSS JOIN LATERAL jsonb_populate_record(NULL::%s, m.member) AS r
    WHERE m.dimension = $2
        AND EXISTS (
            SELECT
            FROM etl.reconciliation_difference AS x
            WHERE x.reconciliation_id = $1
                AND x.object = $2
                AND x.row_key = jsonb_build_object(%L, m.surrogate_key)
        )
) AS m$sql$,
        p_dimension.dimension_table, p_dimension.surrogate_key
    );
BEGIN
    EXECUTE format(
        'UPDATE %s AS d SET %s FROM %s WHERE d.%I = m.default_key',
        p_dimension.dimension_table, etl._list(v_columns, '%1$I = m.%1$I'), v_members, p_dimension.surrogate_key
    )
    USING p_reconciliation_id, p_dimension.dimension;
    EXECUTE format(
        'INSERT INTO %s (%I, %s%s) OVERRIDING SYSTEM VALUE SELECT m.default_key, %s%s FROM %s WHERE NOT EXISTS (SELECT FROM %1$s AS d WHERE d.%2$I = m.default_key)',
        p_dimension.dimension_table, p_dimension.surrogate_key, etl._list(v_columns),
        CASE WHEN etl._column_type(p_dimension.dimension_table, 'run_id') IS NULL THEN '' ELSE ', run_id' END,
        etl._list(v_columns, 'm.%1$I'), CASE WHEN etl._column_type(p_dimension.dimension_table, 'run_id') IS NULL THEN '' ELSE ', 0' END, v_members
    )
    USING p_reconciliation_id, p_dimension.dimension;
END
$_repair_default_members$;
COMMENT ON FUNCTION etl._repair_default_members(bigint, etl.dimension) IS 'Puts default members right, as they were noted.';

/*
Puts versions right in place whose validity or first values cannot be right, and current versions whose attributes are not the source's: they
were the source's when the version began, so what differs without a change in the source is no history. The members become pending.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Writes:     the dimension's table, work.<dimension>_key.
*/
CREATE OR REPLACE FUNCTION etl._repair_dimension(p_reconciliation_id bigint, p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_repair_dimension$
DECLARE
    v_bk name[] := p_dimension.business_key;
    v_values jsonb := etl._member_values(p_dimension) || jsonb_build_object('keys', format('work.%I', p_dimension.dimension || '_key'));
    v_tracked name[] := ARRAY(
        SELECT a.attribute
        FROM etl.dimension_attribute AS a
        WHERE a.dimension = p_dimension.dimension
            AND a.scd_type = 2
            AND a.attribute <> ALL (coalesce(etl._columns(p_dimension.history_view), '{}'))
    );
BEGIN
    EXECUTE format(
        'INSERT INTO work.%I (%s) SELECT DISTINCT %s FROM etl.reconciliation_difference AS q WHERE q.reconciliation_id = $1 AND q.object = $2 AND %s',
        p_dimension.dimension || '_key', etl._list(v_bk), etl._from_json(v_bk, 'q.row_key', p_dimension.dimension_table),
        etl._list(v_bk, 'q.row_key ->> %1$L IS NOT NULL', ' AND ')
    )
    USING p_reconciliation_id, p_dimension.dimension;

    PERFORM etl._begin_comparison();
    EXECUTE format('SELECT compiled.%I($1, 1, 0)', 'correct_' || p_dimension.dimension) USING etl._note_deletions(p_dimension);
    EXECUTE etl._render(
        $sql$UPDATE {{dimension_table}} AS d
SET valid_from = c._right_valid_from,
    valid_to = c._right_valid_to,
    is_current = c._right_valid_to = 'infinity'{{right_kept}}
FROM pg_temp.reconciled_correction AS c
WHERE d.{{sk}} = c.{{sk}}
    AND EXISTS (SELECT FROM {{keys}} AS k WHERE {{k.bk = d.bk}})$sql$,
        v_values || jsonb_build_object('right_kept', (
            SELECT coalesce(string_agg(format(E',\n    %I = c.%I', a.attribute, '_right_' || a.attribute), '' ORDER BY a.attribute), '')
            FROM etl.dimension_attribute AS a
            WHERE a.dimension = p_dimension.dimension AND a.scd_type = 0
        ))
    );
    IF cardinality(v_tracked) > 0 THEN
        EXECUTE etl._render(
            $sql$UPDATE {{dimension_table}} AS d
SET {{tracked := v.tracked}}
FROM (
    SELECT {{view_typed}}
    FROM {{transform_view}} AS o
    WHERE {{view_deleted_at}} IS NULL
) AS v
WHERE {{d.bk = v.bk}}
    AND d.is_current
    AND EXISTS (
        SELECT
        FROM etl.reconciliation_difference AS x
        WHERE x.reconciliation_id = $1
            AND x.object = $2
            AND x.row_key = {{member}}
    )$sql$,
            v_values || jsonb_build_object('tracked', to_jsonb(v_tracked), 'member', etl._json_key(v_bk, 'd'))
        )
        USING p_reconciliation_id, p_dimension.dimension;
    END IF;
    -- A member that is gone keeps what its mirror held last, in all versions.
    IF jsonb_array_length(v_values -> 'overwritten') > 0 THEN
        EXECUTE etl._render(
            $sql$UPDATE {{dimension_table}} AS d
SET {{overwritten := v.overwritten}}
FROM (
    SELECT {{view_typed}}
    FROM {{transform_view}} AS o
    WHERE {{view_deleted_at}} IS NOT NULL
) AS v
WHERE {{d.bk = v.bk}}
    AND EXISTS (
        SELECT
        FROM etl.reconciliation_difference AS x
        WHERE x.reconciliation_id = $1
            AND x.object = $2
            AND x.kind = 'different'
            AND x.columns && $3
            AND x.row_key @> {{member}}
    )$sql$,
            v_values || jsonb_build_object('member', etl._json_key(v_bk, 'd'))
        )
        USING p_reconciliation_id, p_dimension.dimension, ARRAY(SELECT jsonb_array_elements_text(v_values -> 'overwritten'))::name[];
    END IF;
END
$_repair_dimension$;
COMMENT ON FUNCTION etl._repair_dimension(bigint, etl.dimension) IS 'Puts versions right in place, and makes the differing members pending.';

/*
Makes the differing rows of a fact pending.
Parameters: p_reconciliation_id, the reconciliation; p_fact, the fact.
Writes:     work.<fact>_key; etl.load_state, as aggregates of a fact that was wrong cannot be kept by difference.
*/
CREATE OR REPLACE FUNCTION etl._repair_fact(p_reconciliation_id bigint, p_fact etl.fact)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_fact$
BEGIN
    EXECUTE format(
        'INSERT INTO work.%I (%s) SELECT DISTINCT %s FROM etl.reconciliation_difference AS q WHERE q.reconciliation_id = $1 AND q.object = $2',
        p_fact.fact || '_key', etl._list(p_fact.business_key), etl._from_json(p_fact.business_key, 'q.row_key', p_fact.fact_table)
    )
    USING p_reconciliation_id, p_fact.fact;
    PERFORM etl._request_reload(etl._fed_by(p_fact.fact));
END
$_repair_fact$;
COMMENT ON FUNCTION etl._repair_fact(bigint, etl.fact) IS 'Makes the differing rows of a fact pending, and has its aggregates summed up completely.';

/*
Has an aggregate summed up completely by its next load, which writes the groups that differ. What addition cannot put right is put right here:
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
    r_aggregate etl.aggregate;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    EXECUTE format(
        'UPDATE %s AS a SET %s WHERE %s', r_aggregate.aggregate_table,
        etl._list(r_aggregate.measures, '%1$I = coalesce(a.%1$I, 0)'), etl._list(r_aggregate.measures, 'a.%1$I IS NULL', ' OR ')
    );
    EXECUTE format('DELETE FROM %s AS a WHERE %s', r_aggregate.aggregate_table, etl._list(r_aggregate.measures, 'a.%1$I = 0', ' AND '));
    PERFORM etl._request_reload(ARRAY[p_aggregate]);
END
$_repair_aggregate$;
COMMENT ON FUNCTION etl._repair_aggregate(name) IS 'Has an aggregate summed up completely by its next load, which writes the groups that differ.';

/*
Removes entries of queue and quarantine whose claim does not hold, and has rows looked at that no entry tells of.
Parameters: p_reconciliation_id, the reconciliation; p_object, reprocessing_queue or quarantine.
Writes:     etl.reprocessing_queue, etl.quarantine, work.<object>_key, etl.reextraction.
*/
CREATE OR REPLACE FUNCTION etl._repair_waiting(p_reconciliation_id bigint, p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_waiting$
DECLARE
    r_fact etl.fact;
BEGIN
    IF p_object = 'quarantine' THEN
        DELETE FROM etl.quarantine AS q
        USING etl.reconciliation_difference AS x
        WHERE x.reconciliation_id = p_reconciliation_id
            AND x.object = p_object
            AND x.row_key = jsonb_build_object('object', q.object, 'row_key', q.row_key);
        RETURN;
    END IF;
    DELETE FROM etl.reprocessing_queue AS q
    USING etl.reconciliation_difference AS x
    WHERE x.reconciliation_id = p_reconciliation_id
        AND x.object = p_object
        AND x.kind = 'surplus'
        AND x.row_key = jsonb_build_object('fact', q.fact, 'fact_key', q.fact_key, 'key_column', q.key_column);
    FOR r_fact IN
        SELECT *
        FROM etl.fact
    LOOP
        -- Also the rows of entries that are gone: the load queues them again, where they refer to another member.
        EXECUTE format(
            $sql$INSERT INTO work.%1$I (%2$s)
SELECT DISTINCT %3$s
FROM etl.reconciliation_difference AS x
CROSS JOIN LATERAL (SELECT x.row_key -> 'fact_key') AS k (fact_key)
WHERE x.reconciliation_id = $1
    AND x.object = $2
    AND x.row_key ->> 'fact' = $3$sql$,
            r_fact.fact || '_key', etl._list(r_fact.business_key), etl._from_json(r_fact.business_key, 'k.fact_key', r_fact.fact_table)
        )
        USING p_reconciliation_id, p_object, r_fact.fact;
    END LOOP;
END
$_repair_waiting$;
COMMENT ON FUNCTION etl._repair_waiting(bigint, name) IS 'Removes entries whose claim does not hold, and has rows looked at that no entry tells of.';

/*
Repairs an object, by its kind.
Parameters: p_reconciliation_id, the reconciliation; p_object, the object.
Writes:     as the functions that it calls.
*/
CREATE OR REPLACE FUNCTION etl._repair_object(p_reconciliation_id bigint, p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_object$
DECLARE
    r_found etl.reconciliation_object;
    r_dimension etl.dimension;
    r_fact etl.fact;
    v_are_too_many boolean;
BEGIN
    SELECT *
    INTO STRICT r_found
    FROM etl.reconciliation_object AS o
    WHERE o.reconciliation_id = p_reconciliation_id
        AND o.object = p_object;
    v_are_too_many := r_found.differences > etl.get_setting('reconciliation_rows_kept')::bigint;
    CASE r_found.comparison
        WHEN 'source to stage' THEN
            IF v_are_too_many THEN
                PERFORM etl._request_refresh(ARRAY[p_object::text]);
            ELSE
                PERFORM etl._repair_mirror(p_reconciliation_id, p_object);
            END IF;
        WHEN 'stage to dimension' THEN
            SELECT *
            INTO STRICT r_dimension
            FROM etl.dimension AS d
            WHERE d.dimension = p_object;
            PERFORM etl._repair_default_members(p_reconciliation_id, r_dimension);
            IF r_dimension.transform_view IS NULL THEN
                PERFORM etl._repair_calendar(p_reconciliation_id, r_dimension);
            ELSE
                -- As many as were kept are put right; of more, the rest in the next rounds.
                PERFORM etl._repair_dimension(p_reconciliation_id, r_dimension);
            END IF;
        WHEN 'stage to fact' THEN
            IF v_are_too_many THEN
                PERFORM etl._request_refresh(ARRAY[p_object::text]);
                PERFORM etl._request_reload(etl._fed_by(p_object));
            ELSE
                SELECT *
                INTO STRICT r_fact
                FROM etl.fact AS f
                WHERE f.fact = p_object;
                PERFORM etl._repair_fact(p_reconciliation_id, r_fact);
            END IF;
        WHEN 'fact to aggregate' THEN PERFORM etl._repair_aggregate(p_object);
        ELSE PERFORM etl._repair_waiting(p_reconciliation_id, p_object);
    END CASE;
END
$_repair_object$;
COMMENT ON FUNCTION etl._repair_object(bigint, name) IS 'Repairs an object, by its kind.';

/*
Hands what a reconciliation found to the next run, upstream first: rows of the source are extracted again, members and facts become pending,
aggregates are summed up. Objects that are made of something that differs, or that could not be compared, are left for the repair after the
next reconciliation.
Parameters: p_reconciliation_id, the reconciliation; the last one by default.
Returns:    number of differences handed over.
Writes:     etl.reextraction, the dimensions' tables, work.<object>_key, etl.load_state, etl.watermark, etl.reprocessing_queue, etl.quarantine,
            etl.reconciliation.
Errors:     ET001 when a run is live, ET002 when there is no such reconciliation.
*/
CREATE OR REPLACE FUNCTION etl.repair(p_reconciliation_id bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $repair$
DECLARE
    v_id bigint := coalesce(p_reconciliation_id, (SELECT max(r.reconciliation_id) FROM etl.reconciliation AS r));
    v_running bigint;
    v_total bigint := 0;
    r_object record;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.reconciliation AS r WHERE r.reconciliation_id = v_id) THEN
        RAISE EXCEPTION 'there is no reconciliation%', coalesce(' ' || p_reconciliation_id, ' yet')
            USING ERRCODE = 'ET002', HINT = 'CALL etl.reconcile() makes one.';
    END IF;
    PERFORM etl._refuse_foreign_temporary('reconciled\_%');
    -- A load that ends clears the pending keys: nothing may be added to them meanwhile.
    PERFORM etl._lock_start();
    v_running := etl._live_run();
    IF v_running IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(v_running, 'Repair after its end.');
    END IF;

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
COMMENT ON FUNCTION etl.repair(bigint) IS 'Hands what a reconciliation found to the next run, upstream first; returns the number of differences.';
