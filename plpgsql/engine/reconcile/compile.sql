-- The routines of schema compiled that a reconciliation calls: verify_<fact> and verify_rows_<fact> compare a fact with what a load would
-- write, verify_<dimension> plans the versions of members, correct_<dimension> finds versions whose validity or first values cannot be right.

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
COMMENT ON FUNCTION etl._own_source(etl.dimension) IS 'The source table that has a row per member of a dimension; NULL where there is none.';

/*
What the statements about a dimension are rendered from.
Parameters: p_dimension, the dimension, one that is loaded.
Returns:    values for etl._render.
*/
CREATE OR REPLACE FUNCTION etl._member_values(p_dimension etl.dimension)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_member_values$
DECLARE
    v_table regclass := p_dimension.dimension_table;
    v_kept name[];
    v_right name[];  -- what those should be
    v_overwritten name[];
    v_tracked name[];
    v_shown name[];  -- attributes of the current version that the view alone decides on
    v_attributes name[];
    r_source etl.source_table := etl._own_source(p_dimension);
BEGIN
    SELECT
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 0), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 1), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type = 2), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute) FILTER (WHERE a.scd_type > 0 AND a.attribute <> ALL (coalesce(etl._columns(p_dimension.history_view), '{}'))), '{}'),
        coalesce(array_agg(a.attribute ORDER BY a.attribute), '{}')
    INTO v_kept, v_overwritten, v_tracked, v_shown, v_attributes
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_dimension.dimension;
    v_right := ARRAY(SELECT '_right_' || k.name FROM unnest(v_kept) AS k (name));
    RETURN jsonb_build_object(
        'dimension_table', v_table::text,
        'transform_view', p_dimension.transform_view::text,
        'bk', to_jsonb(p_dimension.business_key),
        'sk', quote_ident(p_dimension.surrogate_key),
        'kept', to_jsonb(v_kept),
        'shown', to_jsonb(v_shown),
        'overwritten', to_jsonb(v_overwritten),
        'attributes', to_jsonb(v_attributes),
        'view_typed', etl._typed_list(p_dimension.business_key || v_attributes, 'o', v_table),
        'view_deleted_at', CASE WHEN etl._column_type(p_dimension.transform_view, 'deleted_at') IS NULL THEN 'NULL::timestamptz' ELSE 'o.deleted_at' END,
        'key_not_null', format('num_nulls(%s) = 0', etl._list(p_dimension.business_key, 'o.%1$I')),
        'shown_d', coalesce(etl._compared_list(v_shown, 'd', v_table), '0'),
        'shown_v', coalesce(etl._compared_list(v_shown, 'v', v_table), '0'),
        'tracked_d', coalesce(etl._compared_list(v_tracked, 'd', v_table), '0'),
        'tracked_v', coalesce(etl._compared_list(v_tracked, 'v', v_table), '0'),
        'bk_image', etl._compared_list(p_dimension.business_key, 'd', v_table),
        'kept_d', coalesce(nullif(etl._list(v_kept, 'c.%1$I::text'), ''), '0'),
        'kept_right', coalesce(nullif(etl._list(v_right, 'c.%1$I::text'), ''), '0'),
        'right', to_jsonb(v_right),
        -- The first value that was known, of all versions. It is the source's, where the source has not changed since the member was loaded.
        'kept_values', coalesce((
            SELECT string_agg(
                format(
                    CASE
                        WHEN r_source.source_table IS NULL THEN E',\n            first_value(d.%1$I) OVER member AS %2$I'
                        ELSE E',\n            CASE WHEN v._is_known AND b.run_id <= min(d.run_id) OVER whole THEN v.%1$I ELSE first_value(d.%1$I) OVER member END AS %2$I'
                    END,
                    k.name, '_right_' || k.name
                ),
                '' ORDER BY k.position
            )
            FROM unnest(v_kept) WITH ORDINALITY AS k (name, position)
        ), ''),
        'mirror', CASE
            WHEN cardinality(v_kept) = 0 OR r_source.source_table IS NULL THEN ''
            ELSE format(
                E'\nLEFT JOIN stage.%I AS m ON %s\nLEFT JOIN etl.batch AS b ON b.batch_id = m.batch_id', r_source.source_table, etl._match(p_dimension.business_key, 'm', 'd')
            )
        END
    );
