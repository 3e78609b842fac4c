-- A fact compared with the rows that its load would write, an aggregate with the sums of its facts.

-- Compiles verify_<fact>, which compares a fact with the rows that it should hold. Of a deleted row only the measures count, which must be gone: the
-- rest stays as it was when the row was deleted.
-- Parameters: p_fact, the fact.
-- Returns:    the routine's name.
-- Writes:     schema compiled.
CREATE OR REPLACE FUNCTION etl._compile_fact_reconciliation(p_fact etl.fact)
RETURNS name
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_fact_reconciliation$
DECLARE
    v_verify name := 'verify_' || p_fact.fact;
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
    RETURN etl._create_compiled(
        v_verify, 'p_mask bigint, p_slices integer, p_slice integer', 'void',
        format('Compares %s with the rows that it should hold.', p_fact.fact),
        etl._comparison_sql(
            format(
                E'SELECT *\nFROM (\n%s\nOFFSET 0\n) AS e\nWHERE NOT e.is_deleted',
                -- The view may fail on a row in quarantine.
                etl._expected_fact_sql(p_fact.fact, etl._not_ignored(p_fact.business_key, 'r'))
            ),
            p_fact.transform_view,
            format(
                E'SELECT *\nFROM %s AS f\nWHERE (NOT f.is_deleted OR NOT (%s))\n    AND %s',
                p_fact.fact_table, coalesce(v_no_measures, 'true'), etl._not_ignored(p_fact.business_key, 'f')
            ),
            p_fact.fact_table,
            p_fact.business_key,
            etl._without(etl._writable_columns(p_fact.fact_table), p_fact.business_key || 'run_id'::name),
            etl._summed_columns(p_fact.fact_table, p_fact.measures),
            jsonb_build_object('slices', format('%I.p_slices', v_verify), 'slice', format('%I.p_slice', v_verify), 'mask', format('%I.p_mask', v_verify))
        ),
        '{timezone = UTC,"datestyle = ISO, MDY",intervalstyle = postgres,extra_float_digits = 1,bytea_output = hex,client_min_messages = warning,enable_nestloop = off}'
    );
END
$_compile_fact_reconciliation$;

