-- How a statement is run: statistics of the table that it reads, settings that suit it, the number of rows from which it pays.

/*
Whether keys are so many that a table is better read as a whole than by key.
Parameters: p_count, number of keys; p_table, the table; p_part, the part of it that is many: a third, where each row is put together of
            several. Where the planner may choose, as in a view that only joins, a twentieth is: key by key took three times as long.
*/
CREATE OR REPLACE FUNCTION etl._are_many(p_count bigint, p_table regclass, p_part integer DEFAULT 3)
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_are_many$
    SELECT p_count > 10000 AND p_count > (SELECT c.reltuples / p_part FROM pg_class AS c WHERE c.oid = p_table)
$_are_many$;
COMMENT ON FUNCTION etl._are_many(bigint, regclass, integer) IS 'Whether keys are so many that a table is better read as a whole.';

/*
Tells the planner about rows that were just written, when there are enough of them to matter. Of a small batch the columns by which rows are
found are enough: statistics of all columns take four times as long, which is a tenth of such a batch. A sample of 3,000 rows tells of
rows that are read once, in one or two statements, all that these need: one of 30,000 took three times as long.
Parameters: p_table, the table; p_columns, its columns by which rows are found; p_rows, number of rows written; p_few, how many do not
            matter.
Writes:     statistics of the table.
*/
CREATE OR REPLACE FUNCTION etl._analyze(p_table regclass, p_columns name[], p_rows bigint, p_few bigint DEFAULT 100)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_statistics_target = 10
AS $_analyze$
BEGIN
    IF p_rows > p_few THEN
        EXECUTE format('ANALYZE %s%s', p_table, CASE WHEN p_rows > 10000 THEN '' ELSE format(' (%s)', etl._list(p_columns)) END);
    END IF;
END
$_analyze$;
COMMENT ON FUNCTION etl._analyze(regclass, name[], bigint, bigint) IS 'Analyses a table to which rows were written, of few rows the columns by which they are found.';

/*
Settings under which rows are updated that have just been read, key by key: their pages are in memory. To look such a row up takes a third of
what reading a page in sequence takes. By its ordinary costs the planner read a million orders to update sixty thousand: 870 ms, by the
index 590.
Returns:    for etl._execute_under.
*/
CREATE OR REPLACE FUNCTION etl._after_reading()
RETURNS text[]
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_after_reading$
    SELECT ARRAY['random_page_cost=' || least(current_setting('random_page_cost')::numeric, current_setting('seq_page_cost')::numeric * 0.3)]
$_after_reading$;
COMMENT ON FUNCTION etl._after_reading() IS 'Settings under which rows are updated that have just been read.';

/*
Executes a statement under other values of settings, which are as before afterwards.
Parameters: p_settings, name=value of each; p_statement, the statement; p_id, its only parameter, a run or a batch.
Returns:    number of rows.
Writes:     what the statement writes.
*/
CREATE OR REPLACE FUNCTION etl._execute_under(p_settings text[], p_statement text, p_id bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_execute_under$
DECLARE
    v_setting text;
    v_name text;
    v_before text[] := ARRAY[]::text[];
    v_rows bigint;
BEGIN
    FOREACH v_setting IN ARRAY p_settings
    LOOP
        v_name := split_part(v_setting, '=', 1);
        v_before := v_before || format('%s=%s', v_name, current_setting(v_name));
        PERFORM set_config(v_name, split_part(v_setting, '=', 2), true);
    END LOOP;
    EXECUTE p_statement USING p_id;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    FOREACH v_setting IN ARRAY v_before
    LOOP
        PERFORM set_config(split_part(v_setting, '=', 1), split_part(v_setting, '=', 2), true);
    END LOOP;
    RETURN v_rows;
END
$_execute_under$;
COMMENT ON FUNCTION etl._execute_under(text[], text, bigint) IS 'Executes a statement under other values of settings (name=value).';
