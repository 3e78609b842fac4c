-- A dimension compared with its mirrors. The stored versions are first corrected by what is known without a load: validity, first values, and the
-- tracked attributes of current versions. A load is then planned from the corrected versions: its plan is what there should be.
-- The default members are compared with those that were declared, the sequence with the keys.

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

-- Values of the statements about a dimension.
-- Parameters: p_dimension, the dimension, one that is loaded.
-- Returns:    values for etl._render.
CREATE OR REPLACE FUNCTION etl._version_values(p_dimension etl.dimension)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_version_values$
DECLARE
    v_table regclass := p_dimension.dimension_table;
    v_bk name[] := p_dimension.business_key;
    v_source name := (etl._own_source(p_dimension)).source_table;
    v_kept name[];         -- type 0
    v_overwritten name[];  -- type 1
    v_tracked name[];      -- type 2
    v_unlogged name[];     -- those of type 2 that no log decides on
BEGIN
    SELECT
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 0), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 1), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 2), '{}')
    INTO v_kept, v_overwritten, v_tracked
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_dimension.dimension;
    v_unlogged := etl._without(v_tracked, coalesce(etl._columns(p_dimension.history_view), '{}'));
    RETURN jsonb_build_object(
        'table', v_table::text,
        'view', p_dimension.transform_view::text,
        'bk', to_jsonb(v_bk),
        'sk', quote_ident(p_dimension.surrogate_key),
        'kept', to_jsonb(v_kept),
        'overwritten', to_jsonb(v_overwritten),
        'tracked', to_jsonb(v_tracked),
        'logged', to_jsonb(etl._without(v_tracked, v_unlogged)),
        'shown', to_jsonb(v_overwritten || v_tracked),
        'attributes', to_jsonb(v_kept || v_overwritten || v_tracked),
        'casts', etl._casts(v_table),
        'hashed', etl._hashed_list(v_bk, 'd', v_table, true),
        'is_compared', etl._not_ignored(v_bk, 'd'),
        'version_key', etl._json_key(v_bk, 'w') || ' || jsonb_build_object(''valid_from'', coalesce(d.valid_from, w.valid_from))',
        'known_values', etl._cast_list(v_kept || v_overwritten || v_tracked, 'o', v_table, v_table),
        'view_values', substr(etl._cast_list(v_bk || v_kept || v_overwritten || v_tracked, 'o', p_dimension.transform_view, v_table), 3),
        'view_deleted_at', CASE WHEN etl._column_type(p_dimension.transform_view, 'deleted_at') IS NULL THEN 'NULL::timestamptz' ELSE 'o.deleted_at' END,
        -- The first value that was known, of all versions. That of a row which the initial load brought, and which has not changed since, is the
        -- source's. Of any other row the source may hold a later value.
        'kept_values', etl._list(v_kept, CASE
            WHEN v_source IS NULL THEN E',\nfirst_value(d.%1$I) OVER member AS %1$I'
            ELSE E',\nCASE WHEN v._is_live AND x.is_bulk THEN v.%1$I ELSE first_value(d.%1$I) OVER member END AS %1$I'
        END, ''),
        'is_bulk', CASE WHEN cardinality(v_kept) > 0 AND v_source IS NOT NULL THEN 'x.is_bulk' ELSE 'false' END,
        'mirror', CASE
            WHEN cardinality(v_kept) > 0 AND v_source IS NOT NULL THEN format(
                E'\nLEFT JOIN stage.%I AS m ON %s\nLEFT JOIN etl.extraction AS x ON x.batch_id = m.batch_id AND x.source_table = %L',
                v_source, etl._match(v_bk, 'm', 'd'), v_source
            )
            ELSE ''
        END,
        -- A deleted member keeps what its mirror held last, in all versions.
        'overwritten_values', etl._list(v_overwritten, format(
            E',\nCASE WHEN min(%1$s) OVER whole <> max(%1$s) OVER whole THEN v.%%1$I ELSE d.%%1$I END AS %%1$I',
            format('CASE WHEN NOT v._is_live THEN ROW(%s)::text END', etl._list(v_overwritten, 'd.%1$I'))
        ), ''),
        'unlogged_values', etl._list(v_unlogged, E',\nCASE WHEN v._is_live AND d.valid_to = ''infinity'' THEN v.%1$I ELSE d.%1$I END AS %1$I', ''),
        'has_no_log', CASE WHEN p_dimension.history_view IS NULL THEN 'true' ELSE 'false' END,
        -- Past versions that nothing can confirm.
        'is_unlogged', CASE WHEN cardinality(v_unlogged) > 0 THEN 'd.valid_to < ''infinity''' ELSE 'false' END
    );
