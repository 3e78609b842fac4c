-- Two sets of rows compared: by checksums of buckets first, row by row where these differ.
--
-- One wrong row in ten million is found in one pass: each side is reduced to a checksum per bucket of keys, in a few megabytes of memory.
-- Only the rows of buckets that differ are compared one by one. A bucket holds about a thousand rows. Its checksum is the exclusive or of
-- 64-bit hashes of its rows, so no sort is needed; the number of rows is compared as well, because two equal rows cancel out.
--
-- Values are compared by their image: 1.0 and 1.00, 30 days and 1 month differ, and a type needs no operator. Keys are compared by their own
-- equality, as the load compares them: Smith and smith in citext are one key.

-- Columns as expressions to be hashed. A key's hash agrees if the keys are equal by their own operator, that of another column only if the values are
-- identical: it is hashed as text if the type has no hash, or if its own equality is wider.
-- Parameters: p_columns, the columns; p_alias, of the row that has them; p_table, the table whose types count; p_is_key, whether they are a key.
-- Returns:    SQL text; NULL if there are no columns.
CREATE OR REPLACE FUNCTION etl._hashed_list(p_columns name[], p_alias text, p_table regclass, p_is_key boolean)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_hashed_list$
    SELECT string_agg(
        format(
            CASE
                WHEN t.typtype = 'e' OR t.oid = ANY (
                    '{boolean,smallint,integer,bigint,oid,date,timestamp,timestamptz,time,uuid,text,varchar,"\"char\"",name,bytea}'::regtype[]
                ) THEN '%s.%I'
                WHEN p_is_key AND (t.typtype = 'r' OR EXISTS (
                    SELECT
                    FROM pg_opclass AS o
                    JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'hash'
                    JOIN pg_amproc AS f ON f.amprocfamily = o.opcfamily AND f.amproclefttype = o.opcintype AND f.amprocnum = 2
                    WHERE o.opcintype = t.oid
                        AND o.opcdefault
                )) THEN '%s.%I'
                ELSE '%s.%I::text'
            END,
            p_alias, c.name
        ),
        ', ' ORDER BY c.position
    )
    FROM unnest(p_columns) WITH ORDINALITY AS c (name, position)
    CROSS JOIN LATERAL etl._base_type(p_table, c.name) AS b
    JOIN pg_type AS t ON t.oid = b.type_oid
$_hashed_list$;

-- Condition that a row, by its key as of etl._hashed_list, belongs to the slice that is compared. All three are expressions.
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

-- Body that compares expected with actual rows.
-- Parameters: p_expected, p_actual, SELECTs of the two sides; p_source, the relation whose types the expected rows have; p_table, that of the
--             actual ones, whose types count; p_key, key columns, without NULL; p_columns, the other columns; p_sums, columns to be summed up;
--             p_part, expressions: slices, slice (how many there are, and which is compared, from 0) and mask (of the hash, for the bucket).
-- Returns:    a PL/pgSQL block. It writes pg_temp.reconciled_expected and reconciled_actual, a checksum per bucket, and
--             pg_temp.reconciled_difference, every differing row, both sides in full. The second row with a key, which only a table without its
--             primary key can hold, is surplus.
CREATE OR REPLACE FUNCTION etl._comparison_sql(
    p_expected text,
    p_source regclass,
    p_actual text,
    p_table regclass,
    p_key name[],
    p_columns name[],
    p_sums name[],
    p_part jsonb
) RETURNS text
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_comparison_sql$
DECLARE
    v_hashed text := etl._hashed_list(p_key, 'r', p_table, true);
    v_values jsonb := jsonb_build_object(
        'key', to_jsonb(p_key),
        'bucket', format('(hash_record_extended(ROW(%s), 0) & %s)::integer', v_hashed, p_part ->> 'mask'),
        'row_image', concat_ws(', ', v_hashed, etl._hashed_list(p_columns, 'r', p_table, false)),
        'expected_image', coalesce(etl._hashed_list(p_columns, 'e', p_table, false), '0'),
        'actual_image', coalesce(etl._hashed_list(p_columns, 'a', p_table, false), '0'),
        'sums', format('ARRAY[%s]::numeric[]', etl._list(p_sums, 'sum(r.%1$I::numeric)')),
        'row_key', format('jsonb_build_object(%s)', etl._list(p_key, '%1$L, coalesce(e.%1$I, a.%1$I)')),
        'first', quote_ident(p_key[1])
    );
    r_side record;
