-- The reprocessing queue and quarantine compared with what their entries claim. An entry whose claim does not hold is surplus. An unresolved key
-- of a fact without an entry is missing in the queue: no load would retry it.

/*
What the queue should say of a fact: the keys of its rows that are unresolved, or that an entry names, with the members they refer to.
Parameters: p_fact, the fact.
Returns:    fact_key, key_column, dimension; dimension_key, the member that the row refers to, NULL if it refers to none; is_unresolved,
            whether the row has key -1.
*/
CREATE OR REPLACE FUNCTION etl._unresolved_keys(p_fact name)
RETURNS TABLE (fact_key jsonb, key_column name, dimension name, dimension_key jsonb, is_unresolved boolean)
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_unresolved_keys$
DECLARE
    r_fact etl.fact;
    v_values jsonb;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    SELECT jsonb_build_object(
        'roles', string_agg(format('(%L::name, %L::name)', k.key_column, k.dimension), ', ' ORDER BY k.number) FILTER (WHERE k.is_loaded),
        'dimension_keys', string_agg(
            format(
                'WHEN %L THEN CASE WHEN num_nulls(%s) = 0 THEN %s END',
                k.key_column, etl._list(k.lookup_columns, k.source || '.%1$I'), etl._json_key(k.business_key, k.source, k.lookup_columns)
            ),
            E'\n' ORDER BY k.number
        ) FILTER (WHERE k.is_loaded),
        'key_values', string_agg(format('WHEN %L THEN f.%I', k.key_column, k.key_column), ' ' ORDER BY k.number) FILTER (WHERE k.is_loaded),
        -- Members by way of which others are looked up.
        'joins', coalesce(string_agg(
            format(E'\nLEFT JOIN %s AS d%s ON d%2$s.%I = f.%I', k.dimension_table, k.number, k.surrogate_key, k.key_column), ''
        ) FILTER (WHERE EXISTS (SELECT FROM etl._fact_roles(p_fact) AS o WHERE o.source = 'd' || k.number)), ''),
        'keys', string_agg(format('f.%I', k.key_column), ', ') FILTER (WHERE k.is_loaded)
    )
    INTO v_values
    FROM etl._fact_roles(p_fact) AS k;
    IF v_values ->> 'roles' IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE etl._render(
        $template$WITH named AS MATERIALIZED (
    SELECT {{f.key}}
    FROM {{table}} AS f
    WHERE NOT f.is_deleted
        AND (-1 IN ({{keys}}) OR ({{f.key}}) IN (SELECT {{queued_key}} FROM etl.reprocessing_queue AS q WHERE q.fact = $1))
)
SELECT {{key_as_json}}, r.key_column, r.dimension, CASE r.key_column {{dimension_keys}} END, CASE r.key_column {{key_values}} END = -1
FROM named AS k
JOIN {{table}} AS f ON {{f.key = k.key}}
-- ANY: only the rows of these keys are computed.
LEFT JOIN (SELECT DISTINCT ON ({{s.key}}) s.* FROM {{view}} AS s WHERE {{among_named}} ORDER BY {{s.key}}) AS v ON {{v.key = f.key}}{{joins}}
CROSS JOIN (VALUES {{roles}}) AS r (key_column, dimension)$template$,
        v_values || jsonb_build_object(
            'key', to_jsonb(r_fact.business_key), 'table', r_fact.fact_table::text, 'view', r_fact.transform_view::text,
            'queued_key', etl._from_json(r_fact.business_key, 'q.fact_key', r_fact.fact_table),
            'among_named', etl._among_sql(r_fact.fact_table, r_fact.business_key, 'named AS k'),
            'key_as_json', etl._json_key(r_fact.business_key, 'f')
        )
    )
    USING p_fact;
END
$_unresolved_keys$;

/*
Compares the queue with the rows of facts. Rows that are pending or in quarantine are left out: a load will decide on them.
Parameters: p_facts, the facts.
Returns:    counts; rows are entries.
Writes:     pg_temp.reconciled_difference.
*/
CREATE OR REPLACE FUNCTION etl._compare_queue(p_facts name[])
RETURNS etl.reconciliation_object
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_compare_queue$
DECLARE
    r_object etl.reconciliation_object;
    r_fact etl.fact;
BEGIN
    FOR r_fact IN
        SELECT *
        FROM etl.fact AS f
        WHERE f.fact = ANY (p_facts)
        ORDER BY f.fact
    LOOP
        EXECUTE format(
            $sql$INSERT INTO pg_temp.reconciled_difference (kind, row_key, expected, actual)
SELECT
    CASE WHEN q.fact IS NULL THEN 'missing' ELSE 'surplus' END,
    jsonb_build_object('fact', $1, 'fact_key', fact_key, 'key_column', key_column),
    CASE WHEN q.fact IS NULL THEN jsonb_build_object('dimension', u.dimension, 'dimension_key', u.dimension_key) END,
    CASE WHEN q.fact IS NOT NULL THEN jsonb_build_object('dimension', q.dimension, 'dimension_key', q.dimension_key, 'is_ready', q.is_ready) END
FROM (SELECT * FROM etl.reprocessing_queue AS e WHERE e.fact = $1) AS q
FULL JOIN etl._unresolved_keys($1) AS u USING (fact_key, key_column)
WHERE CASE
        WHEN q.fact IS NULL THEN u.is_unresolved AND u.dimension_key IS NOT NULL
        ELSE (q.dimension = u.dimension AND q.dimension_key = u.dimension_key AND (u.is_unresolved OR q.is_ready)) IS NOT TRUE
    END
    AND NOT EXISTS (SELECT FROM (SELECT %2$s AS row_key FROM work.%1$I AS k OFFSET 0) AS p WHERE p.row_key = fact_key)
    AND NOT EXISTS (SELECT FROM etl.quarantine AS n WHERE n.object = $1 AND n.row_key = fact_key)$sql$,
            r_fact.fact || '_key', etl._json_key(r_fact.business_key, 'k')
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

/*
Compares quarantine with what its entries claim. Entries whose rows the next run retries are left out.
Parameters: p_objects, source tables, dimensions and facts; NULL for all, also those that are not in the catalog.
Returns:    counts; rows are entries.
Writes:     pg_temp.reconciled_difference.
*/
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
