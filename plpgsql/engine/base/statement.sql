-- Statements that are made of the catalog, and statistics for those that read rows written a moment ago in the same transaction.

-- Analyzes a table after many rows were written, more than p_few. A small batch needs statistics of the lookup columns only: statistics of all
-- columns take four times as long, a tenth of such a batch. A sample of 3,000 rows is enough for rows that one or two statements read; 30,000 take
-- three times as long.
CREATE OR REPLACE FUNCTION etl._analyze(p_table regclass, p_columns name[], p_rows bigint, p_few bigint DEFAULT 100)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_statistics_target = 10
AS $_analyze$
BEGIN
    IF p_rows > p_few AND NOT etl._is_distributed(p_table) THEN
        EXECUTE format('ANALYZE %s%s', p_table, CASE WHEN p_rows > 10000 THEN '' ELSE format(' (%s)', etl._list(p_columns)) END);
    END IF;
END
$_analyze$;

-- Executes statements, one after the other; returns their number.
CREATE OR REPLACE FUNCTION etl._execute(p_statements text[])
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_execute$
DECLARE
    v_statement text;
BEGIN
    FOREACH v_statement IN ARRAY coalesce(p_statements, '{}')
    LOOP
        EXECUTE v_statement;
    END LOOP;
    RETURN coalesce(cardinality(p_statements), 0);
END
$_execute$;