BEGIN
    FOR r_side IN
        SELECT * FROM (VALUES ('expected', p_expected, p_source), ('actual', p_actual, p_table)) AS s (name, rows, relation)
    LOOP
        v_values := v_values || jsonb_build_object(r_side.name || '_rows', etl._render(
            $sql$(
    SELECT {{typed}}
    FROM (
        {{rows}}
    ) AS o
    WHERE NOT ({{no_key}})
) AS r
WHERE {{in_slice}}$sql$,
            jsonb_build_object(
                'typed', substr(etl._cast_list(p_key || p_columns, 'o', r_side.relation, p_table), 3), 'rows', r_side.rows,
                'no_key', etl._no_key_condition(p_key, 'o', p_table), 'in_slice', etl._in_slice(v_hashed, p_part ->> 'slices', p_part ->> 'slice')
            )
        ));
        v_values := v_values || jsonb_build_object(r_side.name || '_buckets', etl._render(
            format(
                $sql$CREATE TEMPORARY TABLE reconciled_%1$s ON COMMIT DROP AS
SELECT
    {{bucket}} AS bucket,
    count(*) AS row_count,
    bit_xor(hash_record_extended(ROW({{row_image}}), 0)) AS checksum,
    {{sums}} AS sums
FROM {{%1$s_rows}}
GROUP BY 1$sql$,
                r_side.name
            ),
            v_values
        ));
    END LOOP;
    RETURN etl._render(
        $sql$DECLARE
    v_buckets integer[];  -- those that differ
BEGIN
    {{expected_buckets}};
    {{actual_buckets}};
    SELECT coalesce(array_agg(bucket), '{}')
    INTO v_buckets
    FROM pg_temp.reconciled_expected AS e
    FULL JOIN pg_temp.reconciled_actual AS a USING (bucket)
    WHERE (e.row_count, e.checksum) IS DISTINCT FROM (a.row_count, a.checksum);
    IF v_buckets = '{}' THEN
        RETURN;
    END IF;
    INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
    SELECT
        CASE WHEN a.{{first}} IS NULL THEN 'missing' WHEN e.{{first}} IS NULL THEN 'surplus' ELSE 'different' END,
        {{row_key}},
        CASE WHEN NOT e.{{first}} IS NULL THEN to_jsonb(e.*) - '_occurrence' END,
        CASE WHEN NOT a.{{first}} IS NULL THEN to_jsonb(a.*) - '_occurrence' END
    FROM (
        SELECT r.*, row_number() OVER (PARTITION BY {{r.key}}) AS _occurrence
        FROM {{expected_rows}}
            AND {{bucket}} = ANY (v_buckets)
    ) AS e
    FULL JOIN (
        SELECT r.*, row_number() OVER (PARTITION BY {{r.key}}) AS _occurrence
        FROM {{actual_rows}}
            AND {{bucket}} = ANY (v_buckets)
    ) AS a ON {{e.key = a.key}} AND e._occurrence = a._occurrence
    WHERE e.{{first}} IS NULL
        OR a.{{first}} IS NULL
        OR record_image_ne(ROW({{expected_image}}), ROW({{actual_image}}));
END$sql$,
        v_values
    );
END
$_comparison_sql$;

-- Mask of a hash for the bucket of a row: a power of two of buckets, each of about a thousand rows.
CREATE OR REPLACE FUNCTION etl._bucket_mask(p_table regclass)
RETURNS bigint
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_bucket_mask$
    SELECT power(2, greatest(6, least(16, ceil(log(2, greatest(c.reltuples::numeric, 1) / 1000)))))::bigint - 1
    FROM pg_class AS c
    WHERE c.oid = p_table
$_bucket_mask$;

-- Prepares the session for the comparison of one object: makes the tables of its differences and of the keys that it leaves out.
-- Parameters: p_key, key columns of the object; p_table, the table that has them; none for an object that is not compared by key.
-- Writes:     pg_temp.reconciled_*.
CREATE OR REPLACE FUNCTION etl._begin_comparison(p_key name[] DEFAULT NULL, p_table regclass DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_begin_comparison$
BEGIN
    DROP TABLE IF EXISTS
        pg_temp.reconciled_expected, pg_temp.reconciled_actual, pg_temp.reconciled_difference, pg_temp.reconciled_ignored,
        pg_temp.reconciled_key, pg_temp.reconciled_version, pg_temp.reconciled_deletion;
    CREATE TEMPORARY TABLE reconciled_difference (kind text, row_key jsonb, expected jsonb, actual jsonb) ON COMMIT DROP;
    IF p_key IS NOT NULL THEN
        EXECUTE format('CREATE TEMPORARY TABLE reconciled_ignored ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA', etl._list(p_key), p_table);
    END IF;
END
$_begin_comparison$;

-- Adds keys to those that a comparison leaves out on both sides.
-- Parameters: p_key, key columns; p_table, the table that has them; p_keys, SELECT of a column row_key (jsonb); $1 is p_object.
-- Returns:    number of keys that were not left out already.
-- Writes:     pg_temp.reconciled_ignored.
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

-- Compares two sets of rows, by bucketed checksums first, then by row where buckets differ.
-- Parameters: p_statement, a DO statement with a body as of etl._comparison_sql, or the call of a routine compiled from one; p_sums, the columns
--             that are summed up.
-- Returns:    row counts, sums, and buckets.
-- Writes:     pg_temp.reconciled_difference: every differing row, both sides in full.
CREATE OR REPLACE FUNCTION etl._compare_rows(p_statement text, p_sums name[])
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
SET timezone = 'UTC'
SET datestyle = 'ISO, MDY'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
SET bytea_output = 'hex'
AS $_compare_rows$
DECLARE
    r_object etl.reconciliation_object;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    EXECUTE p_statement;
    SELECT count(*), count(*) FILTER (WHERE (e.row_count, e.checksum) IS DISTINCT FROM (a.row_count, a.checksum)),
        coalesce(sum(e.row_count), 0), coalesce(sum(a.row_count), 0)
    INTO r_object.buckets, r_object.different_buckets, r_object.expected_rows, r_object.actual_rows
    FROM pg_temp.reconciled_expected AS e
    FULL JOIN pg_temp.reconciled_actual AS a USING (bucket);
    SELECT
        coalesce(jsonb_object_agg(n.name, coalesce((SELECT sum(e.sums[n.position]) FROM pg_temp.reconciled_expected AS e), 0)), '{}'),
        coalesce(jsonb_object_agg(n.name, coalesce((SELECT sum(a.sums[n.position]) FROM pg_temp.reconciled_actual AS a), 0)), '{}')
    INTO r_object.expected_sums, r_object.actual_sums
    FROM unnest(p_sums) WITH ORDINALITY AS n (name, position);
    RETURN r_object;
END
$_compare_rows$;
