-- The rows that an object should hold: by the same statements as the load's, over all keys.

/*
All rows that a fact should hold, keys resolved, those of deleted rows among them.
Parameters: p_fact, the fact; p_are_few, whether a condition on the business key follows, which then enters the transformation view.
Returns:    a SELECT of the business key and all other writable columns of the fact table except run_id.
*/
CREATE OR REPLACE FUNCTION etl._reconciled_fact_sql(p_fact name, p_are_few boolean)
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_reconciled_fact_sql$
    SELECT CASE
        WHEN p_are_few THEN etl._resolved_fact_sql(p_fact, v.of_fact, etl._render('{{view}} AS v', v.of_fact), p_is_load => false)
        ELSE etl._expected_fact_sql(p_fact)
    END
    FROM etl._fact_values(p_fact) AS v (of_fact)
$_reconciled_fact_sql$;
COMMENT ON FUNCTION etl._reconciled_fact_sql(name, boolean) IS 'SELECT of all rows that a fact should hold.';
