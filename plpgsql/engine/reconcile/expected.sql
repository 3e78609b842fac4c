-- The rows that an object should hold: the same statements as the load's, over all keys.

/*
All rows that a fact should hold, keys resolved, those of deleted rows among them.
Parameters: p_fact, the fact.
Returns:    a SELECT of the business key and all other columns of the fact table except run_id.
*/
CREATE OR REPLACE FUNCTION etl._reconciled_fact_sql(p_fact name)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reconciled_fact_sql$
    -- A bulk load without its INSERT INTO, and without its condition on deleted rows.
    SELECT regexp_replace(replace(substr(s.statement, strpos(s.statement, E'\nSELECT ') + 1), ', $1', ''), '\s+WHERE NOT w\.is_deleted\s*$', '')
    FROM etl._fact_sql(p_fact, 'fill') AS s
    WHERE s.title LIKE 'insert:%'
$_reconciled_fact_sql$;
COMMENT ON FUNCTION etl._reconciled_fact_sql(name) IS 'SELECT of all rows that a fact should hold.';

/*
The versions that a load of members would plan, beside those that are there.
Parameters: p_dimension, the dimension; p_keys, relation of the members' business keys.
Returns:    a SELECT of planned_operation, surrogate key, business key, attributes, valid_from, valid_to, is_current, run_id; it reads the
            variables p_run_id, p_now and p_batch_at.
*/
CREATE OR REPLACE FUNCTION etl._reconciled_dimension_sql(p_dimension name, p_keys text)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reconciled_dimension_sql$
    SELECT format(
        E'SELECT *\nFROM (\n%s\n) AS w (planned_operation, %s)',
        replace(replace(replace(p.parts[2], format('work.%I AS k', p_dimension || '_key'), p_keys || ' AS k'), '$1', 'p_run_id'), '$2', 'p_now'),
        p.parts[1]
    )
    FROM etl._dimension_sql(p_dimension) AS s
    CROSS JOIN LATERAL regexp_match(s.statement, '^INSERT INTO [^(]* \(operation, (.*?)\)\n(WITH .*)$') AS p (parts)
    WHERE s.title LIKE 'decide:%'
$_reconciled_dimension_sql$;
COMMENT ON FUNCTION etl._reconciled_dimension_sql(name, text) IS 'SELECT of the versions that a load of members would plan.';
