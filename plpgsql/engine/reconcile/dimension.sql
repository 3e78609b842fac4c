-- A dimension compared with what its mirrors give: current versions with the transformation view, the timelines of all members with what a
-- load would plan, validity and first values with what can be right, and default members with those that were declared.

/*
Leaves rows out of a comparison that cannot be loaded, and would stop it.
Parameters: p_object, dimension or fact; p_key, its key; p_table, its table.
Returns:    number of keys left out.
Writes:     pg_temp.reconciled_ignored.
*/
CREATE OR REPLACE FUNCTION etl._ignore_refused(p_object name, p_key name[], p_table regclass)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_ignore_refused$
BEGIN
    PERFORM etl._begin_ignoring(p_key, p_table);
    RETURN etl._ignore(p_key, p_table, 'SELECT q.row_key FROM etl.quarantine AS q WHERE q.object = $1 AND etl._claim_holds(q)', p_object);
END
$_ignore_refused$;
COMMENT ON FUNCTION etl._ignore_refused(name, name[], regclass) IS 'Leaves rows out of a comparison that cannot be loaded.';

/*
Takes the differences of keys that wait for a load out of those that were found.
Parameters: p_object, dimension or fact; p_key, its key; p_table, its table.
Returns:    number of differences.
Writes:     pg_temp.reconciled_difference.
Errors:     40001 when the pending keys were emptied by a load that this snapshot does not see.
*/
CREATE OR REPLACE FUNCTION etl._remove_pending(p_object name, p_key name[], p_table regclass)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_remove_pending$
DECLARE
    v_keys regclass := format('work.%I', p_object || '_key')::regclass;
    v_count bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM pg_temp.reconciled_difference) THEN
        EXECUTE format(
            'DELETE FROM pg_temp.reconciled_difference AS x USING (SELECT DISTINCT %s FROM %s) AS k WHERE (%s) = (%s)',
            etl._list(p_key), v_keys, etl._list(p_key, 'k.%1$I'), etl._from_json(p_key, 'x.row_key', p_table)
        );
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM etl._assert_not_emptied(v_keys);
    END IF;
    RETURN v_count;
END
$_remove_pending$;
COMMENT ON FUNCTION etl._remove_pending(name, name[], regclass) IS 'Takes the differences of keys that wait for a load out of those that were found.';

