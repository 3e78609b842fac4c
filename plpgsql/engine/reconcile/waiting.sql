-- The reprocessing queue and quarantine compared with what their entries claim. An entry whose claim does not hold is surplus. An unresolved key
-- of a fact without an entry is missing in the queue: no load would retry it.

-- Compares the queue with the keys that a load of the facts could not resolve. Rows that are pending or in quarantine are left out, and entries that are
-- ready: a load will decide on them.
-- Parameters: p_facts, the facts.
-- Returns:    counts; rows are entries.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_queue(p_facts name[])
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $_compare_queue$
DECLARE
    r_object etl.reconciliation_object;
    r_fact etl.fact;
    v_values jsonb;
BEGIN
    PERFORM set_config('search_path', etl._operator_path(), true);
    FOR r_fact IN
        SELECT *
        FROM etl.fact AS f
        WHERE f.fact = ANY (p_facts)
        ORDER BY f.fact
    LOOP
        v_values := etl._fact_values(r_fact.fact);
        CONTINUE WHEN v_values -> 'keys' = '[]';
        DROP TABLE IF EXISTS pg_temp.reconciled_expected;
        EXECUTE etl._render(
            $sql$CREATE TEMPORARY TABLE reconciled_expected ON COMMIT DROP AS
WITH named AS MATERIALIZED (
    SELECT {{f.key}}
    FROM {{table}} AS f
    WHERE NOT f.is_deleted
        AND (-1 IN ({{f.keys}}) OR ({{f.key}}) IN (SELECT {{queued_key}} FROM etl.reprocessing_queue AS q WHERE q.fact = {{name}}))
)
SELECT {{key_as_json}} AS fact_key, u.key::name AS key_column, u.value AS dimension_key
FROM (
    {{resolved}}
) AS e
JOIN {{table}} AS f ON {{f.key = e.key}}
CROSS JOIN LATERAL jsonb_each({{unresolved}}) AS u
WHERE to_jsonb(f.*) -> u.key = '-1'$sql$,
            v_values || jsonb_build_object(
                'queued_key', etl._from_json(r_fact.business_key, 'q.fact_key', r_fact.fact_table),
                'key_as_json', etl._json_key(r_fact.business_key, 'f'),
                'unresolved', etl._unresolved_sql(r_fact.fact),
                'resolved', etl._resolved_fact_sql(
                    r_fact.fact, v_values,
                    -- ANY: only the rows of these keys are computed.
                    format(
                        '(SELECT s.*, true AS _is_given FROM %s AS s WHERE %s) AS v', r_fact.transform_view,
                        etl._among_sql(r_fact.fact_table, r_fact.business_key, 'named AS k')
                    ),
                    p_is_load => true
                )
            )
        );
        EXECUTE format(
            $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN q.fact IS NULL THEN 'missing' ELSE 'surplus' END,
    jsonb_build_object('fact', $1, 'fact_key', fact_key, 'key_column', key_column),
    CASE WHEN q.fact IS NULL THEN jsonb_build_object('dimension', u.dimension, 'dimension_key', u.dimension_key) END,
    CASE WHEN q.fact IS NOT NULL THEN jsonb_build_object('dimension', q.dimension, 'dimension_key', q.dimension_key) END
FROM (SELECT * FROM etl.reprocessing_queue AS e WHERE e.fact = $1) AS q
FULL JOIN (
    SELECT e.*, k.dimension
    FROM pg_temp.reconciled_expected AS e
    JOIN etl.fact_dimension AS k ON k.fact = $1 AND k.key_column = e.key_column
    JOIN etl.dimension AS d ON d.dimension = k.dimension AND d.transform_view IS NOT NULL
) AS u USING (fact_key, key_column)
WHERE q.is_ready IS NOT TRUE
    AND (q.dimension = u.dimension AND q.dimension_key = u.dimension_key) IS NOT TRUE
    AND NOT EXISTS (SELECT FROM (SELECT %s AS row_key FROM work.%I AS k OFFSET 0) AS p WHERE p.row_key = fact_key)
    AND NOT EXISTS (SELECT FROM etl.quarantine AS n WHERE n.object = $1 AND n.row_key = fact_key)$sql$,
            etl._json_key(r_fact.business_key, 'k'), r_fact.fact || '_key'
        )
        USING r_fact.fact;
    END LOOP;
    SELECT count(*)
    INTO r_object.actual_rows
    FROM etl.reprocessing_queue AS q
    WHERE q.fact = ANY (p_facts);
    RETURN r_object;
END
$_compare_queue$;

-- Compares quarantine with what its entries claim. Entries whose rows the next run retries are left out.
-- Parameters: p_objects, source tables, dimensions and facts; NULL for all, also those that are not in the catalog.
-- Returns:    counts; rows are entries.
-- Writes:     pg_temp.reconciled_difference.
CREATE OR REPLACE FUNCTION etl._compare_quarantine(p_objects name[])
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_quarantine$
DECLARE
    r_object etl.reconciliation_object;
    r_entry etl.quarantine;
    v_pending bigint := 0;
BEGIN
    r_object.actual_rows := 0;
    FOR r_entry IN
        SELECT *
        FROM etl.quarantine AS q
        WHERE p_objects IS NULL
            OR q.object = ANY (p_objects)
        ORDER BY q.object, q.row_key
    LOOP
        r_object.actual_rows := r_object.actual_rows + 1;
        IF etl._is_pending(r_entry.object, r_entry.row_key) THEN
            v_pending := v_pending + 1;
        ELSIF NOT etl._claim_holds(r_entry) THEN
            INSERT INTO pg_temp.reconciled_difference (kind, row_key, actual)
            VALUES (
                'surplus', jsonb_build_object('object', r_entry.object, 'row_key', r_entry.row_key),
                jsonb_build_object('sqlstate', r_entry.sqlstate)
            );
        END IF;
    END LOOP;
    r_object.left_out := jsonb_build_object('pending', v_pending);
    RETURN r_object;
END
$_compare_quarantine$;

-- Whether a key is pending: changed in the source, or about to be loaded.
CREATE OR REPLACE FUNCTION etl._is_pending(p_object name, p_row_key jsonb)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_pending$
DECLARE
    r_object record;
    v_is_pending boolean := false;
BEGIN
    SELECT o.kind, o.business_key
    INTO r_object
    FROM etl.object AS o
    WHERE o.object = p_object
        AND o.view_name IS NOT NULL;
    IF r_object.kind = 'source' THEN
        RETURN EXISTS (SELECT FROM etl.newer_keys(p_object) AS n WHERE n.row_key = p_row_key)
            OR EXISTS (SELECT FROM etl.reextraction AS e WHERE e.source_table = p_object AND e.row_key = p_row_key);
    ELSIF r_object.kind IN ('dimension', 'fact') THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM work.%I AS k WHERE %s = $1)', p_object || '_key', etl._json_key(r_object.business_key, 'k'))
        INTO v_is_pending
        USING p_row_key;
    END IF;
    RETURN v_is_pending;
END
$_is_pending$;
