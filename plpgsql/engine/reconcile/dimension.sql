-- A dimension compared with its mirrors: current versions with the transformation view, the timelines of all members with what a load would
-- plan, validity and first values with what is possible, default members with those that were declared, the sequence with the keys.

-- The source table that has a row per member of a dimension; NULL if there is none.
CREATE OR REPLACE FUNCTION etl._own_source(p_dimension etl.dimension)
RETURNS etl.source_table
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_own_source$
    SELECT s
    FROM etl.dependency AS d
    JOIN etl.source_table AS s USING (source_table)
    WHERE d.object = p_dimension.dimension
        AND s.key_columns @> p_dimension.business_key
        AND s.key_columns <@ p_dimension.business_key
    ORDER BY s.source_table
    LIMIT 1
$_own_source$;

/*
What the statements about a dimension are rendered from.
Parameters: p_dimension, the dimension, one that is loaded.
Returns:    values for etl._render. Attributes: kept (type 0), tracked (type 2), overwritten (type 1), shown (those of the current version that
            no log decides on), unlogged (those of shown that are tracked).
*/
CREATE OR REPLACE FUNCTION etl._member_values(p_dimension etl.dimension)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_member_values$
DECLARE
    v_table regclass := p_dimension.dimension_table;
    v_bk name[] := p_dimension.business_key;
    v_kept name[];
    v_right name[];  -- what those should be
    v_overwritten name[];
    v_tracked name[];
    v_shown name[];
    v_source name := (etl._own_source(p_dimension)).source_table;
BEGIN
    SELECT
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 0), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 1), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 2), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type > 0 AND a.attribute <> ALL (coalesce(etl._columns(p_dimension.history_view), '{}'))), '{}')
    INTO v_kept, v_overwritten, v_tracked, v_shown
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_dimension.dimension;
    v_right := ARRAY(SELECT '_right_' || k.name FROM unnest(v_kept) AS k (name));
    RETURN jsonb_build_object(
        'dimension_table', v_table::text,
        'transform_view', p_dimension.transform_view::text,
        'bk', to_jsonb(v_bk),
        'sk', quote_ident(p_dimension.surrogate_key),
        'kept', to_jsonb(v_kept),
        'right', to_jsonb(v_right),
        'overwritten', to_jsonb(v_overwritten),
        'unlogged', to_jsonb(etl._without(v_shown, v_overwritten)),
        'attributes', to_jsonb(v_kept || v_overwritten || v_tracked),
        'member', etl._json_key(v_bk, 'd'),
        'version', etl._json_key(v_bk, 'd') || ' || jsonb_build_object(''valid_from'', d.valid_from)',
        'hashed', etl._hashed_list(v_bk, 'd', v_table),
        'is_compared', etl._not_ignored(v_bk, 'd'),
        'key_not_null', format('num_nulls(%s) = 0', etl._list(v_bk, 'o.%1$I')),
        'view_typed', etl._typed_list(v_bk || v_kept || v_overwritten || v_tracked, 'o', v_table),
        -- Without first values, which the source may have changed since, and logged ones, which the log decides on.
        'view_shown', etl._typed_list(v_bk || v_shown, 'o', v_table),
        'view_deleted_at', CASE WHEN etl._column_type(p_dimension.transform_view, 'deleted_at') IS NULL THEN 'NULL::timestamptz' ELSE 'o.deleted_at' END,
        'shown_d', coalesce(etl._compared_list(v_shown, 'd', v_table), '0'),
        'shown_v', coalesce(etl._compared_list(v_shown, 'v', v_table), '0'),
        'tracked_d', coalesce(etl._compared_list(v_tracked, 'd', v_table), '0'),
        'tracked_v', coalesce(etl._compared_list(v_tracked, 'v', v_table), '0'),
        'kept_d', coalesce(nullif(etl._list(v_kept, 'c.%1$I::text'), ''), '0'),
        'kept_right', coalesce(nullif(etl._list(v_right, 'c.%1$I::text'), ''), '0'),
        -- The first value that was known, of all versions. That of a row which the initial load brought, and which has not changed since, is the
        -- source's. Of any other row the source may hold a later value.
        'kept_values', coalesce((
            SELECT string_agg(
                format(
                    CASE
                        WHEN v_source IS NULL THEN E',\n            first_value(d.%1$I) OVER member AS %2$I'
                        ELSE E',\n            CASE WHEN v._is_known AND x.is_bulk THEN v.%1$I ELSE first_value(d.%1$I) OVER member END AS %2$I'
                    END,
                    k.name, '_right_' || k.name
                ),
                '' ORDER BY k.position
            )
            FROM unnest(v_kept) WITH ORDINALITY AS k (name, position)
        ), ''),
        'mirror', CASE
            WHEN cardinality(v_kept) = 0 OR v_source IS NULL THEN ''
            ELSE format(
                E'\nLEFT JOIN stage.%I AS m ON %s\nLEFT JOIN etl.extraction AS x ON x.batch_id = m.batch_id AND x.source_table = %L',
                v_source, etl._match(v_bk, 'm', 'd'), v_source
            )
        END,
        'right_kept_pairs', (SELECT coalesce(string_agg(format(', %L, c.%I', k.name, '_right_' || k.name), ''), '') FROM unnest(v_kept) AS k (name)),
        'right_kept_set', (SELECT coalesce(string_agg(format(E',\n    %I = c.%I', k.name, '_right_' || k.name), ''), '') FROM unnest(v_kept) AS k (name)),
        -- Past versions that nothing can confirm.
        'is_unlogged', CASE WHEN v_tracked && v_shown THEN 'd.valid_to < ''infinity''' ELSE 'false' END
    );