CREATE OR REPLACE FUNCTION etl._assert_not_emptied(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_assert_not_emptied$
BEGIN
    -- TRUNCATE is seen by every snapshot at once; the catalog as this snapshot sees it still names the old file.
    IF (SELECT c.relfilenode FROM pg_class AS c WHERE c.oid = p_table) <> pg_relation_filenode(p_table) THEN
        RAISE EXCEPTION '% was emptied by a load while it was to be compared', p_table
            USING ERRCODE = '40001', HINT = 'Reconcile again.';
    END IF;
END
$_assert_not_emptied$;
COMMENT ON FUNCTION etl._assert_not_emptied(regclass) IS 'Raises 40001 when a table was truncated since the snapshot was taken.';

/*
Compares the members -1 and -2 of a dimension with those that were noted when the dimension was built.
Parameters: p_dimension, the dimension.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_default_members(p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_default_members$
BEGIN
    EXECUTE format(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN d.%1$I IS NULL THEN 'missing' WHEN m.surrogate_key IS NULL THEN 'surplus' ELSE 'different' END,
    jsonb_build_object(%3$L, coalesce(m.surrogate_key, d.%1$I)),
    m.member,
    to_jsonb(d.*) - 'run_id'
FROM (SELECT * FROM etl.default_member AS n WHERE n.dimension = $1) AS m
FULL JOIN (SELECT * FROM %2$s AS r WHERE r.%1$I < 0) AS d ON d.%1$I = m.surrogate_key
-- To and fro: a value is written in one way.
WHERE to_jsonb(jsonb_populate_record(NULL::%2$s, m.member)) - 'run_id' IS DISTINCT FROM to_jsonb(d.*) - 'run_id'$sql$,
        p_dimension.surrogate_key, p_dimension.dimension_table, p_dimension.surrogate_key
    )
    USING p_dimension.dimension;
END
$_compare_default_members$;
COMMENT ON FUNCTION etl._compare_default_members(etl.dimension) IS 'Compares the members -1 and -2 of a dimension with those that were noted.';

/*
Notes when members of a dimension were deleted in the source.
Parameters: p_dimension, the dimension.
Returns:    whether that is known: the source keeps tombstones and can be reached, and the transformation view gives every row that is there.
Writes:     pg_temp.reconciled_deletion.
*/
CREATE OR REPLACE FUNCTION etl._note_deletions(p_dimension etl.dimension)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_note_deletions$
DECLARE
    r_source etl.source_table := etl._own_source(p_dimension);
BEGIN
    EXECUTE format(
        'CREATE TEMPORARY TABLE reconciled_deletion ON COMMIT DROP AS SELECT %s, NULL::timestamptz AS deleted_at FROM %s WITH NO DATA',
        etl._list(p_dimension.business_key), p_dimension.dimension_table
    );
    -- A view that filters makes members disappear without a trace.
    IF r_source.delete_detection IS DISTINCT FROM 'tombstone' OR pg_get_viewdef(p_dimension.transform_view) ~ '\m(WHERE|HAVING|EXCEPT|INTERSECT|LIMIT)\M' THEN
        RETURN false;
    END IF;
    BEGIN
        PERFORM etl._reach_source();
        EXECUTE format(
            'INSERT INTO pg_temp.reconciled_deletion SELECT %s, t.deleted_at FROM source.tombstones AS t WHERE t.table_name = $1',
            etl._from_json(p_dimension.business_key, 't.row_key', p_dimension.dimension_table)
        )
        USING r_source.source_table;
    EXCEPTION
        WHEN connection_exception OR operator_intervention OR fdw_error OR insufficient_resources THEN
            RETURN false;
    END;
    EXECUTE format('CREATE INDEX ON pg_temp.reconciled_deletion (%s)', etl._list(p_dimension.business_key));
    RETURN true;
END
$_note_deletions$;
COMMENT ON FUNCTION etl._note_deletions(etl.dimension) IS 'Notes when members of a dimension were deleted in the source; returns whether that is known.';

/*
Compares the current versions of a dimension with the transformation view, and finds versions whose validity or first values cannot be right.
Parameters: p_dimension, the dimension; p_values, as of etl._member_values; p_slices, p_slice, as of etl._compare.
Writes:     pg_temp.reconciled_difference, pg_temp.reconciled_correction.
*/
CREATE OR REPLACE FUNCTION etl._compare_versions(p_dimension etl.dimension, p_values jsonb, p_slices integer, p_slice integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_versions$
DECLARE
    v_values jsonb := p_values || jsonb_build_object(
        'slices', p_slices::text, 'slice', p_slice::text,
        'member', etl._json_key(p_dimension.business_key, 'd'),
        'version', etl._json_key(p_dimension.business_key, 'd') || ' || jsonb_build_object(''valid_from'', d.valid_from)',
        'is_compared', etl._not_ignored(p_dimension.business_key, 'd'),
        'right_kept', (
            SELECT coalesce(string_agg(format(', %L, c.%I', a.attribute, '_right_' || a.attribute), '' ORDER BY a.attribute), '')
            FROM etl.dimension_attribute AS a
            WHERE a.dimension = p_dimension.dimension AND a.scd_type = 0
        )
    );
BEGIN
    EXECUTE etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT 'different', {{member}}, to_jsonb(v.*), to_jsonb(d.*) - 'run_id'
FROM (
    SELECT {{view_typed}}
    FROM {{transform_view}} AS o
    WHERE {{view_deleted_at}} IS NULL
        AND {{key_not_null}}
) AS v
JOIN {{dimension_table}} AS d ON {{d.bk = v.bk}} AND d.is_current
WHERE ROW({{shown_d}})::record *<> ROW({{shown_v}})::record
    AND ({{slices}} = 1 OR (hash_record_extended(ROW({{bk_image}}), 1) & 65535) % {{slices}} = {{slice}})
    AND {{is_compared}}$sql$,
        v_values
    );
    EXECUTE format('SELECT compiled.%I($1, $2, $3)', 'correct_' || p_dimension.dimension)
    USING etl._note_deletions(p_dimension), p_slices, p_slice;
    EXECUTE etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    'different', {{version}},
    to_jsonb(d.*) - 'run_id' || jsonb_build_object('valid_from', c._right_valid_from, 'valid_to', c._right_valid_to, 'is_current', c._right_valid_to = 'infinity'{{right_kept}}),
    to_jsonb(d.*) - 'run_id'
FROM pg_temp.reconciled_correction AS c
JOIN {{dimension_table}} AS d ON d.{{sk}} = c.{{sk}}
WHERE {{is_compared}}$sql$,
        v_values
    );