END
$_member_values$;
COMMENT ON FUNCTION etl._member_values(etl.dimension) IS 'What the statements about a dimension are rendered from.';

/*
Makes the routines that compare a dimension.
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
    v_names name[];
    v_values jsonb := etl._member_values(p_dimension);
BEGIN
    v_values := v_values || jsonb_build_object(
        'plan', etl._expected_dimension_sql(p_dimension.dimension, 'pg_temp.reconciled_key', etl._load_arguments('verify_' || p_dimension.dimension))
    );
    v_names := ARRAY[etl._create_compiled(
        'verify_' || p_dimension.dimension,
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
    )];
    RETURN v_names || etl._create_compiled(
        'correct_' || p_dimension.dimension,
        'p_are_deletions_known boolean, p_slices integer, p_slice integer',
        'void',
        format('Finds the versions of %s whose validity or first values cannot be right.', p_dimension.dimension),
        etl._render(
            $sql$BEGIN
    CREATE TEMPORARY TABLE reconciled_correction ON COMMIT DROP AS
    WITH version AS (
        SELECT d.{{sk}}, {{d.bk}}, d.valid_from, d.valid_to{{, d.kept}}, v._is_known, v.deleted_at,
            -- Otherwise another version is missing, which the plan adds.
            v._is_known AND NOT ROW({{tracked_d}})::record *<> ROW({{tracked_v}})::record AS _is_last_known,
            lag(d.valid_from) OVER member AS _previous_from,
            lead(d.valid_from) OVER member AS _next_from{{kept_values}}
        FROM {{dimension_table}} AS d
        LEFT JOIN (
            SELECT {{view_typed}}, {{view_deleted_at}} AS deleted_at, {{view_deleted_at}} IS NULL AS _is_known
            FROM {{transform_view}} AS o
        ) AS v ON {{v.bk = d.bk}}{{mirror}}
        WHERE d.{{sk}} > 0
            AND (p_slices = 1 OR (hash_record_extended(ROW({{bk_image}}), 1) & 65535) % p_slices = p_slice)
        WINDOW
            member AS (PARTITION BY {{d.bk}} ORDER BY d.valid_from),
            whole AS (PARTITION BY {{d.bk}})
    ),
    corrected AS (
        SELECT w.{{sk}}, {{w.bk}}, w.valid_from, w.valid_to{{, w.kept}}{{, w.right}},
            CASE WHEN w._previous_from IS NULL THEN '-infinity' ELSE w.valid_from END AS _right_valid_from,
            CASE
                WHEN w.valid_to > w._next_from THEN w._next_from
                WHEN w.valid_to = coalesce(w._next_from, 'infinity') OR NOT p_are_deletions_known THEN w.valid_to
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
        OR ROW({{kept_d}})::record *<> ROW({{kept_right}})::record;
END$sql$,
            v_values
        )
    );
END
$_compile_dimension_reconciliation$;
COMMENT ON FUNCTION etl._compile_dimension_reconciliation(etl.dimension) IS 'Makes the routines that compare a dimension.';

/*
What the comparison of a fact is rendered from. Of a deleted row only the measures matter, which must be gone: the rest stays as it was when
the row was deleted.
Parameters: p_fact, the fact.
Returns:    values for etl._render.
*/
CREATE OR REPLACE FUNCTION etl._fact_comparison(p_fact etl.fact)
RETURNS jsonb
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_fact_comparison$
DECLARE
    v_columns name[] := etl._without(etl._writable_columns(p_fact.fact_table), p_fact.business_key || 'run_id'::name);
    v_no_measures text;