-- Compiles the routines of an object that a reconciliation calls, and notes default members of a dimension that are not noted yet.
-- Parameters: p_object, dimension or fact.
-- Returns:    names of the routines; none for any other object.
-- Writes:     schema compiled, etl.default_member.
CREATE OR REPLACE FUNCTION etl._compile_reconciliation(p_object name)
RETURNS name[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compile_reconciliation$
DECLARE
    r_dimension etl.dimension := (SELECT d FROM etl.dimension AS d WHERE d.dimension = p_object);
BEGIN
    IF r_dimension.dimension IS NULL THEN
        RETURN ARRAY(SELECT etl._compile_fact_reconciliation(f) FROM etl.fact AS f WHERE f.fact = p_object);
    END IF;
    -- What is noted stays; a new column is added.
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
END
$_compile_reconciliation$;

-- Removes differences of a fact that unsettled members explain: those in key columns of such members alone, and in keys that are looked up by way of
-- them. A difference in any other column stays.
-- Parameters: p_fact, the fact; p_differences, the table of differences, alias x; p_scope, condition on x that it belongs to the fact;
--             p_is_unsettled, template of a condition on a member d of a dimension, or on x, rendered with dimension, key_table, key, key_as_json,
--             key_column.
-- Returns:    number of differences removed.
-- Writes:     p_differences. pg_temp.reconciled_excused (row_key, key_column) may hold keys that are excused in advance.
CREATE OR REPLACE FUNCTION etl._remove_excused(p_fact name, p_differences regclass, p_scope text, p_is_unsettled text)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_remove_excused$
DECLARE
    r_role record;
    v_count bigint;
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS reconciled_excused (row_key jsonb, key_column name) ON COMMIT DROP;
    FOR r_role IN
        SELECT k.key_column, d.*
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact
            AND d.transform_view IS NOT NULL
    LOOP
        PERFORM set_config('search_path', etl._operator_path(), true);
        EXECUTE etl._render(
            format(
                $template$INSERT INTO pg_temp.reconciled_excused (row_key, key_column)
SELECT x.row_key, {{key_column}}
FROM %s AS x
LEFT JOIN {{table}} AS d ON d.{{surrogate_key}} IN ((x.expected ->> {{key_column}})::bigint, (x.actual ->> {{key_column}})::bigint)
WHERE %s
    AND x.kind = 'different'
    AND (x.expected -> {{key_column}})::text <> (x.actual -> {{key_column}})::text
    AND %s$template$,
                p_differences, p_scope, p_is_unsettled
            ),
            jsonb_build_object(
                'dimension', quote_literal(r_role.dimension), 'table', r_role.dimension_table::text, 'key_table', format('work.%I', r_role.dimension || '_key'),
                'key', to_jsonb(r_role.business_key), 'key_as_json', etl._json_key(r_role.business_key, 'd'), 'surrogate_key', quote_ident(r_role.surrogate_key),
                'key_column', quote_literal(r_role.key_column) || '::text'
            )
        );
    END LOOP;
    EXECUTE format(
        $sql$WITH RECURSIVE excused (row_key, key_column) AS (
    SELECT w.row_key, w.key_column
    FROM pg_temp.reconciled_excused AS w
    UNION
    SELECT e.row_key, k.key_column
    FROM excused AS e
    JOIN etl.fact_dimension AS k ON k.fact = $1 AND k.lookup_role = e.key_column
)
DELETE FROM %s AS x
WHERE %s
    AND x.kind = 'different'
    AND EXISTS (SELECT FROM excused AS e WHERE e.row_key = x.row_key)
    AND NOT EXISTS (
        SELECT
        FROM jsonb_each(x.expected) AS c
        WHERE c.value::text IS DISTINCT FROM (x.actual -> c.key)::text
            AND NOT EXISTS (SELECT FROM excused AS e WHERE e.row_key = x.row_key AND e.key_column = c.key)
    )$sql$,
        p_differences, p_scope
    )
    USING p_fact;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    DROP TABLE pg_temp.reconciled_excused;
    RETURN v_count;
END
$_remove_excused$;

-- Compares a fact with the rows that its load would write. Differences that an entry of the queue, or a pending member, explains are left out.
-- Parameters: p_fact, the fact; p_slices, p_slice, how many slices there are, and which is compared (from 0).
-- Returns:    counts.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_fact(p_fact etl.fact, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_compare_fact$
DECLARE
    r_object etl.reconciliation_object;
    v_refused bigint;
    v_pending bigint;
BEGIN
    v_refused := etl._ignore_refused(p_fact.fact, p_fact.business_key, p_fact.fact_table);
    r_object := etl._compare_rows(
        format('SELECT compiled.%I(%s, %s, %s)', 'verify_' || p_fact.fact, etl._bucket_mask(p_fact.fact_table), p_slices, p_slice),
        etl._summed_columns(p_fact.fact_table, p_fact.measures)
    );
    v_pending := etl._remove_pending(p_fact.fact, p_fact.business_key, p_fact.fact_table);
    IF EXISTS (SELECT FROM pg_temp.reconciled_difference AS x WHERE x.kind = 'different') THEN
        CREATE TEMPORARY TABLE reconciled_excused ON COMMIT DROP AS
        SELECT q.fact_key AS row_key, q.key_column
        FROM etl.reprocessing_queue AS q
        WHERE q.fact = p_fact.fact
            AND q.is_ready;
        v_pending := v_pending + etl._remove_excused(
            p_fact.fact, 'pg_temp.reconciled_difference', 'true', 'EXISTS (SELECT FROM {{key_table}} AS k WHERE {{d.key = k.key}})'
        );
    END IF;
    r_object.left_out := jsonb_build_object('quarantined', v_refused, 'pending', v_pending);
    RETURN r_object;
END
$_compare_fact$;

-- Compares an aggregate with the sums of its facts.
-- Parameters: p_aggregate, the aggregate.
-- Returns:    counts; rows are groups.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_aggregate(p_aggregate etl.aggregate)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_aggregate$
DECLARE
    r_object etl.reconciliation_object;
BEGIN
    INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
    SELECT CASE WHEN d.actual IS NULL THEN 'missing' WHEN d.expected IS NULL THEN 'surplus' ELSE 'different' END, d.group_key, d.expected, d.actual
    FROM etl.aggregate_differences(ARRAY[p_aggregate.aggregate]) AS d;
    PERFORM etl._assert_not_emptied(format('work.%I', p_aggregate.aggregate || '_difference')::regclass);
    -- Only a table without its primary key can hold a group twice; its halves may add up.
    EXECUTE etl._render(
        $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, actual)
SELECT 'surplus', {{group_as_json}}, jsonb_build_object('rows', count(*))
FROM {{table}} AS a
GROUP BY {{a.group}}
HAVING count(*) > 1$sql$,
        jsonb_build_object(
            'group', to_jsonb(p_aggregate.group_key), 'group_as_json', etl._json_key(p_aggregate.group_key, 'a'), 'table', p_aggregate.aggregate_table::text
        )
    );
    EXECUTE format(
        'SELECT s.row_count, to_jsonb(s.*) - ''row_count'' FROM (SELECT count(*) AS row_count, %2$s FROM %1$s AS a) AS s',
        p_aggregate.aggregate_table, etl._list(p_aggregate.measures, 'coalesce(sum(a.%1$I), 0) AS %1$I')
    )
    INTO r_object.actual_rows, r_object.actual_sums;
    RETURN r_object;
END
$_compare_aggregate$;
