-- Two sets of rows compared: by checksums of buckets first, row by row where these differ.
--
-- Finding one wrong row in ten million: each side is reduced to a checksum per bucket of keys, which takes one pass and a few megabytes,
-- however large the table. Only the rows of buckets that differ are then compared one by one. A bucket holds about a thousand rows. Its
-- checksum is the exclusive or of 64-bit hashes of its rows, so neither order nor a sort matters; the number of rows is compared as well.
--
-- Values are compared by their image, not by equality: 1.0 and 1.00, 30 days and 1 month, Smith and smith in citext differ, and no type
-- needs an operator. Types whose equality is identity are hashed as they are, all others as text under pinned settings.

/*
Columns for a SELECT, cast to the types of the table that they are compared with. Types outside pg_catalog stay as they are: they are compared as
text, and the role that runs the comparison may have no business in their schema.
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
COMMENT ON FUNCTION etl._typed_list(name[], text, regclass) IS 'Columns for a SELECT, cast to the types of the table that they are compared with.';

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
COMMENT ON FUNCTION etl._compared_list(name[], text, regclass) IS 'Columns as expressions that are equal only where the values are identical; text where the type''s own equality is wider.';

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
COMMENT ON FUNCTION etl._summed_columns(regclass, name[]) IS 'Those columns of a table that are numbers.';

/*
What the statements of a comparison are rendered from.
Parameters: p_expected, p_actual, SELECTs of the two sides; p_key, key columns, without NULL; p_columns, the other columns; p_table, the
            table whose types count; p_sums, columns to be summed up.
Returns:    values for etl._render.
*/
CREATE OR REPLACE FUNCTION etl._comparison_values(
    p_expected text,
    p_actual text,
    p_key name[],
    p_columns name[],
    p_table regclass,
    p_sums name[]
) RETURNS jsonb
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_comparison_values$
    SELECT jsonb_build_object(
        'expected', p_expected,
        'actual', p_actual,
        'key', to_jsonb(p_key),
        -- A composite key IS NOT NULL only when none of its fields is NULL.
        'key_not_null', format('num_nulls(%s) = 0', etl._list(p_key, 'o.%1$I')),
        'typed', etl._typed_list(p_key || p_columns, 'o', p_table),
        'key_image', etl._compared_list(p_key, 'r', p_table),
        'row_image', etl._compared_list(p_key || p_columns, 'r', p_table),
        'expected_image', coalesce(etl._compared_list(p_columns, 'e', p_table), '0'),
        'actual_image', coalesce(etl._compared_list(p_columns, 'a', p_table), '0'),
        'sums', format('ARRAY[%s]::numeric[]', etl._list(p_sums, 'sum(r.%1$I::numeric)')),
        'row_key', format('jsonb_build_object(%s)', etl._list(p_key, '%1$L, coalesce(e.%1$I, a.%1$I)')),
        'first', quote_ident(p_key[1])
    )
$_comparison_values$;
COMMENT ON FUNCTION etl._comparison_values(text, text, name[], name[], regclass, name[]) IS 'What the statements of a comparison are rendered from.';

CREATE OR REPLACE FUNCTION etl._bucket_sql(p_side text, p_values jsonb)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_bucket_sql$
    SELECT etl._render(
        $sql$CREATE TEMPORARY TABLE reconciled_{{side}} ON COMMIT DROP AS
SELECT
    (hash_record_extended(ROW({{key_image}}), 0) & {{mask}})::integer AS bucket,
    count(*) AS row_count,
    bit_xor(hash_record_extended(ROW({{row_image}}), 0)) AS checksum,
    {{sums}} AS sums
FROM (
    SELECT {{typed}}
    FROM (
        {{rows}}
    ) AS o
    WHERE {{key_not_null}}
) AS r
WHERE {{slices}} = 1
    OR (hash_record_extended(ROW({{key_image}}), 1) & 65535) % {{slices}} = {{slice}}
GROUP BY 1;$sql$,
        p_values || jsonb_build_object('side', p_side, 'rows', p_values -> p_side)
    )
$_bucket_sql$;
COMMENT ON FUNCTION etl._bucket_sql(text, jsonb) IS 'Statement that reduces one side of a comparison (expected or actual) to checksums of buckets.';

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
    CASE WHEN NOT e.{{first}} IS NULL THEN to_jsonb(e.*) END,
    CASE WHEN NOT a.{{first}} IS NULL THEN to_jsonb(a.*) END
FROM (
    SELECT r.*
    FROM (
        SELECT {{typed}}
        FROM (
            {{expected}}
        ) AS o
        WHERE {{key_not_null}}
    ) AS r
    WHERE (hash_record_extended(ROW({{key_image}}), 0) & {{mask}})::integer = ANY ({{buckets}})
        AND ({{slices}} = 1 OR (hash_record_extended(ROW({{key_image}}), 1) & 65535) % {{slices}} = {{slice}})
) AS e
FULL JOIN (
    SELECT r.*
    FROM (
        SELECT {{typed}}
        FROM (
            {{actual}}
        ) AS o
        WHERE {{key_not_null}}
    ) AS r
    WHERE (hash_record_extended(ROW({{key_image}}), 0) & {{mask}})::integer = ANY ({{buckets}})
        AND ({{slices}} = 1 OR (hash_record_extended(ROW({{key_image}}), 1) & 65535) % {{slices}} = {{slice}})
) AS a ON {{e.key = a.key}}
WHERE e.{{first}} IS NULL
    OR a.{{first}} IS NULL
    OR ROW({{expected_image}})::record *<> ROW({{actual_image}})::record;$sql$,
        p_values
    )
$_row_sql$;
COMMENT ON FUNCTION etl._row_sql(jsonb) IS 'Statement that compares the rows of differing buckets one by one.';

/*
Drops what a comparison left in this session, and makes the table that takes the differing rows.
Writes:     pg_temp.reconciled_*.
*/
CREATE OR REPLACE FUNCTION etl._begin_comparison()
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
END
$_begin_comparison$;
COMMENT ON FUNCTION etl._begin_comparison() IS 'Readies the session for the comparison of one object.';

/*
Compares two sets of rows, by bucketed checksums first, then by row where buckets differ.
Parameters: p_object, to whom the table belongs; p_values, as of etl._comparison_values, NULL where etl._compile_reconciliation has made
            routines of the statements; p_table, the table; p_sums, the columns that are summed up; p_slices, p_slice, how many slices
            there are, and which is compared (from 0).
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
    v_side text;
    v_count bigint;
    v_sums jsonb;
    v_different integer[];
BEGIN
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
    FOREACH v_side IN ARRAY '{expected,actual}'::text[]
    LOOP
        EXECUTE format(
            $sql$SELECT
    (SELECT coalesce(sum(b.row_count), 0) FROM pg_temp.%1$I AS b),
    (SELECT coalesce(jsonb_object_agg(n.name, coalesce((SELECT sum(b.sums[n.position]) FROM pg_temp.%1$I AS b), 0)), '{}') FROM unnest($1) WITH ORDINALITY AS n (name, position))$sql$,
            'reconciled_' || v_side
        )
        INTO v_count, v_sums
        USING p_sums;
        IF v_side = 'expected' THEN
            r_object.expected_rows := v_count;
            r_object.expected_sums := v_sums;
        ELSE
            r_object.actual_rows := v_count;
            r_object.actual_sums := v_sums;
        END IF;
    END LOOP;

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
COMMENT ON FUNCTION etl._compare(name, jsonb, regclass, name[], integer, integer) IS 'Compares two sets of rows by bucketed checksums, then by row where buckets differ.';
