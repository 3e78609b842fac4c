-- A fact compared with what its load would write, and an aggregate with the sums of its facts.

/*
Takes differences out that an honest entry of the reprocessing queue, or a member that waits for its load, explains: in the key column that the
entry names, and in those that are looked up by way of it. A difference in any other column stays.
Parameters: p_fact, the fact.
Returns:    number of rows taken out.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._remove_waiting(p_fact etl.fact)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_remove_waiting$
DECLARE
    r_role record;
    v_count bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_temp.reconciled_difference AS x WHERE x.kind = 'different') THEN
        RETURN 0;
    END IF;
    CREATE TEMPORARY TABLE reconciled_waiting ON COMMIT DROP AS
    SELECT q.fact_key AS row_key, q.key_column
    FROM etl.reprocessing_queue AS q
    WHERE q.fact = p_fact.fact
        AND q.is_ready
        AND EXISTS (SELECT FROM etl._honest_entries(p_fact.fact) AS h WHERE (h.fact_key, h.key_column) = (q.fact_key, q.key_column));
    FOR r_role IN
        SELECT k.key_column, d.dimension, d.dimension_table, d.surrogate_key, d.business_key
        FROM etl.fact_dimension AS k
        JOIN etl.dimension AS d USING (dimension)
        WHERE k.fact = p_fact.fact
            AND d.transform_view IS NOT NULL
    LOOP
        EXECUTE etl._render(
            $template$INSERT INTO pg_temp.reconciled_waiting (row_key, key_column)
SELECT x.row_key, $1
FROM pg_temp.reconciled_difference AS x
WHERE x.kind = 'different'
    AND (x.expected -> $1::text)::text <> (x.actual -> $1::text)::text
    AND EXISTS (
        SELECT
        FROM {{table}} AS d
        JOIN {{key_table}} AS k ON {{d.key = k.key}}
        WHERE d.{{surrogate_key}} IN ((x.expected ->> $1::text)::bigint, (x.actual ->> $1::text)::bigint)
    )$template$,
            jsonb_build_object(
                'table', r_role.dimension_table::text, 'key_table', format('work.%I', r_role.dimension || '_key'), 'key', to_jsonb(r_role.business_key),
                'surrogate_key', quote_ident(r_role.surrogate_key)
            )
        )
        USING r_role.key_column;
    END LOOP;
    WITH RECURSIVE excused (row_key, key_column) AS (
        SELECT w.row_key, w.key_column
        FROM pg_temp.reconciled_waiting AS w
        UNION
        SELECT e.row_key, k.key_column
        FROM excused AS e
        JOIN etl.fact_dimension AS k ON k.fact = p_fact.fact AND k.lookup_role = e.key_column
    )
    DELETE FROM pg_temp.reconciled_difference AS x
    WHERE x.kind = 'different'
        AND EXISTS (SELECT FROM excused AS e WHERE e.row_key = x.row_key)
        AND NOT EXISTS (
            SELECT
            FROM jsonb_each(x.expected) AS c
            WHERE c.value::text IS DISTINCT FROM (x.actual -> c.key)::text
                AND NOT EXISTS (SELECT FROM excused AS e WHERE e.row_key = x.row_key AND e.key_column = c.key)
        );
    GET DIAGNOSTICS v_count = ROW_COUNT;
    DROP TABLE pg_temp.reconciled_waiting;
    RETURN v_count;
END
$_remove_waiting$;
COMMENT ON FUNCTION etl._remove_waiting(etl.fact) IS 'Takes differences out that an honest entry of the reprocessing queue, or a member that waits for its load, explains.';

/*
Compares a fact with what its load would write.
Parameters: p_fact, the fact; p_slices, p_slice, as of etl._compare.
Returns:    what was found.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_fact(p_fact name, p_slices integer, p_slice integer)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_fact$
DECLARE
    r_fact etl.fact;
    r_object etl.reconciliation_object;
    v_left_out jsonb;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    v_left_out := jsonb_build_object('quarantined', etl._ignore_refused(p_fact, r_fact.business_key, r_fact.fact_table));
    r_object := etl._compare(p_fact, NULL, r_fact.fact_table, etl._summed_columns(r_fact.fact_table, r_fact.measures), p_slices, p_slice);
    r_object.left_out := etl._without_zeros(v_left_out || jsonb_build_object(
        'pending', etl._remove_pending(p_fact, r_fact.business_key, r_fact.fact_table) + etl._remove_waiting(r_fact)
    ));
    RETURN r_object;
END
$_compare_fact$;
COMMENT ON FUNCTION etl._compare_fact(name, integer, integer) IS 'Compares a fact with what its load would write.';

/*
Compares an aggregate with the sums of its facts.
Parameters: p_aggregate, the aggregate.
Returns:    what was found; rows are groups.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_aggregate(p_aggregate name)
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_aggregate$
DECLARE
    r_aggregate etl.aggregate;
    r_object etl.reconciliation_object;
BEGIN
    SELECT *
    INTO STRICT r_aggregate
    FROM etl.aggregate AS a
    WHERE a.aggregate = p_aggregate;
    INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
    SELECT CASE WHEN d.actual IS NULL THEN 'missing' WHEN d.expected IS NULL THEN 'surplus' ELSE 'different' END, d.group_key, d.expected, d.actual
    FROM etl.aggregate_differences(ARRAY[p_aggregate]) AS d;
    PERFORM etl._assert_not_emptied(format('work.%I', p_aggregate || '_difference')::regclass);
    EXECUTE format(
        'SELECT s.row_count, to_jsonb(s.*) - ''row_count'' FROM (SELECT count(*) AS row_count, %2$s FROM %1$s AS a) AS s',
        r_aggregate.aggregate_table, etl._list(r_aggregate.measures, 'coalesce(sum(a.%1$I), 0) AS %1$I')
    )
    INTO r_object.actual_rows, r_object.actual_sums;
    r_object.expected_rows := r_object.actual_rows + (
        SELECT count(*) FILTER (WHERE x.kind = 'missing') - count(*) FILTER (WHERE x.kind = 'surplus') FROM pg_temp.reconciled_difference AS x
    );
    r_object.left_out := '{}';
    RETURN r_object;
END
$_compare_aggregate$;
COMMENT ON FUNCTION etl._compare_aggregate(name) IS 'Compares an aggregate with the sums of its facts.';
