-- The reprocessing queue and quarantine compared with what their entries claim. An entry that claims what is not so is surplus; a fact with
-- an unresolved key that no entry tells of is missing in the queue, as no load would ever take it up again.

/*
What the queue should tell of a fact: the keys of its rows that are unresolved, or that an entry names, with the members they refer to.
Parameters: p_fact, the fact.
Returns:    fact_key, key_column, dimension; dimension_key, the member that the row refers to, NULL when it refers to none; is_unresolved,
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
    v_roles text;
    v_joins text;
    v_unresolved text;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    SELECT
        string_agg(
            format(
                '(%L::name, %L::name, %s, f.%I = -1)', k.key_column, k.dimension,
                format(
                    'CASE WHEN (%s) IS NOT NULL THEN %s END', etl._list(k.lookup_columns, s.alias || '.%1$I'), etl._json_key(d.business_key, s.alias, k.lookup_columns)
                ),
                k.key_column
            ), ', ' ORDER BY k.key_column
        ),
        string_agg(
            CASE WHEN k.lookup_role IS NOT NULL THEN format(E'\nLEFT JOIN %s AS %s ON %2$s.%I = f.%I', l.dimension_table, s.alias, l.surrogate_key, k.lookup_role) END,
            '' ORDER BY k.key_column
        ),
        string_agg(format('f.%I', k.key_column), ', ' ORDER BY k.key_column)
    INTO v_roles, v_joins, v_unresolved
    FROM (SELECT *, row_number() OVER (ORDER BY r.key_column) AS number FROM etl.fact_dimension AS r WHERE r.fact = p_fact) AS k
    JOIN etl.dimension AS d USING (dimension)
    LEFT JOIN etl.fact_dimension AS o ON o.fact = p_fact AND o.key_column = k.lookup_role
    LEFT JOIN etl.dimension AS l ON l.dimension = o.dimension
    CROSS JOIN LATERAL (SELECT CASE WHEN k.lookup_role IS NULL THEN 'v' ELSE 'l' || k.number END) AS s (alias)
    WHERE d.transform_view IS NOT NULL;
    IF v_roles IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE etl._render(
        $template$WITH named AS MATERIALIZED (
    SELECT {{f.key}} FROM {{table}} AS f WHERE NOT f.is_deleted AND -1 IN ({{unresolved}})
    UNION
    SELECT {{queued_key}} FROM etl.reprocessing_queue AS q WHERE q.fact = $1
)
SELECT {{key_as_json}}, r.*
FROM named AS k
JOIN {{table}} AS f ON {{f.key = k.key}} AND NOT f.is_deleted
LEFT JOIN LATERAL (SELECT * FROM {{view}} AS o WHERE {{o.key = k.key}} LIMIT 1) AS v ON true{{joins}}
CROSS JOIN LATERAL (VALUES {{roles}}) AS r$template$,
        jsonb_build_object(
            'key', to_jsonb(r_fact.business_key), 'table', r_fact.fact_table::text, 'view', r_fact.transform_view::text, 'unresolved', v_unresolved,
            'queued_key', etl._from_json(r_fact.business_key, 'q.fact_key', r_fact.fact_table), 'key_as_json', etl._json_key(r_fact.business_key, 'f'),
            'joins', coalesce(v_joins, ''), 'roles', v_roles
        )
    )
    USING p_fact;
END
$_unresolved_keys$;
COMMENT ON FUNCTION etl._unresolved_keys(name) IS 'What the queue should tell of a fact: unresolved keys of its rows, with the members they refer to.';

CREATE OR REPLACE FUNCTION etl._honest_entries(p_fact name)
RETURNS TABLE (fact_key jsonb, key_column name)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_honest_entries$
    SELECT q.fact_key, q.key_column
    FROM etl.reprocessing_queue AS q
    JOIN etl._unresolved_keys(p_fact) AS u USING (fact_key, key_column)
    WHERE q.fact = p_fact
        AND q.dimension = u.dimension
        AND q.dimension_key = u.dimension_key
        AND (u.is_unresolved OR q.is_ready)
$_honest_entries$;
COMMENT ON FUNCTION etl._honest_entries(name) IS 'Entries of the queue whose claim holds: the row refers to the member, and its key is unresolved, or about to be looked up again.';

/*
Compares the queue of facts with their rows.
Parameters: p_facts, the facts.
Returns:    what was found; rows are entries.
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
    -- A load is about to decide on the row anyway.
    AND NOT EXISTS (SELECT FROM work.%1$I AS k WHERE %2$s = fact_key)
    AND NOT EXISTS (SELECT FROM etl.quarantine AS n WHERE n.object = $1 AND n.row_key = fact_key)$sql$,
            r_fact.fact || '_key', etl._json_key(r_fact.business_key, 'k')
        )
        USING r_fact.fact;
    END LOOP;
    SELECT count(*)
    INTO r_object.actual_rows
    FROM etl.reprocessing_queue AS q
    WHERE q.fact = ANY (p_facts);
    r_object.expected_rows := r_object.actual_rows + (
        SELECT count(*) FILTER (WHERE x.kind = 'missing') - count(*) FILTER (WHERE x.kind = 'surplus') FROM pg_temp.reconciled_difference AS x
    );
    r_object.left_out := '{}';
    RETURN r_object;
END
$_compare_queue$;
COMMENT ON FUNCTION etl._compare_queue(name[]) IS 'Compares the queue of facts with their rows.';

/*
Compares quarantine with what its entries claim. An entry is left out while its row waits to be tried again.
Parameters: p_objects, source tables, dimensions and facts; NULL for all, also those that are not in the catalog.
Returns:    what was found; rows are entries.
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
    v_is_waiting boolean;
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
        IF EXISTS (SELECT FROM etl.source_table AS s WHERE s.source_table = r_entry.object) THEN
            v_is_waiting := EXISTS (SELECT FROM etl.newer_keys(r_entry.object) AS n WHERE n.row_key = r_entry.row_key)
                OR EXISTS (SELECT FROM etl.reextraction AS e WHERE (e.source_table, e.row_key) = (r_entry.object, r_entry.row_key));
        ELSE
            v_is_waiting := etl._is_pending(r_entry.object, r_entry.row_key);
        END IF;
        IF v_is_waiting THEN
            v_pending := v_pending + 1;
        ELSIF NOT etl._claim_holds(r_entry) THEN
            INSERT INTO pg_temp.reconciled_difference (kind, row_key, actual)
            VALUES (
                'surplus', jsonb_build_object('object', r_entry.object, 'row_key', r_entry.row_key),
                jsonb_build_object('sqlstate', r_entry.sqlstate)
            );
        END IF;
    END LOOP;
    r_object.expected_rows := r_object.actual_rows - (SELECT count(*) FROM pg_temp.reconciled_difference);
    r_object.left_out := etl._without_zeros(jsonb_build_object('pending', v_pending));
    RETURN r_object;
END
$_compare_quarantine$;
COMMENT ON FUNCTION etl._compare_quarantine(name[]) IS 'Compares quarantine with what its entries claim.';

CREATE OR REPLACE FUNCTION etl._is_pending(p_object name, p_row_key jsonb)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_pending$
DECLARE
    v_is_pending boolean := false;
    v_key name[] := (
        SELECT o.business_key
        FROM (
            SELECT d.dimension, d.business_key FROM etl.dimension AS d
            UNION ALL
            SELECT f.fact, f.business_key FROM etl.fact AS f
        ) AS o (object, business_key)
        WHERE o.object = p_object
    );
BEGIN
    IF v_key IS NOT NULL AND to_regclass(format('work.%I', p_object || '_key')) IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM work.%I AS k WHERE %s = $1)', p_object || '_key', etl._json_key(v_key, 'k')) INTO v_is_pending USING p_row_key;
    END IF;
    RETURN v_is_pending;
END
$_is_pending$;
COMMENT ON FUNCTION etl._is_pending(name, jsonb) IS 'Whether a key of a dimension or fact is pending.';