END
$_member_values$;

/*
Body of correct_<dimension>: finds versions whose validity or first values are impossible.
Parameters: p_values, as of etl._member_values, with in_slice.
Returns:    SQL text. The routine writes pg_temp.reconciled_correction, with the version as it should be.
*/
CREATE OR REPLACE FUNCTION etl._correction_sql(p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_correction_sql$
    SELECT etl._render(
        $sql$BEGIN
    CREATE TEMPORARY TABLE reconciled_correction ON COMMIT DROP AS
    WITH version AS (
        SELECT d.{{sk}}, {{d.bk}}, d.valid_from, d.valid_to{{, d.kept}}, v._is_known, v.deleted_at,
            -- Otherwise another version is missing, which the plan adds.
            v._is_known AND NOT record_image_ne(ROW({{tracked_d}}), ROW({{tracked_v}})) AS _is_last_known,
            lag(d.valid_from) OVER member AS _previous_from,
            lead(d.valid_from) OVER member AS _next_from{{kept_values}}
        FROM {{dimension_table}} AS d
        LEFT JOIN (
            -- Of a member that has moved to another mirror, the view also returns the deleted row.
            SELECT DISTINCT ON ({{o.bk}}) {{view_typed}}, {{view_deleted_at}} AS deleted_at, {{view_deleted_at}} IS NULL AS _is_known
            FROM {{transform_view}} AS o
            ORDER BY {{o.bk}}, {{view_deleted_at}} DESC NULLS FIRST
        ) AS v ON {{v.bk = d.bk}}{{mirror}}
        WHERE d.{{sk}} > 0
            AND {{in_slice}}
        WINDOW member AS (PARTITION BY {{d.bk}} ORDER BY d.valid_from)
    ),
    corrected AS (
        SELECT w.{{sk}}, {{w.bk}}, w.valid_from, w.valid_to{{, w.kept}}{{, w.right}},
            CASE WHEN w._previous_from IS NULL THEN '-infinity' ELSE w.valid_from END AS _right_valid_from,
            CASE
                WHEN w.valid_to > w._next_from THEN w._next_from
                -- Of a time that the log of deletions does not reach back to, a gap may be right.
                WHEN w.valid_to = coalesce(w._next_from, 'infinity') OR (w.valid_to > p_deletions_known_since) IS NOT TRUE THEN w.valid_to
                WHEN EXISTS (
                    -- The member was deleted where the version ends.
                    SELECT
                    FROM pg_temp.reconciled_deletion AS t
                    WHERE {{t.bk = w.bk}}
                        AND t.deleted_at <= w.valid_to
                        AND (t.deleted_at > w.valid_from OR w.valid_to <= w.valid_from + interval '1 microsecond')
                ) THEN w.valid_to
                WHEN w._next_from IS NOT NULL THEN coalesce(
                    (
                        SELECT min(t.deleted_at)
                        FROM pg_temp.reconciled_deletion AS t
                        WHERE {{t.bk = w.bk}}
                            AND t.deleted_at > w.valid_to
                            AND t.deleted_at < w._next_from
                    ),
                    w._next_from
                )
                WHEN w._is_last_known THEN 'infinity'
                WHEN w.deleted_at <= clock_timestamp() THEN greatest(w.deleted_at, w.valid_to)
                ELSE w.valid_to
            END AS _right_valid_to
        FROM version AS w
    )
    SELECT c.*
    FROM corrected AS c
    WHERE (c.valid_from, c.valid_to) <> (c._right_valid_from, c._right_valid_to)
        OR record_image_ne(ROW({{kept_d}}), ROW({{kept_right}}));
END$sql$,
        p_values
    )
$_correction_sql$;

/*
Compiles the routines that compare a dimension: verify_<dimension> plans the versions of members as a load would, correct_<dimension> finds
versions whose validity or first values are impossible.
Parameters: p_dimension, the dimension.
Returns:    their names.
Writes:     schema compiled.
*/
CREATE OR REPLACE FUNCTION etl._compile_dimension_reconciliation(p_dimension etl.dimension)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_dimension_reconciliation$
DECLARE
    v_verify name := 'verify_' || p_dimension.dimension;
    v_values jsonb := etl._member_values(p_dimension);
BEGIN
    v_values := v_values || jsonb_build_object(
        'plan', etl._expected_dimension_sql(p_dimension.dimension, 'pg_temp.reconciled_key', etl._load_arguments(v_verify)),
        'in_slice', etl._in_slice(v_values ->> 'hashed', 'p_slices', 'p_slice')
    );
    RETURN ARRAY[etl._create_compiled(
        v_verify,
        'p_run_id bigint, p_now timestamptz, p_batch_at timestamptz',
        'void',
        format('Plans the versions of the members of %s in pg_temp.reconciled_key, for a comparison.', p_dimension.dimension),
        etl._render(
            $sql$BEGIN
    INSERT INTO pg_temp.reconciled_plan (planned_operation, {{sk}}, {{bk}}{{, attributes}}, valid_from, valid_to, is_current)
    SELECT w.planned_operation, w.{{sk}}, {{w.bk}}{{, w.attributes}}, w.valid_from, w.valid_to, w.is_current
    FROM (
        {{plan}}
    ) AS w;
END$sql$,
            v_values
        )
    ), etl._create_compiled(
        'correct_' || p_dimension.dimension,
        'p_deletions_known_since timestamptz, p_slices integer, p_slice integer',
        'void',
        format('Finds the versions of %s whose validity or first values are impossible.', p_dimension.dimension),
        etl._correction_sql(v_values)
    )];
END
$_compile_dimension_reconciliation$;

/*
Removes the differences of pending keys from those that were found.
Parameters: p_object, dimension or fact; p_key, its key; p_table, its table.
Returns:    number of differences removed.
Writes:     pg_temp.reconciled_difference.
Errors:     as etl._assert_not_emptied.
*/
CREATE OR REPLACE FUNCTION etl._remove_pending(p_object name, p_key name[], p_table regclass)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_remove_pending$
DECLARE
    v_keys regclass := format('work.%I', p_object || '_key')::regclass;
    v_count bigint := 0;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    IF EXISTS (SELECT FROM pg_temp.reconciled_difference) THEN
        EXECUTE format('CREATE TEMPORARY TABLE reconciled_pending ON COMMIT DROP AS SELECT DISTINCT %s FROM %s', etl._list(p_key), v_keys);
        EXECUTE format(
            'DELETE FROM pg_temp.reconciled_difference AS x USING pg_temp.reconciled_pending AS k WHERE (%s) = (%s)',
            etl._list(p_key, 'k.%1$I'), etl._from_json(p_key, 'x.row_key', p_table)
        );
        GET DIAGNOSTICS v_count = ROW_COUNT;
        DROP TABLE pg_temp.reconciled_pending;
        PERFORM etl._assert_not_emptied(v_keys);
    END IF;
    RETURN v_count;
END
$_remove_pending$;

-- Raises 40001 if a table was truncated since the snapshot was taken.
CREATE OR REPLACE FUNCTION etl._assert_not_emptied(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_assert_not_emptied$
BEGIN
    -- Every snapshot sees a TRUNCATE at once; the catalog as this snapshot sees it still names the old file.
    IF (SELECT c.relfilenode FROM pg_class AS c WHERE c.oid = p_table) <> pg_relation_filenode(p_table) THEN
        RAISE EXCEPTION '% was emptied by a load during the comparison', p_table
            USING ERRCODE = '40001', HINT = 'Reconcile again.';
    END IF;
END
$_assert_not_emptied$;

/*
Compares the members -1 and -2 of a dimension with those that were noted when the dimension was built, and the sequence of its surrogate key with
the largest key: a copy of the data without the state of its sequences gives used keys to new members.
Parameters: p_dimension, the dimension.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_default_members(p_dimension etl.dimension)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_default_members$
DECLARE
    v_sequence text := pg_get_serial_sequence(p_dimension.dimension_table::text, p_dimension.surrogate_key);
    v_last bigint;
    v_largest bigint;
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
    IF v_sequence IS NOT NULL THEN
        EXECUTE format('SELECT coalesce(max(d.%I), 0) FROM %s AS d', p_dimension.surrogate_key, p_dimension.dimension_table) INTO v_largest;
        EXECUTE format('SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END FROM %s AS s', v_sequence) INTO v_last;
        INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
        SELECT 'different', jsonb_build_object('sequence', v_sequence), jsonb_build_object('last_value', v_largest), jsonb_build_object('last_value', v_last)
        WHERE v_last < v_largest;
    END IF;
END
$_compare_default_members$;

/*
Notes when members of a dimension were deleted in the source.
Parameters: p_dimension, the dimension.
Returns:    since when all deletions are known: NULL if the source keeps no tombstones or cannot be reached, or if the transformation view filters
            rows. A deleted row of the mirror without its tombstone shows that older ones were removed.
Writes:     pg_temp.reconciled_deletion.
*/
CREATE OR REPLACE FUNCTION etl._note_deletions(p_dimension etl.dimension)
RETURNS timestamptz
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_note_deletions$
DECLARE
    r_source etl.source_table := etl._own_source(p_dimension);
    v_known_since timestamptz;
BEGIN
    EXECUTE format(
        'CREATE TEMPORARY TABLE reconciled_deletion ON COMMIT DROP AS SELECT %s, NULL::timestamptz AS deleted_at FROM %s WITH NO DATA',
        etl._list(p_dimension.business_key), p_dimension.dimension_table
    );
    -- A view that filters makes members disappear without a trace.
    IF r_source.delete_detection IS DISTINCT FROM 'tombstone' OR pg_get_viewdef(p_dimension.transform_view) ~ '\m(WHERE|HAVING|EXCEPT|INTERSECT|LIMIT)\M' THEN
        RETURN NULL;
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
            RETURN NULL;
    END;
    EXECUTE format('CREATE INDEX ON pg_temp.reconciled_deletion (%s)', etl._list(p_dimension.business_key));
    EXECUTE format(
        'SELECT coalesce(max(m.deleted_at), ''-infinity'') FROM stage.%I AS m WHERE m.deleted_at IS NOT NULL AND NOT EXISTS (SELECT FROM pg_temp.reconciled_deletion AS t WHERE %s)',
        r_source.source_table, etl._match(p_dimension.business_key, 't', 'm')
    )
    INTO v_known_since;
    RETURN v_known_since;
END
$_note_deletions$;

/*
Compares the current versions of a dimension with the transformation view, and finds versions whose validity or first values are impossible.
Parameters: p_dimension, the dimension; p_values, as of etl._member_values, with in_slice; p_slices, p_slice, as of etl._compare.
Writes:     pg_temp.reconciled_difference, pg_temp.reconciled_correction.
*/
CREATE OR REPLACE FUNCTION etl._compare_versions(p_dimension etl.dimension, p_values jsonb, p_slices integer, p_slice integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_versions$
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT 'different', {{member}}, to_jsonb(v.*), to_jsonb(d.*) - 'run_id'
FROM (
    SELECT {{view_shown}}
    FROM {{transform_view}} AS o
    WHERE {{view_deleted_at}} IS NULL
        AND {{key_not_null}}
) AS v
JOIN {{dimension_table}} AS d ON {{d.bk = v.bk}} AND d.valid_to = 'infinity'
WHERE record_image_ne(ROW({{shown_d}}), ROW({{shown_v}}))
    AND {{in_slice}}
    AND {{is_compared}}$sql$,
        p_values
    );
    EXECUTE format('SELECT compiled.%I($1, $2, $3)', 'correct_' || p_dimension.dimension)
    USING etl._note_deletions(p_dimension), p_slices, p_slice;
    EXECUTE etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    'different', {{version}},
    to_jsonb(d.*) - 'run_id' || jsonb_build_object('valid_from', c._right_valid_from, 'valid_to', c._right_valid_to, 'is_current', c._right_valid_to = 'infinity'{{right_kept_pairs}}),
    to_jsonb(d.*) - 'run_id'
FROM pg_temp.reconciled_correction AS c
JOIN {{dimension_table}} AS d ON d.{{sk}} = c.{{sk}}
WHERE {{is_compared}}$sql$,
        p_values
    );
END
$_compare_versions$;

/*
Compares the timelines of all members with what a load of every member would plan: nothing, if the dimension is right. It plans a chunk of
members at a time, and skips members that differ otherwise.
Parameters: p_dimension, the dimension; p_values, as of etl._member_values, with in_slice.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_timelines(p_dimension etl.dimension, p_values jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_timelines$
DECLARE
    c_chunk CONSTANT integer := 100000;
    v_bk name[] := p_dimension.business_key;
    r_time record := etl._load_time();
    v_values jsonb;
    v_chunks integer;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    PERFORM etl._ignore(v_bk, p_dimension.dimension_table, 'SELECT x.row_key FROM pg_temp.reconciled_difference AS x', p_dimension.dimension);
    v_values := p_values || jsonb_build_object(
        'chunk', c_chunk::text,
        -- Without a log nothing can follow for a member with one version, which has been compared with the view.
        'is_settled', CASE
            WHEN p_dimension.history_view IS NULL THEN '(d._is_live AND d._given = 1 AND d._versions = 1 AND d._is_whole)'
            ELSE 'false'
        END,
        'planned_version', etl._json_key(v_bk, 'w') || ' || jsonb_build_object(''valid_from'', coalesce(d.valid_from, w.valid_from))'
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
        SELECT {{bk}}, NULL, valid_from = '-infinity' AND valid_to = 'infinity' AND is_current FROM {{dimension_table}}
    ) AS m
    GROUP BY {{bk}}
) AS d
WHERE num_nulls({{d.bk}}) = 0
    AND NOT {{is_settled}}
    AND {{in_slice}}
    AND {{is_compared}}$sql$,
        v_values
    );
    PERFORM etl._begin_planning(p_dimension);
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
    {{planned_version}},
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

/*
Compares a dimension with its mirrors; one that nothing loads with its view of expected rows.
Parameters: p_dimension, the dimension; p_slices, p_slice, as of etl._compare.
Returns:    counts; rows are versions.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_dimension(p_dimension etl.dimension, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_compare_dimension$
DECLARE
    r_object etl.reconciliation_object;
    v_values jsonb;
    v_refused bigint;
    v_unlogged bigint;
BEGIN
    IF p_dimension.transform_view IS NOT NULL THEN
        v_values := etl._member_values(p_dimension);
        v_values := v_values || jsonb_build_object('in_slice', etl._in_slice(v_values ->> 'hashed', p_slices::text, p_slice::text));
        v_refused := etl._ignore_refused(p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table);
        PERFORM etl._compare_versions(p_dimension, v_values, p_slices, p_slice);
        PERFORM etl._compare_timelines(p_dimension, v_values);
        r_object.left_out := jsonb_build_object('pending', etl._remove_pending(p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table));
        EXECUTE etl._render('SELECT count(*), count(*) FILTER (WHERE {{is_unlogged}}) FROM {{dimension_table}} AS d WHERE d.{{sk}} > 0 AND {{in_slice}}', v_values)
        INTO r_object.actual_rows, v_unlogged;
        r_object.left_out := r_object.left_out || jsonb_build_object('quarantined', v_refused, 'unlogged', v_unlogged);
    ELSIF p_dimension.expected_view IS NOT NULL THEN
        r_object := etl._compare(
            p_dimension.dimension,
            etl._comparison_values(
                format('SELECT * FROM %s', p_dimension.expected_view),
                format('SELECT * FROM %s AS d WHERE d.%I >= 0', p_dimension.dimension_table, p_dimension.surrogate_key),
                p_dimension.business_key,
                etl._without(etl._columns(p_dimension.dimension_table), p_dimension.business_key || 'run_id'::name),
                p_dimension.dimension_table, '{}'
            ),
            p_dimension.dimension_table, '{}', p_slices, p_slice
        );
    ELSE
        EXECUTE format('SELECT count(*) FROM %s', p_dimension.dimension_table) INTO r_object.actual_rows;
        r_object.message := 'only its default members were compared: nothing loads it, and no view of expected rows is declared';
    END IF;
    PERFORM etl._compare_default_members(p_dimension);
    RETURN r_object;
END
$_compare_dimension$;
