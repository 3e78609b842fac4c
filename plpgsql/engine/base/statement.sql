-- Statistics for statements that read rows written a moment ago in the same transaction.

/*
Analyzes a table after many rows were written. A small batch needs statistics of the lookup columns only: statistics of all columns take four
times as long, a tenth of such a batch. A sample of 3,000 rows is enough for rows that one or two statements read; 30,000 take three times as
long.
Parameters: p_table, the table; p_columns, its columns by which rows are found; p_rows, number of rows written; p_few, number up to which
            nothing is done.
Writes:     statistics of the table.
*/
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
