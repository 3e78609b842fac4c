-- Two sets of rows compared: by checksums of buckets first, row by row where these differ.
--
-- One wrong row in ten million is found in one pass: each side is reduced to a checksum per bucket of keys, in a few megabytes of memory.
-- Only the rows of buckets that differ are compared one by one. A bucket holds about a thousand rows. Its checksum is the exclusive or of
-- 64-bit hashes of its rows, so no sort is needed; the number of rows is compared as well, because two equal rows cancel out.
--
-- Values are compared by their image: 1.0 and 1.00, 30 days and 1 month differ, and a type needs no operator. Keys are compared by their own
-- equality, as the load compares them: Smith and smith in citext are one key.

/*
Columns for a SELECT, cast to the types of the table that they are compared with. Types outside pg_catalog stay as they are: the role that
compares may lack USAGE on their schema.
Parameters: p_columns, the columns; p_alias, of the row that has them; p_table, the table.
Returns:    SQL text.
*/
CREATE OR REPLACE FUNCTION etl._typed_list(p_columns name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_typed_list$
    SELECT string_agg(
        format('%s.%I%s AS %I', p_alias, c.name, CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN '::' || etl._held_type(p_table, c.name) END, c.name),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    CROSS JOIN LATERAL etl._base_type(p_table, c.name) AS b
    JOIN pg_type AS t ON t.oid = b.type_oid
$_typed_list$;

-- Columns as expressions that are equal only if the values are identical; text if the type's own equality is wider.
CREATE OR REPLACE FUNCTION etl._compared_list(p_columns name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_compared_list$
    SELECT string_agg(
        format(
            CASE
                WHEN t.typtype = 'e' OR t.oid = ANY (
                    '{boolean,smallint,integer,bigint,oid,date,timestamp,timestamptz,time,uuid,text,varchar,"\"char\"",name,bytea}'::regtype[]
                ) THEN '%s.%I' ELSE '%s.%I::text'
            END,
            p_alias, c.name
        ),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    JOIN pg_attribute AS a ON a.attrelid = p_table AND a.attname = c.name
    JOIN pg_type AS t ON t.oid = a.atttypid
$_compared_list$;

/*
Key columns as expressions whose hashes agree if the keys are equal by their own operator; text for a type that cannot be hashed.
Parameters: p_key, the columns; p_alias, of the row that has them; p_table, the table whose types count.
Returns:    SQL text.
*/
CREATE OR REPLACE FUNCTION etl._hashed_list(p_key name[], p_alias text, p_table regclass)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_hashed_list$
    SELECT string_agg(
        format(
            CASE
                WHEN t.typtype IN ('e', 'r') OR EXISTS (
                    SELECT
                    FROM pg_opclass AS o
                    JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'hash'
                    JOIN pg_amproc AS f ON f.amprocfamily = o.opcfamily AND f.amproclefttype = o.opcintype AND f.amprocnum = 2
                    WHERE o.opcintype = t.oid
                        AND o.opcdefault
                ) THEN '%s.%I' ELSE '%s.%I::text'
            END,
            p_alias, c.name
        ),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_key) WITH ORDINALITY AS c (name, position)
    CROSS JOIN LATERAL etl._base_type(p_table, c.name) AS b
    JOIN pg_type AS t ON t.oid = b.type_oid
$_hashed_list$;

-- Condition that a row, by its key as of etl._hashed_list, belongs to the slice that is compared.
CREATE OR REPLACE FUNCTION etl._in_slice(p_hashed text, p_slices text, p_slice text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_in_slice$
    SELECT format('(%2$s = 1 OR (hash_record_extended(ROW(%1$s), 1) & 65535) %% %2$s = %3$s)', p_hashed, p_slices, p_slice)
$_in_slice$;

-- Those columns of a table that are numbers.
CREATE OR REPLACE FUNCTION etl._summed_columns(p_table regclass, p_columns name[])
RETURNS name[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_summed_columns$
    SELECT coalesce(array_agg(a.attname ORDER BY a.attnum), '{}')
    FROM pg_attribute AS a
    WHERE a.attrelid = p_table
        AND a.attname = ANY (p_columns)
        AND a.atttypid = ANY ('{smallint,integer,bigint,real,float8,numeric,money}'::regtype[])
$_summed_columns$;

/*
What the statements of a comparison are rendered from.
Parameters: p_expected, p_actual, SELECTs of the two sides; p_key, key columns, without NULL; p_columns, the other columns; p_table, the
            table whose types count; p_sums, columns to be summed up.
Returns:    values for etl._render.
*/
CREATE OR REPLACE FUNCTION etl._comparison_values(p_expected text, p_actual text, p_key name[], p_columns name[], p_table regclass, p_sums name[])
RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_comparison_values$
    SELECT jsonb_build_object(
        'expected', p_expected,
        'actual', p_actual,
        'key', to_jsonb(p_key),
        'key_not_null', format('NOT (%s)', etl._no_key_condition(p_key, 'o', p_table)),
        'typed', etl._typed_list(p_key || p_columns, 'o', p_table),
        'hashed', etl._hashed_list(p_key, 'r', p_table),
        'row_image', concat_ws(', ', etl._hashed_list(p_key, 'r', p_table), etl._compared_list(p_columns, 'r', p_table)),
        'expected_image', coalesce(etl._compared_list(p_columns, 'e', p_table), '0'),
        'actual_image', coalesce(etl._compared_list(p_columns, 'a', p_table), '0'),
        'sums', format('ARRAY[%s]::numeric[]', etl._list(p_sums, 'sum(r.%1$I::numeric)')),
        'row_key', format('jsonb_build_object(%s)', etl._list(p_key, '%1$L, coalesce(e.%1$I, a.%1$I)')),
        'first', quote_ident(p_key[1])
    )
$_comparison_values$;

-- The rows r of one side of a comparison (expected or actual) that belong to the slice, as FROM and WHERE.
CREATE OR REPLACE FUNCTION etl._side_sql(p_side text, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_side_sql$
    SELECT etl._render(
        $sql$(
    SELECT {{typed}}
    FROM (
        {{rows}}
    ) AS o
    WHERE {{key_not_null}}
) AS r
WHERE {{in_slice}}$sql$,
        p_values || jsonb_build_object(
            'rows', p_values -> p_side, 'in_slice', etl._in_slice(p_values ->> 'hashed', p_values ->> 'slices', p_values ->> 'slice')
        )
    )
$_side_sql$;

-- Statement that reduces one side of a comparison (expected or actual) to checksums of buckets.
CREATE OR REPLACE FUNCTION etl._bucket_sql(p_side text, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_bucket_sql$
    SELECT etl._render(
        $sql$CREATE TEMPORARY TABLE reconciled_{{side}} ON COMMIT DROP AS
SELECT
    (hash_record_extended(ROW({{hashed}}), 0) & {{mask}})::integer AS bucket,
    count(*) AS row_count,
    bit_xor(hash_record_extended(ROW({{row_image}}), 0)) AS checksum,
    {{sums}} AS sums
FROM {{rows}}
GROUP BY 1;$sql$,
        p_values || jsonb_build_object('side', p_side, 'rows', etl._side_sql(p_side, p_values))
    )
$_bucket_sql$;

/*
Statement that compares the rows of differing buckets one by one. The second row with a key, which only a table without its primary key can hold,
is surplus.
Parameters: p_values, as of etl._comparison_values, with mask, buckets, slices and slice.
Returns:    SQL text.
*/
CREATE OR REPLACE FUNCTION etl._row_sql(p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_row_sql$
    SELECT etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN a.{{first}} IS NULL THEN 'missing' WHEN e.{{first}} IS NULL THEN 'surplus' ELSE 'different' END,
    {{row_key}},
    CASE WHEN NOT e.{{first}} IS NULL THEN to_jsonb(e.*) - '_occurrence' END,
    CASE WHEN NOT a.{{first}} IS NULL THEN to_jsonb(a.*) - '_occurrence' END
FROM (
    SELECT r.*, row_number() OVER (PARTITION BY {{r.key}}) AS _occurrence
    FROM {{expected_rows}}
        AND (hash_record_extended(ROW({{hashed}}), 0) & {{mask}})::integer = ANY ({{buckets}})
) AS e
FULL JOIN (
    SELECT r.*, row_number() OVER (PARTITION BY {{r.key}}) AS _occurrence
    FROM {{actual_rows}}
        AND (hash_record_extended(ROW({{hashed}}), 0) & {{mask}})::integer = ANY ({{buckets}})
) AS a ON {{e.key = a.key}} AND e._occurrence = a._occurrence
WHERE e.{{first}} IS NULL
    OR a.{{first}} IS NULL
    OR record_image_ne(ROW({{expected_image}}), ROW({{actual_image}}));$sql$,
        p_values || jsonb_build_object('expected_rows', etl._side_sql('expected', p_values), 'actual_rows', etl._side_sql('actual', p_values))
    )
$_row_sql$;

/*
Prepares the session for the comparison of one object: makes the tables of its differences and of the keys that it leaves out.
Parameters: p_key, key columns of the object; p_table, the table that has them; none for an object that is not compared by key.
Writes:     pg_temp.reconciled_*.
*/
CREATE OR REPLACE FUNCTION etl._begin_comparison(p_key name[] DEFAULT NULL, p_table regclass DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_begin_comparison$
BEGIN
    DROP TABLE IF EXISTS
        pg_temp.reconciled_expected, pg_temp.reconciled_actual, pg_temp.reconciled_difference, pg_temp.reconciled_ignored, pg_temp.reconciled_member,
        pg_temp.reconciled_key, pg_temp.reconciled_plan, pg_temp.reconciled_deletion, pg_temp.reconciled_correction;
    CREATE TEMPORARY TABLE reconciled_difference (kind text, row_key jsonb, expected jsonb, actual jsonb) ON COMMIT DROP;
    IF p_key IS NOT NULL THEN
        EXECUTE format('CREATE TEMPORARY TABLE reconciled_ignored ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA', etl._list(p_key), p_table);
    END IF;
END
$_begin_comparison$;

/*
Adds keys to those that a comparison leaves out on both sides.
Parameters: p_key, key columns; p_table, the table that has them; p_keys, SELECT of a column row_key (jsonb); $1 is p_object.
Returns:    number of keys that were not left out already.
Writes:     pg_temp.reconciled_ignored.
*/
CREATE OR REPLACE FUNCTION etl._ignore(p_key name[], p_table regclass, p_keys text, p_object name)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_ignore$
DECLARE
    v_count bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO pg_temp.reconciled_ignored (%1$s) SELECT %2$s FROM (%3$s) AS q WHERE %4$s EXCEPT SELECT %1$s FROM pg_temp.reconciled_ignored',
        etl._list(p_key), etl._from_json(p_key, 'q.row_key', p_table), p_keys, etl._list(p_key, '(q.row_key ->> %1$L) IS NOT NULL', ' AND ')
    )
    USING p_object;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$_ignore$;

-- Condition that a row (its alias) is not left out of the comparison.
CREATE OR REPLACE FUNCTION etl._not_ignored(p_key name[], p_alias text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_not_ignored$
    SELECT format('NOT EXISTS (SELECT FROM (SELECT * FROM pg_temp.reconciled_ignored) AS i WHERE %s)', etl._match(p_key, 'i', p_alias))
$_not_ignored$;

/*
Compares two sets of rows, by bucketed checksums first, then by row where buckets differ.
Parameters: p_object, to whom the table belongs; p_values, as of etl._comparison_values, NULL where routines were compiled from the statements;
            p_table, the table; p_sums, the columns that are summed up; p_slices, p_slice, how many slices there are, and which is compared
            (from 0).
Returns:    row counts, sums, buckets and number of differences.
Writes:     pg_temp.reconciled_difference: every differing row, both sides in full.
*/
CREATE OR REPLACE FUNCTION etl._compare(p_object name, p_values jsonb, p_table regclass, p_sums name[], p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET timezone = 'UTC'
SET datestyle = 'ISO, MDY'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
AS $_compare$
DECLARE
    r_object etl.reconciliation_object;
    v_parameters jsonb;
    v_mask bigint;
    v_different integer[];
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    -- About a thousand rows in a bucket, and a power of two of buckets.
    SELECT power(2, greatest(6, least(16, ceil(log(2, greatest(c.reltuples::numeric, 1) / 1000)))))::bigint - 1
    INTO v_mask
    FROM pg_class AS c
    WHERE c.oid = p_table;
    v_parameters := jsonb_build_object('mask', v_mask::text, 'slices', p_slices::text, 'slice', p_slice::text, 'buckets', '$1');
    IF p_values IS NULL THEN
        EXECUTE format('SELECT compiled.%I($1, $2, $3)', 'verify_' || p_object) USING v_mask, p_slices, p_slice;
    ELSE
        EXECUTE etl._bucket_sql('expected', p_values || v_parameters);
        EXECUTE etl._bucket_sql('actual', p_values || v_parameters);
    END IF;
    r_object.expected_rows := (SELECT coalesce(sum(e.row_count), 0) FROM pg_temp.reconciled_expected AS e);
    r_object.actual_rows := (SELECT coalesce(sum(a.row_count), 0) FROM pg_temp.reconciled_actual AS a);
    SELECT
        coalesce(jsonb_object_agg(n.name, coalesce((SELECT sum(e.sums[n.position]) FROM pg_temp.reconciled_expected AS e), 0)), '{}'),
        coalesce(jsonb_object_agg(n.name, coalesce((SELECT sum(a.sums[n.position]) FROM pg_temp.reconciled_actual AS a), 0)), '{}')
    INTO r_object.expected_sums, r_object.actual_sums
    FROM unnest(p_sums) WITH ORDINALITY AS n (name, position);

    SELECT coalesce(array_agg(bucket), '{}')
    INTO v_different
    FROM pg_temp.reconciled_expected AS e
    FULL JOIN pg_temp.reconciled_actual AS a USING (bucket)
    WHERE (e.row_count, e.checksum) IS DISTINCT FROM (a.row_count, a.checksum);
    IF cardinality(v_different) > 0 THEN
        IF p_values IS NULL THEN
            EXECUTE format('SELECT compiled.%I($1, $2, $3, $4)', 'verify_rows_' || p_object) USING v_mask, p_slices, p_slice, v_different;
        ELSE
            EXECUTE etl._row_sql(p_values || v_parameters) USING v_different;
        END IF;
    END IF;
    r_object.buckets := v_mask + 1;
    r_object.different_buckets := cardinality(v_different);
    RETURN r_object;
END
$_compare$;