BEGIN
    SELECT string_agg(format(
        'f.%I IS NOT DISTINCT FROM %s', a.attname, CASE WHEN NOT a.attnotnull THEN 'NULL' WHEN t.typcategory = 'B' THEN 'false' ELSE '0' END
    ), ' AND ' ORDER BY a.attnum)
    INTO v_no_measures
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = p_fact.fact_table
        AND a.attname = ANY (p_fact.measures);
    RETURN etl._comparison_values(
        format(
            E'SELECT *\nFROM (\n%s\nOFFSET 0\n) AS e\nWHERE NOT e.is_deleted\n    AND %s',
            etl._reconciled_fact_sql(p_fact.fact, p_are_few => false), etl._not_ignored(p_fact.business_key, 'e')
        ),
        format(
            E'SELECT *\nFROM %s AS f\nWHERE (NOT f.is_deleted OR NOT (%s))\n    AND %s',
            p_fact.fact_table, coalesce(v_no_measures, 'true'), etl._not_ignored(p_fact.business_key, 'f')
        ),
        p_fact.business_key, v_columns, p_fact.fact_table, etl._summed_columns(p_fact.fact_table, p_fact.measures)
    );
END
$_fact_comparison$;
COMMENT ON FUNCTION etl._fact_comparison(etl.fact) IS 'What the comparison of a fact is rendered from.';

/*
Makes the routines of an object that a reconciliation calls, and notes the default members of a dimension that it does not know yet.
Parameters: p_object, dimension or fact.
Returns:    names of the routines; none for any other object.
Writes:     schema compiled, etl.default_member.
*/
CREATE OR REPLACE FUNCTION etl._compile_reconciliation(p_object name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_reconciliation$
DECLARE
    r_dimension etl.dimension;
    r_fact etl.fact;
    v_values jsonb;
    v_settings text[] := ARRAY[
        'timezone = UTC', 'datestyle = ISO, MDY', 'intervalstyle = postgres', 'extra_float_digits = 1', 'bytea_output = hex', 'client_min_messages = warning'
    ];
BEGIN
    SELECT *
    INTO r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_object;
    IF FOUND THEN
        -- What is noted stays; a column that is new is added.
        EXECUTE format(
            $sql$INSERT INTO etl.default_member AS m (dimension, surrogate_key, member)
SELECT $1, d.%1$I, to_jsonb(d.*) - 'run_id'
FROM %2$s AS d
WHERE d.%1$I < 0
ON CONFLICT (dimension, surrogate_key) DO UPDATE
SET member = excluded.member || m.member
WHERE m.member <> excluded.member || m.member$sql$,
            r_dimension.surrogate_key, r_dimension.dimension_table
        )
        USING p_object;
        RETURN CASE WHEN r_dimension.transform_view IS NOT NULL THEN etl._compile_dimension_reconciliation(r_dimension) ELSE '{}' END;
    END IF;
    SELECT *
    INTO r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_object;
    IF NOT FOUND THEN
        RETURN ARRAY[]::name[];
    END IF;
    v_values := etl._fact_comparison(r_fact) || '{"mask": "p_mask", "slices": "p_slices", "slice": "p_slice", "buckets": "p_buckets"}';
    RETURN ARRAY[
        etl._create_compiled(
            'verify_' || p_object, 'p_mask bigint, p_slices integer, p_slice integer', 'void',
            format('Reduces %s, as it should be and as it is, to checksums of buckets.', p_object),
            format(E'BEGIN\n%s\n\n%s\nEND', etl._bucket_sql('expected', v_values), etl._bucket_sql('actual', v_values)), v_settings || '{enable_nestloop = off}'::text[]
        ),
        etl._create_compiled(
            'verify_rows_' || p_object, 'p_mask bigint, p_slices integer, p_slice integer, p_buckets integer[]', 'void',
            format('Compares the rows of buckets in which %s differs from what it should be.', p_object),
            format(E'BEGIN\n%s\nEND', etl._row_sql(v_values)), v_settings || '{enable_nestloop = off}'::text[]
        )
    ];
END
$_compile_reconciliation$;
COMMENT ON FUNCTION etl._compile_reconciliation(name) IS 'Makes the routines of an object that a reconciliation calls; returns their names.';
