-- Reconciliation: does stage hold what the source holds, do the stars hold what stage gives, do aggregates hold what their facts
-- sum up to? All in the database, on one snapshot, and as of the watermark: what changed in the source since then is left out.
--
-- Finding one wrong row in ten million: both sides are reduced to a checksum for each bucket of keys, which takes one pass; only
-- the rows of buckets that differ are then compared one by one. A bucket holds about a thousand rows. The checksum of a bucket is
-- the exclusive or of 64-bit hashes of its rows, so neither order nor a sort matters; the number of rows is compared as well.
-- The hash is the one that belongs to the types' equality (1.0 equals 1.00, NULL is not ''), as for the engine's IS DISTINCT FROM.
--
-- What a row should be is asked from the engine's own statements: for facts the SELECT of a bulk load, for dimensions the
-- decision about all members, made in chunks and thrown away. A reconciliation therefore takes the transformation for granted;
-- what it proves is that every row has gone through it.
--
-- Not compared are keys that wait for a load (pending, queued, in quarantine), as others report them, and what merely follows
-- from a difference further up: a wrong row of stage is told once, not once more for each star that was loaded rightly before it.

/*
Columns of a relation for a SELECT, in the types of the table that they are compared with; those that have no hash become text.
Parameters: p_columns, the columns; p_alias, of the row; p_table, the table.
Returns:    list of expressions with the columns' names.
*/
CREATE OR REPLACE FUNCTION etl._comparable(p_columns name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_comparable$
    SELECT string_agg(
        format(
            '%s.%I::%s%s AS %I',
            p_alias, c.name, etl._column_type(p_table, c.name),
            CASE WHEN t.typname IN ('json', 'xml', 'money', 'bit', 'varbit', 'tsvector', 'tsquery') OR t.typcategory = 'G' THEN '::text' ELSE '' END,
            c.name
        ),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_comparable$;
COMMENT ON FUNCTION etl._comparable(name[], text, regclass) IS 'Columns for a SELECT, in the types of the table that they are compared with.';

/*
Compares two sets of rows, by bucketed checksums first, then by row where buckets differ.
Parameters: p_object, to whom the table belongs; p_expected, p_actual, SELECTs of the two sides; p_key, key columns, without NULL;
            p_columns, the other columns; p_table, the table whose types count; p_sums, columns to be summed up.
Returns:    row counts, sums, buckets and number of differences.
Writes:     pg_temp.reconciled_difference: every differing row, both sides in full.
*/
CREATE OR REPLACE FUNCTION etl._compare(
    p_object name,
    p_expected text,
    p_actual text,
    p_key name[],
    p_columns name[],
    p_table regclass,
    p_sums name[]
) RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_compare$
DECLARE
    r_object etl.reconciliation_object;
    v_mask bigint;
    v_bucket text;
    v_rows text[] := ARRAY[p_expected, p_actual];
    v_sides text[] := ARRAY['expected', 'actual'];
    v_counts bigint[];
    v_sums jsonb[];
    v_count bigint;
    v_sum jsonb;
    v_different integer[];
BEGIN
    -- About a thousand rows in a bucket, and a power of two of buckets.
    SELECT power(2, greatest(6, least(16, ceil(log(2, greatest(c.reltuples::numeric, 1) / 1000)))))::bigint - 1
    INTO v_mask
    FROM pg_class AS c
    WHERE c.oid = p_table;
    v_bucket := format('(hash_record_extended(ROW(%s), 0) & %s)::integer', etl._list(p_key, 'r.%1$I'), v_mask);

    FOR v_side IN 1..2
    LOOP
        v_rows[v_side] := format(
            E'(\nSELECT %s\nFROM (\n%s\n) AS o\nWHERE (%s) IS NOT NULL\n) AS r',
            etl._comparable(p_key || p_columns, 'o', p_table), v_rows[v_side], etl._list(p_key, 'o.%1$I')
        );
        EXECUTE format('DROP TABLE IF EXISTS pg_temp.%I', 'reconciled_' || v_sides[v_side]);
        EXECUTE format(
            E'CREATE TEMPORARY TABLE %I ON COMMIT DROP AS\nSELECT %s AS bucket, count(*) AS row_count, bit_xor(hash_record_extended(ROW(%s), 0)) AS checksum%s\nFROM %s\nGROUP BY 1',
            'reconciled_' || v_sides[v_side], v_bucket, etl._list(p_key || p_columns, 'r.%1$I'),
            etl._list(p_sums, ', sum(r.%1$I) AS %1$I', ''), v_rows[v_side]
        );
        EXECUTE format(
            'SELECT s.row_count, to_jsonb(s) - ''row_count'' FROM (SELECT coalesce(sum(t.row_count), 0)::bigint AS row_count%2$s FROM pg_temp.%1$I AS t) AS s',
            'reconciled_' || v_sides[v_side], etl._list(p_sums, ', coalesce(sum(t.%1$I), 0) AS %1$I', '')
        )
        INTO v_count, v_sum;
        v_counts[v_side] := v_count;
        v_sums[v_side] := v_sum;
    END LOOP;

    SELECT coalesce(array_agg(bucket), '{}')
    INTO v_different
    FROM pg_temp.reconciled_expected AS e
    FULL JOIN pg_temp.reconciled_actual AS a USING (bucket)
    WHERE (e.row_count, e.checksum) IS DISTINCT FROM (a.row_count, a.checksum);

    DROP TABLE IF EXISTS pg_temp.reconciled_difference;
    CREATE TEMPORARY TABLE reconciled_difference (kind text, row_key jsonb, expected jsonb, actual jsonb) ON COMMIT DROP;
    IF cardinality(v_different) > 0 THEN
        EXECUTE format(
            $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN a._is_found IS NULL THEN 'missing' WHEN e._is_found IS NULL THEN 'surplus' ELSE 'different' END,
    %1$s,
    CASE WHEN e._is_found THEN to_jsonb(e) - '_is_found' END,
    CASE WHEN a._is_found THEN to_jsonb(a) - '_is_found' END
FROM (SELECT r.*, true AS _is_found FROM %2$s WHERE %4$s = ANY ($1)) AS e
FULL JOIN (SELECT r.*, true AS _is_found FROM %3$s WHERE %4$s = ANY ($1)) AS a USING (%5$s)
WHERE (e._is_found%6$s) IS DISTINCT FROM (a._is_found%7$s)$sql$,
            format('jsonb_build_object(%s)', etl._list(p_key, '%1$L, %1$I')), v_rows[1], v_rows[2], v_bucket, etl._list(p_key),
            etl._list(p_columns, ', e.%1$I', ''), etl._list(p_columns, ', a.%1$I', '')
        )
        USING v_different;
    END IF;

    r_object.object := p_object;
    r_object.expected_rows := v_counts[1];
    r_object.actual_rows := v_counts[2];
    r_object.expected_sums := v_sums[1];
    r_object.actual_sums := v_sums[2];
    r_object.buckets := v_mask + 1;
    r_object.different_buckets := cardinality(v_different);
    r_object.differences := (SELECT count(*) FROM pg_temp.reconciled_difference);
    RETURN r_object;
END
$_compare$;
COMMENT ON FUNCTION etl._compare(name, text, text, name[], name[], regclass, name[]) IS 'Compares two sets of rows by bucketed checksums, then by row where buckets differ.';

/*
The table of keys that a comparison leaves out.
Parameters: p_key, key columns; p_table, the table that has them.
Writes:     pg_temp.reconciled_ignored, made anew.
*/
CREATE OR REPLACE FUNCTION etl._begin_ignoring(p_key name[], p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_begin_ignoring$
BEGIN
    DROP TABLE IF EXISTS pg_temp.reconciled_ignored;
    EXECUTE format('CREATE TEMPORARY TABLE reconciled_ignored ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA', etl._list(p_key), p_table);
    EXECUTE format('CREATE UNIQUE INDEX ON pg_temp.reconciled_ignored (%s)', etl._list(p_key));
END
$_begin_ignoring$;
COMMENT ON FUNCTION etl._begin_ignoring(name[], regclass) IS 'Makes the table of keys that a comparison leaves out.';

CREATE OR REPLACE FUNCTION etl._not_ignored(p_key name[], p_alias text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_not_ignored$
    SELECT format('NOT EXISTS (SELECT FROM pg_temp.reconciled_ignored AS i WHERE %s)', etl._match(p_key, 'i', p_alias))
$_not_ignored$;
COMMENT ON FUNCTION etl._not_ignored(name[], text) IS 'Condition that a row (its alias) is not left out of the comparison.';

/*
Leaves the keys out that quarantine, queue, pending table and differences of the source tables name.
Parameters: p_object, source table, dimension or fact; p_key, its key; p_table, its table; p_is_source, whether it is a source table.
Returns:    number of keys left out.
Writes:     pg_temp.reconciled_ignored.
Errors:     40001 when the pending keys were emptied by a load that this snapshot does not see.
*/
CREATE OR REPLACE FUNCTION etl._ignore_waiting(p_object name, p_key name[], p_table regclass, p_is_source boolean)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_ignore_waiting$
DECLARE
    r_dependency etl.dependency;
    v_count bigint;
    v_into text := format('INSERT INTO pg_temp.reconciled_ignored (%s) ', etl._list(p_key));
    v_unpack text := etl._from_json(p_key, 'q.row_key', p_table);
BEGIN
    EXECUTE v_into || format(
        'SELECT DISTINCT %s FROM etl.quarantine AS q WHERE q.object = $1 AND %s ON CONFLICT DO NOTHING',
        v_unpack, etl._list(p_key, '(q.row_key ->> %1$L) IS NOT NULL', ' AND ')
    )
    USING p_object;
    IF p_is_source THEN
        -- What was forgotten differs for good from a source that still has it.
        EXECUTE v_into || format('SELECT DISTINCT %s FROM etl.forgotten_row AS q WHERE q.object = $1 ON CONFLICT DO NOTHING', v_unpack) USING p_object;
        EXECUTE v_into || format('SELECT DISTINCT %s FROM etl.newer_keys($1) AS q ON CONFLICT DO NOTHING', v_unpack) USING p_object;
    ELSE
        EXECUTE v_into || format('SELECT %s FROM work.%I ON CONFLICT DO NOTHING', etl._list(p_key), p_object || '_key');
        PERFORM etl._assert_not_emptied(p_object || '_key');
        EXECUTE v_into || format(
            'SELECT DISTINCT %s FROM etl.reprocessing_queue AS q WHERE q.fact = $1 ON CONFLICT DO NOTHING',
            etl._from_json(p_key, 'q.fact_key', p_table)
        )
        USING p_object;
        FOR r_dependency IN
            SELECT *
            FROM etl.dependency AS d
            WHERE d.object = p_object
                AND to_regclass(format('pg_temp.%I', 'reconciled_of_' || d.source_table)) IS NOT NULL
        LOOP
            EXECUTE v_into || format(
                E'WITH changed AS (SELECT * FROM pg_temp.%I)\nSELECT DISTINCT %s FROM (\n%s\n) AS k (%s) WHERE (%s) IS NOT NULL ON CONFLICT DO NOTHING',
                'reconciled_of_' || r_dependency.source_table, etl._list(p_key, 'k.%1$I'), r_dependency.key_query, etl._list(p_key),
                etl._list(p_key, 'k.%1$I')
            );
        END LOOP;
    END IF;
    EXECUTE 'ANALYZE pg_temp.reconciled_ignored';
    SELECT count(*)
    INTO v_count
    FROM pg_temp.reconciled_ignored;
    RETURN v_count;
END
$_ignore_waiting$;
COMMENT ON FUNCTION etl._ignore_waiting(name, name[], regclass, boolean) IS 'Leaves out of a comparison the keys that wait for a load or follow from a difference further up.';

CREATE OR REPLACE FUNCTION etl._assert_not_emptied(p_table text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_assert_not_emptied$
DECLARE
    v_table regclass := format('work.%I', p_table)::regclass;
BEGIN
    -- TRUNCATE is seen by every snapshot at once; the catalog as this snapshot sees it still names the old file.
    IF (SELECT c.relfilenode FROM pg_class AS c WHERE c.oid = v_table) <> pg_relation_filenode(v_table) THEN
        RAISE EXCEPTION '% was emptied by a load while it was to be compared', v_table
            USING ERRCODE = '40001', HINT = 'Reconcile again.';
    END IF;
END
$_assert_not_emptied$;
COMMENT ON FUNCTION etl._assert_not_emptied(text) IS 'Raises 40001 when a table of schema work was truncated since the snapshot was taken.';

/*
Notes the differing rows that _compare has found, as many as the setting reconciliation_rows_kept allows.
Parameters: p_reconciliation_id, the reconciliation; p_object, the object; p_columns, columns that are compared.
Writes:     etl.reconciliation_difference.
*/
CREATE OR REPLACE FUNCTION etl._keep_differences(p_reconciliation_id bigint, p_object name, p_columns name[])
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
            coalesce(array_agg(n.name ORDER BY n.position), '{}') AS columns,
            jsonb_object_agg(n.name, d.expected -> n.name::text) AS expected,
            jsonb_object_agg(n.name, d.actual -> n.name::text) AS actual
        FROM unnest(p_columns) WITH ORDINALITY AS n (name, position)
        WHERE d.kind = 'different'
            AND (d.expected -> n.name::text) IS DISTINCT FROM (d.actual -> n.name::text)
    ) AS c;
END
$_keep_differences$;
COMMENT ON FUNCTION etl._keep_differences(bigint, name, name[]) IS 'Notes the differing rows that a comparison has found.';

/*
Compares a source table with its mirror, as of the watermark.
Parameters: p_reconciliation_id, the reconciliation; p_source_table, the table.
Returns:    what was found.
Writes:     etl.reconciliation_difference, pg_temp.reconciled_of_<table>: the differing rows, both images.
Errors:     ET017 when the mirror is to be made anew, so that there is nothing to compare; as etl._reach_source.
*/
CREATE OR REPLACE FUNCTION etl._reconcile_source(p_reconciliation_id bigint, p_source_table name)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_reconcile_source$
DECLARE
    r_source etl.source_table;
    r_object etl.reconciliation_object;
    v_stage regclass := format('stage.%I', p_source_table)::regclass;
    v_columns name[];
    v_sums name[];
    v_ignored bigint;
BEGIN
    SELECT *
    INTO STRICT r_source
    FROM etl.source_table AS s
    WHERE s.source_table = p_source_table;
    PERFORM etl._reach_source();
    IF NOT EXISTS (
        SELECT
        FROM etl.watermark AS w
        JOIN source.extraction_point AS p USING (system_identifier)
        WHERE w.source_table = p_source_table
    ) THEN
        RAISE EXCEPTION 'the table waits to be extracted anew'
            USING ERRCODE = 'ET017', HINT = 'Reconcile after the next run.';
    END IF;
    PERFORM etl._begin_ignoring(r_source.key_columns, v_stage);
    v_ignored := etl._ignore_waiting(p_source_table, r_source.key_columns, v_stage, p_is_source => true);
    v_columns := etl._without(etl._columns(v_stage), r_source.key_columns || '{batch_id,deleted_at}'::name[]);
    -- Sums of numbers, but not of numbers that are names of rows.
    SELECT coalesce(array_agg(a.attname ORDER BY a.attnum), '{}')
    INTO v_sums
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = v_stage
        AND a.attname = ANY (v_columns)
        AND t.typcategory = 'N'
        AND NOT EXISTS (SELECT FROM etl.source_table AS s WHERE a.attname = ANY (s.key_columns));

    r_object := etl._compare(
        p_source_table,
        format(
            'SELECT s.* FROM source.%I AS s WHERE %s%s',
            p_source_table, etl._not_ignored(r_source.key_columns, 's'), etl._not_unreadable(p_source_table, r_source.key_columns, 's')
        ),
        format('SELECT m.* FROM %s AS m WHERE m.deleted_at IS NULL AND %s', v_stage, etl._not_ignored(r_source.key_columns, 'm')),
        r_source.key_columns, v_columns, v_stage, v_sums
    );
    r_object.comparison := 'source to stage';
    r_object.ignored_rows := v_ignored;
    IF r_object.differences > 0 THEN
        IF r_source.delete_detection = 'none' THEN
            DELETE FROM pg_temp.reconciled_difference AS d WHERE d.kind = 'surplus';
            r_object.differences := (SELECT count(*) FROM pg_temp.reconciled_difference);
            r_object.message := 'rows deleted in the source stay, as delete_detection is none';
        END IF;
        IF r_source.change_detection = 'comparison' THEN
            r_object.message := 'the source does not tell when a row changed: what differs may have changed since the last run';
        END IF;
        PERFORM etl._keep_differences(p_reconciliation_id, p_source_table, v_columns);
        EXECUTE format(
            $sql$CREATE TEMPORARY TABLE %1$I ON COMMIT DROP AS
SELECT m.*
FROM pg_temp.reconciled_difference AS d
CROSS JOIN LATERAL (VALUES (d.expected), (d.actual)) AS i (image)
CROSS JOIN LATERAL jsonb_populate_record(NULL::%2$s, i.image) AS m
WHERE i.image IS NOT NULL$sql$,
            'reconciled_of_' || p_source_table, v_stage
        );
    END IF;
    RETURN r_object;
END
$_reconcile_source$;
COMMENT ON FUNCTION etl._reconcile_source(bigint, name) IS 'Compares a source table with its mirror, as of the watermark.';

/*
Compares a dimension with what stage gives. The current versions are compared with the transformation view; then the engine decides,
in chunks, what a load of every member would change: nothing, if the dimension is right.
Parameters: p_reconciliation_id, the reconciliation; p_dimension, the dimension.
Returns:    what was found; rows are versions.
Writes:     etl.reconciliation_difference.
*/
CREATE OR REPLACE FUNCTION etl._reconcile_dimension(p_reconciliation_id bigint, p_dimension name)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_reconcile_dimension$
DECLARE
    c_chunk CONSTANT integer := 100000;
    r_dimension etl.dimension;
    r_object etl.reconciliation_object;
    v_bk name[];
    v_shown name[];      -- attributes that the view alone decides on
    v_columns name[];
    v_decide text;
    v_attributes name[] := (SELECT array_agg(e.value::name) FROM jsonb_array_elements_text(etl._dimension_values(p_dimension) -> 'attributes') AS e);
    v_chunks integer;
BEGIN
    SELECT *
    INTO STRICT r_dimension
    FROM etl.dimension AS d
    WHERE d.dimension = p_dimension;
    v_bk := r_dimension.business_key;
    SELECT coalesce(array_agg(a.attribute ORDER BY a.attribute), '{}')
    INTO v_shown
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_dimension
        AND a.scd_type > 0
        AND a.attribute <> ALL (coalesce(etl._columns(r_dimension.history_view), '{}'));
    v_columns := etl._without(etl._columns(r_dimension.dimension_table), v_bk || r_dimension.surrogate_key || 'run_id'::name);

    PERFORM etl._begin_ignoring(v_bk, r_dimension.dimension_table);
    r_object.ignored_rows := etl._ignore_waiting(p_dimension, v_bk, r_dimension.dimension_table, p_is_source => false);
    DROP TABLE IF EXISTS pg_temp.reconciled_difference;
    CREATE TEMPORARY TABLE reconciled_difference (kind text, row_key jsonb, expected jsonb, actual jsonb) ON COMMIT DROP;
    EXECUTE format(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT 'different', %1$s, to_jsonb(v), to_jsonb(d)
FROM %2$s AS v
JOIN %3$s AS d ON %4$s AND d.is_current
WHERE v.effective_at IS NOT NULL
    AND v.deleted_at IS NULL
    AND %5$s
    AND %6$s$sql$,
        etl._json_key(v_bk, 'd'), r_dimension.transform_view, r_dimension.dimension_table, etl._match(v_bk, 'd', 'v'),
        etl._differs(v_shown, 'd', 'v'), etl._not_ignored(v_bk, 'v')
    );
    PERFORM etl._keep_differences(p_reconciliation_id, p_dimension, v_shown);
    r_object.differences := (SELECT count(*) FROM pg_temp.reconciled_difference);
    -- Told once.
    EXECUTE format(
        'INSERT INTO pg_temp.reconciled_ignored (%s) SELECT %s FROM pg_temp.reconciled_difference AS q ON CONFLICT DO NOTHING',
        etl._list(v_bk), etl._from_json(v_bk, 'q.row_key', r_dimension.dimension_table)
    );
    TRUNCATE pg_temp.reconciled_difference;

    DROP TABLE IF EXISTS pg_temp.reconciled_member, pg_temp.reconciled_key, pg_temp.reconciled_decision;
    EXECUTE format(
        $sql$CREATE TEMPORARY TABLE reconciled_member ON COMMIT DROP AS
SELECT (row_number() OVER (ORDER BY %1$s) - 1) / %2$s AS chunk, %1$s
FROM (
    SELECT %1$s FROM %3$s
    UNION
    SELECT %1$s FROM %4$s
) AS m
WHERE (%1$s) IS NOT NULL
    AND %5$s$sql$,
        etl._list(v_bk), c_chunk, r_dimension.transform_view, r_dimension.dimension_table, etl._not_ignored(v_bk, 'm')
    );
    EXECUTE format('CREATE TEMPORARY TABLE reconciled_key ON COMMIT DROP AS SELECT %s FROM pg_temp.reconciled_member WITH NO DATA', etl._list(v_bk));
    EXECUTE format('CREATE TEMPORARY TABLE reconciled_decision ON COMMIT DROP AS SELECT * FROM work.%I WITH NO DATA', p_dimension || '_decision');
    -- The engine's decision, about keys of our own and into a table of our own.
    v_decide := format(
        'INSERT INTO pg_temp.reconciled_decision (planned_operation, %I, %s, valid_from, valid_to, is_current, run_id) ',
        r_dimension.surrogate_key, etl._list(v_bk || v_attributes)
    ) || replace(replace(replace(
        etl._expected_dimension_sql(p_dimension, 'pg_temp.reconciled_key'), 'p_run_id', '$1'), 'p_now', '$2'), 'p_batch_at', '$3');

    SELECT coalesce(max(m.chunk) + 1, 0)
    INTO v_chunks
    FROM pg_temp.reconciled_member AS m;
    r_object.expected_rows := 0;
    FOR v_chunk IN 0..v_chunks - 1
    LOOP
        TRUNCATE pg_temp.reconciled_key, pg_temp.reconciled_decision;
        EXECUTE format('INSERT INTO pg_temp.reconciled_key SELECT %s FROM pg_temp.reconciled_member WHERE chunk = $1', etl._list(v_bk)) USING v_chunk;
        EXECUTE 'ANALYZE pg_temp.reconciled_key';
        EXECUTE v_decide USING 0::bigint, clock_timestamp(), (SELECT l.batch_at FROM etl._load_time() AS l);
        r_object.expected_rows := r_object.expected_rows + (SELECT count(*) FROM pg_temp.reconciled_decision);
        EXECUTE format(
            $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN w.planned_operation = 'insert' THEN 'missing' WHEN v.effective_at IS NULL OR v.deleted_at IS NOT NULL THEN 'surplus' ELSE 'different' END,
    %1$s,
    to_jsonb(w) - '{planned_operation,run_id}'::text[],
    to_jsonb(d) - 'run_id'
FROM pg_temp.reconciled_decision AS w
LEFT JOIN %2$s AS d ON d.%3$I = w.%3$I
LEFT JOIN %4$s AS v ON %5$s
WHERE w.planned_operation <> 'unchanged'$sql$,
            -- Which version it is, as well.
            etl._json_key(v_bk, 'w') || ' || jsonb_build_object(''valid_from'', coalesce(d.valid_from, w.valid_from))',
            r_dimension.dimension_table, r_dimension.surrogate_key, r_dimension.transform_view, etl._match(v_bk, 'v', 'w')
        );
    END LOOP;
    PERFORM etl._keep_differences(p_reconciliation_id, p_dimension, v_columns);
    r_object.differences := r_object.differences + (SELECT count(*) FROM pg_temp.reconciled_difference);
    EXECUTE format('SELECT count(*) FROM %s AS d WHERE (%s) IS NOT NULL AND %s', r_dimension.dimension_table, etl._list(v_bk, 'd.%1$I'), etl._not_ignored(v_bk, 'd'))
    INTO r_object.actual_rows;
    r_object.comparison := 'stage to dimension';
    RETURN r_object;
END
$_reconcile_dimension$;
COMMENT ON FUNCTION etl._reconcile_dimension(bigint, name) IS 'Compares a dimension with what stage gives.';

/*
Compares a fact with what a bulk load would insert now. Rows that are marked as deleted must have no measures left.
Parameters: p_reconciliation_id, the reconciliation; p_fact, the fact.
Returns:    what was found.
Writes:     etl.reconciliation_difference, where wrong surrogate keys are told with the business keys behind them.
*/
CREATE OR REPLACE FUNCTION etl._reconcile_fact(p_reconciliation_id bigint, p_fact name)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_reconcile_fact$
DECLARE
    r_fact etl.fact;
    r_object etl.reconciliation_object;
    r_role record;
    v_columns name[];
    v_sums name[];
    v_no_measures text;
    v_expected text;
    v_ignored bigint;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    v_columns := etl._without(etl._columns(r_fact.fact_table), r_fact.business_key || '{is_deleted,run_id}'::name[]);
    SELECT
        coalesce(array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE t.typcategory = 'N'), '{}'),
        string_agg(format(
            'f.%I IS NOT DISTINCT FROM %s', a.attname, CASE WHEN NOT a.attnotnull THEN 'NULL' WHEN t.typcategory = 'B' THEN 'false' ELSE '0' END
        ), ' AND ')
    INTO v_sums, v_no_measures
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = r_fact.fact_table
        AND a.attname = ANY (r_fact.measures);
    -- OFFSET 0 keeps the condition on deleted rows out of the joins, of which it made the planner expect one row in two hundred:
    -- nested loops and a sort of everything took twice as long as hashing.
    v_expected := etl._expected_fact_sql(p_fact) || E'\nOFFSET 0';

    PERFORM etl._begin_ignoring(r_fact.business_key, r_fact.fact_table);
    v_ignored := etl._ignore_waiting(p_fact, r_fact.business_key, r_fact.fact_table, p_is_source => false);
    r_object := etl._compare(
        p_fact,
        format(E'SELECT e.*\nFROM (\n%s\n) AS e\nWHERE NOT e.is_deleted\n    AND %s', v_expected, etl._not_ignored(r_fact.business_key, 'e')),
        format(
            'SELECT f.* FROM %s AS f WHERE (NOT f.is_deleted OR NOT (%s)) AND %s',
            r_fact.fact_table, coalesce(v_no_measures, 'true'), etl._not_ignored(r_fact.business_key, 'f')
        ),
        r_fact.business_key, v_columns, r_fact.fact_table, v_sums
    );
    r_object.comparison := 'stage to fact';
    r_object.ignored_rows := v_ignored;
    PERFORM etl._keep_differences(p_reconciliation_id, p_fact, v_columns);

    FOR r_role IN
        SELECT k.key_column, d.dimension_table, d.surrogate_key, d.business_key,
            etl._column_type(d.dimension_table, 'valid_from') IS NOT NULL AS has_history
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
    LOOP
        EXECUTE format(
            $sql$UPDATE etl.reconciliation_difference AS x
SET expected = x.expected || jsonb_build_object(%1$L, (SELECT %2$s FROM %3$s AS d WHERE d.%4$I = (x.expected ->> %1$L)::bigint)),
    actual = x.actual || jsonb_build_object(%1$L, coalesce((SELECT %2$s FROM %3$s AS d WHERE d.%4$I = (x.actual ->> %1$L)::bigint), x.actual -> %1$L))
WHERE x.reconciliation_id = $1
    AND x.object = $2
    AND x.kind = 'different'
    AND %1$L = ANY (x.columns)$sql$,
            r_role.key_column,
            format('jsonb_build_object(''key'', d.%I) || %s', r_role.surrogate_key, etl._json_key(r_role.business_key, 'd'))
                || CASE WHEN r_role.has_history THEN ' || jsonb_build_object(''valid_from'', d.valid_from)' ELSE '' END,
            r_role.dimension_table, r_role.surrogate_key
        )
        USING p_reconciliation_id, p_fact;
    END LOOP;
    RETURN r_object;
END
$_reconcile_fact$;
COMMENT ON FUNCTION etl._reconcile_fact(bigint, name) IS 'Compares a fact with what a bulk load would insert now.';

/*
Compares an aggregate with the sums of its facts.
Parameters: p_reconciliation_id, the reconciliation; p_aggregate, the aggregate.
Returns:    what was found; rows are groups.
Writes:     etl.reconciliation_difference.
*/
CREATE OR REPLACE FUNCTION etl._reconcile_aggregate(p_reconciliation_id bigint, p_aggregate name)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_reconcile_aggregate$
DECLARE
    r_aggregate etl.aggregate;
    r_object etl.reconciliation_object;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    DROP TABLE IF EXISTS pg_temp.reconciled_difference;
    CREATE TEMPORARY TABLE reconciled_difference ON COMMIT DROP AS
    SELECT CASE WHEN d.actual IS NULL THEN 'missing' WHEN d.expected IS NULL THEN 'surplus' ELSE 'different' END AS kind, d.group_key AS row_key, d.expected, d.actual
    FROM etl.aggregate_differences(ARRAY[p_aggregate]) AS d;
    PERFORM etl._assert_not_emptied(p_aggregate || '_difference');
    PERFORM etl._keep_differences(p_reconciliation_id, p_aggregate, r_aggregate.measures);
    r_object.comparison := 'fact to aggregate';
    r_object.differences := (SELECT count(*) FROM pg_temp.reconciled_difference);
    EXECUTE format(
        'SELECT s.row_count, to_jsonb(s) - ''row_count'' FROM (SELECT count(*) AS row_count, %2$s FROM %1$s AS a) AS s',
        r_aggregate.aggregate_table, etl._list(r_aggregate.measures, 'coalesce(sum(a.%1$I), 0) AS %1$I')
    )
    INTO r_object.actual_rows, r_object.actual_sums;
    r_object.expected_rows := r_object.actual_rows
        + (SELECT count(*) FILTER (WHERE d.kind = 'missing') - count(*) FILTER (WHERE d.kind = 'surplus') FROM pg_temp.reconciled_difference AS d);
    r_object.ignored_rows := 0;
    RETURN r_object;
END
$_reconcile_aggregate$;
COMMENT ON FUNCTION etl._reconcile_aggregate(bigint, name) IS 'Compares an aggregate with the sums of its facts.';

/*
Compares objects on the snapshot of this transaction, which must be REPEATABLE READ.
Parameters: p_objects, source tables, dimensions, facts and aggregates; all by default. The source tables of a dimension or fact are
            compared with it.
Returns:    the reconciliation.
Writes:     etl.reconciliation, etl.reconciliation_object, etl.reconciliation_difference.
Errors:     ET002 when there is no such object, ET016 when the transaction is not REPEATABLE READ.
*/
CREATE OR REPLACE FUNCTION etl._reconcile(p_objects text[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_reconcile$
DECLARE
    v_id bigint;
    v_name text;
    r_task record;
    r_object etl.reconciliation_object;
    v_started_at timestamptz;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'a reconciliation needs one snapshot, this transaction is %', current_setting('transaction_isolation')
            USING ERRCODE = 'ET016', HINT = 'CALL etl.reconcile(), outside a transaction block.';
    END IF;
    PERFORM etl._refuse_foreign_temporary('reconciled\_%');
    FOREACH v_name IN ARRAY coalesce(p_objects, '{}')
    LOOP
        IF NOT EXISTS (SELECT FROM etl.task AS t WHERE t.object = v_name AND t.kind IN ('stage', 'dimension', 'fact', 'aggregate')) THEN
            RAISE EXCEPTION 'there is no source table, dimension, fact or aggregate "%"', v_name
                USING ERRCODE = 'ET002', HINT = 'SELECT DISTINCT object FROM etl.task lists them.';
        END IF;
    END LOOP;
    INSERT INTO etl.reconciliation (objects, status, differences)
    VALUES (p_objects, 'equal', 0)
    RETURNING reconciliation_id INTO v_id;

    FOR r_task IN
        SELECT t.kind, t.object, l.needs_reload
        FROM etl.task AS t
        LEFT JOIN etl.load_state AS l ON l.object = t.object AND t.kind <> 'stage'
        WHERE t.kind IN ('stage', 'dimension', 'fact', 'aggregate')
            AND (
                p_objects IS NULL
                OR t.object = ANY (p_objects)
                OR (t.kind = 'stage' AND t.object IN (SELECT d.source_table FROM etl.dependency AS d WHERE d.object = ANY (p_objects)))
            )
        ORDER BY t.position
    LOOP
        v_started_at := clock_timestamp();
        BEGIN
            IF r_task.needs_reload THEN
                RAISE EXCEPTION 'the object waits to be loaded anew'
                    USING ERRCODE = 'ET017', HINT = 'Reconcile after the next run.';
            END IF;
            r_object := CASE r_task.kind
                WHEN 'stage' THEN etl._reconcile_source(v_id, r_task.object)
                WHEN 'dimension' THEN etl._reconcile_dimension(v_id, r_task.object)
                WHEN 'fact' THEN etl._reconcile_fact(v_id, r_task.object)
                ELSE etl._reconcile_aggregate(v_id, r_task.object)
            END;
            r_object.status := CASE WHEN r_object.differences > 0 THEN 'different' ELSE 'equal' END;
        EXCEPTION
            WHEN OTHERS THEN
                r_object := NULL;
                r_object.status := 'skipped';
                r_object.differences := 0;
                r_object.message := CASE WHEN SQLSTATE = 'ET017' THEN SQLERRM ELSE format('%s (%s)', SQLERRM, SQLSTATE) END;
                r_object.comparison := CASE r_task.kind
                    WHEN 'stage' THEN 'source to stage'
                    WHEN 'dimension' THEN 'stage to dimension'
                    WHEN 'fact' THEN 'stage to fact'
                    ELSE 'fact to aggregate'
                END;
        END;
        r_object.reconciliation_id := v_id;
        r_object.object := r_task.object;
        r_object.seconds := extract(epoch FROM clock_timestamp() - v_started_at);
        INSERT INTO etl.reconciliation_object
        VALUES (r_object.*);
    END LOOP;
    UPDATE etl.reconciliation AS r
    SET ended_at = clock_timestamp(),
        differences = t.differences,
        status = CASE WHEN t.differences > 0 THEN 'different' WHEN t.has_gap THEN 'incomplete' ELSE 'equal' END
    FROM (
        SELECT coalesce(sum(o.differences), 0) AS differences, coalesce(bool_or(o.status = 'skipped'), false) AS has_gap
        FROM etl.reconciliation_object AS o
        WHERE o.reconciliation_id = v_id
    ) AS t
    WHERE r.reconciliation_id = v_id;
    RETURN v_id;
END
$_reconcile$;
COMMENT ON FUNCTION etl._reconcile(text[]) IS 'Compares objects on the snapshot of this transaction, which must be REPEATABLE READ.';

/*
Compares source, stage and stars on one snapshot. Call it outside a transaction block.
Parameters: p_objects, source tables, dimensions, facts and aggregates, all by default; p_reconciliation_id, returns the reconciliation.
Writes:     etl.reconciliation, etl.reconciliation_object, etl.reconciliation_difference.
Errors:     ET002 when there is no such object.
*/
CREATE OR REPLACE PROCEDURE etl.reconcile(p_objects text[] DEFAULT NULL, INOUT p_reconciliation_id bigint DEFAULT NULL)
LANGUAGE plpgsql
AS $reconcile$
BEGIN
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
    p_reconciliation_id := etl._reconcile(p_objects);
    COMMIT;
END
$reconcile$;
COMMENT ON PROCEDURE etl.reconcile(text[], bigint) IS 'Compares source, stage and stars on one snapshot; etl.reconciliation_status shows what was found.';

/*
Hands what a reconciliation found to the next run: rows of the source are extracted again, members and facts become pending, groups
of aggregates get the difference. The current version of a member is put right in place: its attributes were the source's when it
began, so what differs without a change in the source is no history.
Parameters: p_reconciliation_id, the reconciliation; the last one by default.
Returns:    number of differences handed over.
Writes:     etl.reextraction, the dimensions' tables, work.<object>_key, work.<aggregate>_difference, etl.load_state, etl.watermark,
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
    v_kept bigint := etl.get_setting('reconciliation_rows_kept')::bigint;
    v_running bigint;
    v_total bigint := 0;
    r_object record;
BEGIN
    IF NOT EXISTS (SELECT FROM etl.reconciliation AS r WHERE r.reconciliation_id = v_id) THEN
        RAISE EXCEPTION 'there is no reconciliation%', coalesce(' ' || p_reconciliation_id, ' yet')
            USING ERRCODE = 'ET002', HINT = 'CALL etl.reconcile() makes one.';
    END IF;
    -- A load that ends clears the pending keys: nothing may be added to them meanwhile.
    PERFORM etl._lock_start();
    v_running := etl._live_run();
    IF v_running IS NOT NULL THEN
        PERFORM etl._refuse_beside_run(v_running, 'Repair after its end.');
    END IF;

    FOR r_object IN
        SELECT o.object, o.comparison, o.differences
        FROM etl.reconciliation_object AS o
        WHERE o.reconciliation_id = v_id
            AND o.differences > 0
        -- Aggregates last: whether one is built anew depends on its facts.
        ORDER BY array_position('{source to stage,stage to dimension,stage to fact,fact to aggregate}'::text[], o.comparison)
    LOOP
        v_total := v_total + r_object.differences;
        IF r_object.differences > v_kept THEN
            PERFORM etl._request_refresh(ARRAY[r_object.object::text]);
        ELSE
            CASE r_object.comparison
                WHEN 'source to stage' THEN
                    INSERT INTO etl.reextraction (source_table, row_key)
                    SELECT DISTINCT d.object, d.row_key
                    FROM etl.reconciliation_difference AS d
                    WHERE d.reconciliation_id = v_id
                        AND d.object = r_object.object
                    ON CONFLICT (source_table, row_key) DO UPDATE
                    SET batch_id = NULL;
                WHEN 'fact to aggregate' THEN PERFORM etl._repair_aggregate(r_object.object);
                ELSE PERFORM etl._repair_star(v_id, r_object.object);
            END CASE;
        END IF;
        -- An aggregate is kept by difference to what feeds it: where that was wrong, differences mislead.
        PERFORM etl._request_reload(etl._fed_by(r_object.object));
    END LOOP;
    UPDATE etl.reconciliation AS r
    SET repair_requested_at = clock_timestamp()
    WHERE r.reconciliation_id = v_id
        AND v_total > 0;
    RETURN v_total;
END
$repair$;
COMMENT ON FUNCTION etl.repair(bigint) IS 'Hands what a reconciliation found to the next run; returns the number of differences.';

/*
Makes the differing members or facts pending.
Parameters: p_reconciliation_id, the reconciliation; p_object, the dimension or fact.
Writes:     work.<object>_key; of a dimension the attributes of current versions.
*/
CREATE OR REPLACE FUNCTION etl._repair_star(p_reconciliation_id bigint, p_object name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_star$
DECLARE
    r_star record;
    v_tracked name[];
BEGIN
    SELECT d.business_key, d.dimension_table AS target, d.transform_view, d.history_view
    INTO r_star
    FROM etl.dimension AS d
    WHERE d.dimension = p_object
    UNION ALL
    SELECT f.business_key, f.fact_table, NULL, NULL
    FROM etl.fact AS f
    WHERE f.fact = p_object;

    EXECUTE format(
        'INSERT INTO work.%I (%s) SELECT DISTINCT %s FROM etl.reconciliation_difference AS q WHERE q.reconciliation_id = $1 AND q.object = $2',
        p_object || '_key', etl._list(r_star.business_key), etl._from_json(r_star.business_key, 'q.row_key', r_star.target)
    )
    USING p_reconciliation_id, p_object;

    SELECT array_agg(a.attribute)
    INTO v_tracked
    FROM etl.dimension_attribute AS a
    WHERE a.dimension = p_object
        AND a.scd_type = 2
        AND a.attribute <> ALL (coalesce(etl._columns(r_star.history_view), '{}'));
    IF v_tracked IS NOT NULL THEN
        EXECUTE format(
            $sql$UPDATE %1$s AS d
SET %2$s
FROM work.%3$I AS k
JOIN %4$s AS v ON %5$s
WHERE %6$s
    AND d.is_current
    AND v.effective_at IS NOT NULL
    AND v.deleted_at IS NULL
    AND %7$s
    AND EXISTS (
        SELECT
        FROM etl.reconciliation_difference AS q
        WHERE q.reconciliation_id = $1
            AND q.object = $2
            AND q.row_key = %8$s
    )$sql$,
            r_star.target, etl._list(v_tracked, '%1$I = v.%1$I'), p_object || '_key', r_star.transform_view,
            etl._match(r_star.business_key, 'v', 'k'), etl._match(r_star.business_key, 'd', 'k'),
            etl._differs(v_tracked, 'd', 'v'), etl._json_key(r_star.business_key, 'k')
        )
        USING p_reconciliation_id, p_object;
    END IF;
END
$_repair_star$;
COMMENT ON FUNCTION etl._repair_star(bigint, name) IS 'Makes the differing members or facts pending.';

/*
Adds what differing groups lack to the differences that the next load of the aggregate applies, unless that builds it anew.
Parameters: p_aggregate, the aggregate.
Writes:     work.<aggregate>_difference.
*/
CREATE OR REPLACE FUNCTION etl._repair_aggregate(p_aggregate name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_repair_aggregate$
DECLARE
    r_aggregate etl.aggregate;
BEGIN
    SELECT a.*
    INTO r_aggregate
    FROM etl.aggregate AS a
    JOIN etl.load_state AS l ON l.object = a.aggregate
    WHERE a.aggregate = p_aggregate
        AND NOT l.needs_reload;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- As the groups are now: the reconciliation may be from yesterday.
    EXECUTE format(
        $sql$INSERT INTO work.%1$I (%2$s, %3$s)
SELECT %4$s, %5$s
FROM etl.aggregate_differences(ARRAY[$1]) AS q$sql$,
        p_aggregate || '_difference', etl._list(r_aggregate.group_key), etl._list(r_aggregate.measures),
        etl._from_json(r_aggregate.group_key, 'q.group_key', r_aggregate.aggregate_table),
        etl._list(r_aggregate.measures, 'coalesce((q.expected ->> %1$L)::numeric, 0) - coalesce((q.actual ->> %1$L)::numeric, 0)')
    )
    USING p_aggregate;
END
$_repair_aggregate$;
COMMENT ON FUNCTION etl._repair_aggregate(name) IS 'Adds what differing groups lack to the differences of an aggregate.';

CREATE OR REPLACE VIEW etl.reconciliation_status AS
SELECT
    r.reconciliation_id,
    r.started_at,
    r.ended_at,
    r.objects,
    r.status AS overall_status,
    r.differences AS overall_differences,
    r.repair_requested_at,
    o.object,
    o.comparison,
    o.status,
    o.expected_rows,
    o.actual_rows,
    o.ignored_rows,
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
COMMENT ON VIEW etl.reconciliation_status IS 'The last reconciliation, one row an object; the differing rows are in etl.reconciliation_difference.';
COMMENT ON COLUMN etl.reconciliation_status.reconciliation_id IS 'Reconciliation.';
COMMENT ON COLUMN etl.reconciliation_status.started_at IS 'Start.';
COMMENT ON COLUMN etl.reconciliation_status.ended_at IS 'End.';
COMMENT ON COLUMN etl.reconciliation_status.objects IS 'Objects that it was confined to; NULL for all.';
COMMENT ON COLUMN etl.reconciliation_status.overall_status IS 'equal, different or incomplete.';
COMMENT ON COLUMN etl.reconciliation_status.overall_differences IS 'Number of differing rows of all objects.';
COMMENT ON COLUMN etl.reconciliation_status.repair_requested_at IS 'When the repair was handed to the next run.';
COMMENT ON COLUMN etl.reconciliation_status.object IS 'Source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.reconciliation_status.comparison IS 'Which two layers were compared.';
COMMENT ON COLUMN etl.reconciliation_status.status IS 'equal, different or skipped.';
COMMENT ON COLUMN etl.reconciliation_status.expected_rows IS 'Rows that there should be.';
COMMENT ON COLUMN etl.reconciliation_status.actual_rows IS 'Rows that there are.';
COMMENT ON COLUMN etl.reconciliation_status.ignored_rows IS 'Keys left out on both sides.';
COMMENT ON COLUMN etl.reconciliation_status.expected_sums IS 'Sums of the numeric columns as they should be.';
COMMENT ON COLUMN etl.reconciliation_status.actual_sums IS 'Sums of the numeric columns as they are.';
COMMENT ON COLUMN etl.reconciliation_status.buckets IS 'Buckets of keys whose checksums were compared.';
COMMENT ON COLUMN etl.reconciliation_status.different_buckets IS 'Buckets that differ.';
COMMENT ON COLUMN etl.reconciliation_status.differences IS 'Number of differing rows.';
COMMENT ON COLUMN etl.reconciliation_status.seconds IS 'Duration in seconds.';
COMMENT ON COLUMN etl.reconciliation_status.message IS 'Why it was skipped, or what else is to be known.';