END
$_version_values$;

-- Body of correct_<dimension>: the stored versions as they should be before a load is planned. Members that are settled are left out: they have one
-- version, and it is as the view says.
-- Parameters: p_values, as of etl._version_values, with in_slice and known_since.
-- Returns:    SQL text. The routine writes pg_temp.reconciled_version and, with the members that have none, pg_temp.reconciled_key.
CREATE OR REPLACE FUNCTION etl._correction_sql(p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_correction_sql$
    SELECT etl._render(
        $sql$BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_version, pg_temp.reconciled_key;
    CREATE TEMPORARY TABLE reconciled_version ON COMMIT DROP AS
    WITH version AS (
        SELECT
            d.{{sk}}, {{d.bk}}, d.valid_from, d.valid_to, d.is_current{{, d.logged}}{{kept_values}}{{overwritten_values}}{{unlogged_values}},
            v._is_live, v._deleted_at,
            -- Otherwise another version is missing, which the plan adds.
            v._is_live AND NOT {{d.tracked <> v.tracked}} AS _is_last_known,
            lag(d.valid_from) OVER member AS _previous_from,
            lead(d.valid_from) OVER member AS _next_from,
            -- Without a log nothing can follow for such a member.
            {{has_no_log}} AND count(*) OVER whole = 1 AND v._is_live AND d.is_current AND (d.valid_from, d.valid_to) = ('-infinity', 'infinity')
                AND NOT {{d.shown <> v.shown}} AND ({{is_bulk}} AND {{d.kept <> v.kept}}) IS NOT TRUE AS _is_settled
        FROM {{table}} AS d
        LEFT JOIN (
            -- Of a member that has moved to another mirror, the view also returns the deleted row.
            SELECT DISTINCT ON ({{o.bk}}) {{view_values}}, {{view_deleted_at}} AS _deleted_at, {{view_deleted_at}} IS NULL AS _is_live
            FROM {{view}} AS o
            ORDER BY {{o.bk}}, {{view_deleted_at}} DESC NULLS FIRST
        ) AS v ON {{v.bk = d.bk}}{{mirror}}
        WHERE d.{{sk}} > 0
            AND {{in_slice}}
            AND {{is_compared}}
        WINDOW whole AS (PARTITION BY {{d.bk}}), member AS (whole ORDER BY d.valid_from)
    )
    SELECT w.{{sk}}, {{w.bk}}{{, w.attributes}}, w.is_current,
        CASE WHEN w._previous_from IS NULL THEN '-infinity' ELSE w.valid_from END AS valid_from,
        CASE
            WHEN w.valid_to > w._next_from THEN w._next_from
            -- Of a time that the log of deletions does not reach back to, a gap may be right.
            WHEN w.valid_to = coalesce(w._next_from, 'infinity') OR (w.valid_to > {{known_since}}) IS NOT TRUE THEN w.valid_to
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
            WHEN w._deleted_at <= clock_timestamp() THEN greatest(w._deleted_at, w.valid_to)
            ELSE w.valid_to
        END AS valid_to
    FROM version AS w
    WHERE w._is_settled IS NOT TRUE;

    CREATE TEMPORARY TABLE reconciled_key ON COMMIT DROP AS
    SELECT {{w.bk}}
    FROM pg_temp.reconciled_version AS w
    UNION
    SELECT {{d.bk}}
    FROM (
        SELECT {{view_values}}
        FROM {{view}} AS o
        WHERE {{view_deleted_at}} IS NULL
    ) AS d
    WHERE num_nulls({{d.bk}}) = 0
        AND {{in_slice}}
        AND {{is_compared}}
        AND NOT EXISTS (SELECT FROM {{table}} AS k WHERE {{k.bk = d.bk}});
    ANALYZE pg_temp.reconciled_version, pg_temp.reconciled_key;
END$sql$,
        p_values
    )
$_correction_sql$;

-- Compiles the routines that compare a dimension: correct_<dimension> corrects the versions of a slice of the members, verify_<dimension> plans a load
-- from them and finds the versions that differ from the plan.
-- Parameters: p_dimension, the dimension.
-- Returns:    their names.
-- Writes:     schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_dimension_reconciliation(p_dimension etl.dimension)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_dimension_reconciliation$
DECLARE
    v_correct name := 'correct_' || p_dimension.dimension;
    v_verify name := 'verify_' || p_dimension.dimension;
    v_values jsonb := etl._version_values(p_dimension);
BEGIN
    RETURN ARRAY[
        etl._create_compiled(
            v_correct,
            'p_known_since timestamptz, p_slices integer, p_slice integer',
            'void',
            format('Corrects, in temporary tables, the versions of %s by what is known without a load.', p_dimension.dimension),
            etl._correction_sql(v_values || jsonb_build_object(
                'known_since', format('%I.p_known_since', v_correct),
                'in_slice', etl._in_slice(v_values ->> 'hashed', format('%I.p_slices', v_correct), format('%I.p_slice', v_correct))
            )),
            '{client_min_messages = warning}'
        ),
        etl._create_compiled(
            v_verify,
            'p_now timestamptz, p_batch_at timestamptz',
            'void',
            format('Plans a load of %s from corrected versions, and finds the versions that differ from the plan.', p_dimension.dimension),
            etl._render(
                $sql$BEGIN
    INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
    SELECT
        CASE WHEN d.{{sk}} IS NULL THEN 'missing' WHEN d.is_current AND NOT w._is_live THEN 'surplus' ELSE 'different' END,
        {{version_key}},
        to_jsonb(w.*) - '{planned_operation,run_id,_is_live}'::text[],
        CASE WHEN d.{{sk}} IS NOT NULL THEN to_jsonb(d.*) END
    FROM (
        SELECT p.*, bool_or(p.is_current) OVER (PARTITION BY {{p.bk}}) AS _is_live
        FROM (
            {{plan}}
        ) AS p
    ) AS w
    LEFT JOIN (
        SELECT o.{{sk}}, {{o.bk}}{{known_values}}, o.valid_from, o.valid_to, o.is_current
        FROM {{table}} AS o
    ) AS d ON d.{{sk}} = w.{{sk}}
    WHERE d.{{sk}} IS NULL
        OR (d.valid_from, d.valid_to, d.is_current) <> (w.valid_from, w.valid_to, w.is_current)
        OR {{d.attributes <> w.attributes}};
END$sql$,
                v_values || jsonb_build_object(
                    'casts', '{}'::jsonb,
                    'plan', etl._expected_dimension_sql(
                        p_dimension.dimension, 'pg_temp.reconciled_key',
                        etl._load_arguments(v_verify) || '{"run_id": "0", "table": "pg_temp.reconciled_version"}'
                    )
                )
            )
        )
    ];
END
$_compile_dimension_reconciliation$;

-- Removes the differences of pending keys from those that were found.
-- Parameters: p_object, dimension or fact; p_key, its key; p_table, its table.
-- Returns:    number of differences removed.
-- Writes:     pg_temp.reconciled_difference.
-- Errors:     as etl._assert_not_emptied.
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

-- Compares the members -1 and -2 of a dimension with those that were noted when the dimension was built, and the sequence of its surrogate key with
-- the largest key: a copy of the data without the state of its sequences gives used keys to new members.
-- Parameters: p_dimension, the dimension.
-- Writes:     pg_temp.reconciled_difference.
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

-- Notes when members of a dimension were deleted in the source.
-- Parameters: p_dimension, the dimension.
-- Returns:    since when all deletions are known: NULL if the source keeps no tombstones or cannot be reached, or if the transformation view filters
--             rows. A deleted row of the mirror without its tombstone shows that older ones were removed.
-- Writes:     pg_temp.reconciled_deletion.
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

-- Compares the versions of a dimension that is loaded, so many members at a time that memory stays flat.
-- Parameters: p_dimension, the dimension; p_slices, p_slice, how many slices there are, and which is compared (from 0).
-- Returns:    counts; rows are versions.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_versions(p_dimension etl.dimension, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $_compare_versions$
DECLARE
    r_object etl.reconciliation_object;
    r_time record := etl._load_time();
    v_values jsonb := etl._version_values(p_dimension);
    v_known_since timestamptz := etl._note_deletions(p_dimension);
    v_parts integer := (SELECT 1 + greatest(c.reltuples, 0)::bigint / 200000 FROM pg_class AS c WHERE c.oid = p_dimension.dimension_table);
    v_refused bigint := etl._ignore_refused(p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table);
    v_unlogged bigint;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    FOR v_part IN 0..v_parts - 1
    LOOP
        EXECUTE format('SELECT compiled.%I($1, $2, $3)', 'correct_' || p_dimension.dimension)
        USING v_known_since, p_slices * v_parts, p_slice + p_slices * v_part;
        EXECUTE format('SELECT compiled.%I($1, $2)', 'verify_' || p_dimension.dimension) USING r_time.now, r_time.batch_at;
    END LOOP;
    EXECUTE etl._render(
        'SELECT count(*), count(*) FILTER (WHERE {{is_unlogged}}) FROM {{table}} AS d WHERE d.{{sk}} > 0 AND {{in_slice}}',
        v_values || jsonb_build_object('in_slice', etl._in_slice(v_values ->> 'hashed', p_slices::text, p_slice::text))
    )
    INTO r_object.actual_rows, v_unlogged;
    r_object.left_out := jsonb_build_object(
        'quarantined', v_refused, 'unlogged', v_unlogged,
        'pending', etl._remove_pending(p_dimension.dimension, p_dimension.business_key, p_dimension.dimension_table)
    );
    RETURN r_object;
END
$_compare_versions$;

-- Compares a dimension with its mirrors; one that nothing loads with its view of expected rows.
-- Parameters: p_dimension, the dimension; p_slices, p_slice, how many slices there are, and which is compared (from 0).
-- Returns:    counts.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_dimension(p_dimension etl.dimension, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_dimension$
DECLARE
    r_object etl.reconciliation_object;
BEGIN
    IF p_dimension.transform_view IS NOT NULL THEN
        r_object := etl._compare_versions(p_dimension, p_slices, p_slice);
    ELSIF p_dimension.expected_view IS NOT NULL THEN
        r_object := etl._compare_rows(format('DO %L', etl._comparison_sql(
            format('SELECT * FROM %s', p_dimension.expected_view),
            p_dimension.expected_view,
            format('SELECT * FROM %s AS d WHERE d.%I >= 0', p_dimension.dimension_table, p_dimension.surrogate_key),
            p_dimension.dimension_table,
            p_dimension.business_key,
            etl._without(etl._columns(p_dimension.dimension_table), p_dimension.business_key || 'run_id'::name),
            '{}',
            jsonb_build_object('slices', p_slices::text, 'slice', p_slice::text, 'mask', etl._bucket_mask(p_dimension.dimension_table)::text)
        )), '{}');
    ELSE
        EXECUTE format('SELECT count(*) FROM %s', p_dimension.dimension_table) INTO r_object.actual_rows;
        r_object.message := 'only its default members were compared: nothing loads it, and no view of expected rows is declared';
    END IF;
    PERFORM etl._compare_default_members(p_dimension);
    RETURN r_object;
END
$_compare_dimension$;