END
$_compare_versions$;
COMMENT ON FUNCTION etl._compare_versions(etl.dimension, jsonb, integer, integer) IS 'Compares current versions with the transformation view, and finds versions whose validity or first values cannot be right.';

/*
Compares the timelines of all members with what a load of every member would plan: nothing, if the dimension is right. It plans a chunk of
members at a time.
Parameters: p_dimension, the dimension; p_values, as of etl._member_values; p_slices, p_slice, as of etl._compare.
Writes:     pg_temp.reconciled_difference; members that differ otherwise are passed over.
*/
CREATE OR REPLACE FUNCTION etl._compare_timelines(p_dimension etl.dimension, p_values jsonb, p_slices integer, p_slice integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_timelines$
DECLARE
    c_chunk CONSTANT integer := 100000;
    v_bk name[] := p_dimension.business_key;
    r_time record;
    v_values jsonb;
    v_chunks integer;
BEGIN
    -- What is different otherwise is told once.
    PERFORM etl._ignore(v_bk, p_dimension.dimension_table, 'SELECT x.row_key FROM pg_temp.reconciled_difference AS x', p_dimension.dimension);
    v_values := p_values || jsonb_build_object(
        'chunk', c_chunk::text, 'slices', p_slices::text, 'slice', p_slice::text,
        'is_compared', etl._not_ignored(v_bk, 'd'),
        -- Without a log nothing can follow for a member with one version, which has been compared with the view.
        'is_settled', CASE
            WHEN p_dimension.history_view IS NULL THEN '(d._is_live AND d._given = 1 AND d._versions = 1 AND d._is_whole)'
            ELSE 'false'
        END,
        'version', etl._json_key(v_bk, 'w') || ' || jsonb_build_object(''valid_from'', coalesce(d.valid_from, w.valid_from))'
    );
    EXECUTE etl._render(
        $sql$CREATE TEMPORARY TABLE reconciled_member ON COMMIT DROP AS
SELECT (row_number() OVER (ORDER BY {{d.bk}}) - 1) / {{chunk}} AS chunk, {{d.bk}}
FROM (
    SELECT {{bk}}, bool_or(m._is_given) AS _is_live, count(*) FILTER (WHERE m._is_given IS NOT NULL) AS _given, count(*) FILTER (WHERE m._is_whole IS NOT NULL) AS _versions,
        bool_and(m._is_whole) AS _is_whole
    FROM (
        SELECT {{o.bk}}, {{view_deleted_at}} IS NULL AS _is_given, NULL::boolean AS _is_whole FROM {{transform_view}} AS o
        UNION ALL
        SELECT {{bk}}, NULL, valid_from = '-infinity' AND valid_to = 'infinity' FROM {{dimension_table}}
    ) AS m
    GROUP BY {{bk}}
) AS d
WHERE num_nulls({{d.bk}}) = 0
    AND NOT {{is_settled}}
    AND ({{slices}} = 1 OR (hash_record_extended(ROW({{bk_image}}), 1) & 65535) % {{slices}} = {{slice}})
    AND {{is_compared}}$sql$,
        v_values
    );
    PERFORM etl._begin_planning(p_dimension);
    r_time := etl._load_time();
    SELECT coalesce(max(m.chunk) + 1, 0)
    INTO v_chunks
    FROM pg_temp.reconciled_member AS m;
    FOR v_chunk IN 0..v_chunks - 1
    LOOP
        TRUNCATE pg_temp.reconciled_key, pg_temp.reconciled_plan;
        EXECUTE format('INSERT INTO pg_temp.reconciled_key SELECT %s FROM pg_temp.reconciled_member AS m WHERE m.chunk = $1', etl._list(v_bk, 'm.%1$I')) USING v_chunk;
        EXECUTE 'ANALYZE pg_temp.reconciled_key';
        EXECUTE format('SELECT compiled.%I(0, $1, $2)', 'verify_' || p_dimension.dimension) USING r_time.now, r_time.batch_at;
        EXECUTE etl._render(
            $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN w.planned_operation = 'insert' THEN 'missing' WHEN d.is_current AND NOT coalesce(v._is_known, false) THEN 'surplus' ELSE 'different' END,
    {{version}},
    to_jsonb(w.*) - '{planned_operation,run_id}'::text[],
    to_jsonb(d.*) - 'run_id'
FROM pg_temp.reconciled_plan AS w
LEFT JOIN {{dimension_table}} AS d ON d.{{sk}} = w.{{sk}}
LEFT JOIN LATERAL (
    SELECT bool_or({{view_deleted_at}} IS NULL) AS _is_known
    FROM {{transform_view}} AS o
    WHERE {{o.bk = w.bk}}
) AS v ON true
WHERE w.planned_operation <> 'unchanged'$sql$,
            v_values
        );
    END LOOP;
END
$_compare_timelines$;
COMMENT ON FUNCTION etl._compare_timelines(etl.dimension, jsonb, integer, integer) IS 'Compares the timelines of all members with what a load of every member would plan.';

/*
Compares a dimension with what its mirrors give; one that nothing loads with its view of expected rows.
Parameters: p_dimension, the dimension; p_slices, p_slice, as of etl._compare.
Returns:    what was found; rows are versions.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_dimension(p_dimension name, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_compare_dimension$
DECLARE
    r_dimension etl.dimension;
    r_object etl.reconciliation_object;
    v_values jsonb;
    v_refused bigint := 0;
    v_pending bigint := 0;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    IF r_dimension.transform_view IS NOT NULL THEN
        v_values := etl._member_values(r_dimension);
        v_refused := etl._ignore_refused(p_dimension, r_dimension.business_key, r_dimension.dimension_table);
        PERFORM etl._compare_versions(r_dimension, v_values, p_slices, p_slice);
        PERFORM etl._compare_timelines(r_dimension, v_values, p_slices, p_slice);
        v_pending := etl._remove_pending(p_dimension, r_dimension.business_key, r_dimension.dimension_table);
        EXECUTE etl._render(
            'SELECT count(*) FROM {{table}} AS d WHERE d.{{surrogate_key}} > 0 AND ($1 = 1 OR (hash_record_extended(ROW({{bk_image}}), 1) & 65535) % $1 = $2)',
            v_values || jsonb_build_object('table', r_dimension.dimension_table::text, 'surrogate_key', quote_ident(r_dimension.surrogate_key))
        )
        INTO r_object.actual_rows
        USING p_slices, p_slice;
        r_object.expected_rows := r_object.actual_rows + (
            SELECT count(*) FILTER (WHERE x.kind = 'missing') - count(*) FILTER (WHERE x.kind = 'surplus') FROM pg_temp.reconciled_difference AS x
        );
    ELSIF r_dimension.expected_view IS NOT NULL THEN
        r_object := etl._compare(
            p_dimension,
            etl._comparison_values(
                format('SELECT * FROM %s', r_dimension.expected_view),
                format('SELECT * FROM %s AS d WHERE d.%I >= 0', r_dimension.dimension_table, r_dimension.surrogate_key),
                r_dimension.business_key,
                etl._without(etl._columns(r_dimension.dimension_table), r_dimension.business_key || 'run_id'::name),
                r_dimension.dimension_table, '{}'
            ),
            r_dimension.dimension_table, '{}', p_slices, p_slice
        );
    ELSE
        EXECUTE format('SELECT count(*) FROM %s', r_dimension.dimension_table) INTO r_object.actual_rows;
        r_object.message := 'only its default members were compared: nothing loads it, and no view of expected rows is declared';
    END IF;
    PERFORM etl._compare_default_members(r_dimension);
    r_object.left_out := etl._without_zeros(jsonb_build_object('quarantined', v_refused, 'pending', v_pending));
    RETURN r_object;
END
$_compare_dimension$;
COMMENT ON FUNCTION etl._compare_dimension(name, integer, integer) IS 'Compares a dimension with what its mirrors give.';
