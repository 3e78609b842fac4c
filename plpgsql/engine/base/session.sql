-- Session settings must not change results: keys are stored as text and jsonb, and PostgreSQL formats values by the settings of the session.

-- Pins, until the end of the transaction, the settings that decide how values and names are written, how text is read, and which rows are seen. The
-- business's time zone is the setting time_zone of etl.setting, never that of the session.
CREATE OR REPLACE FUNCTION etl._pin_session()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_pin_session$
BEGIN
    PERFORM
        set_config('TimeZone', 'UTC', true),
        set_config('DateStyle', 'ISO, MDY', true),
        set_config('IntervalStyle', 'postgres', true),
        set_config('bytea_output', 'hex', true),
        set_config('xmlbinary', 'base64', true),
        set_config('extra_float_digits', '1', true),
        set_config('quote_all_identifiers', 'off', true),
        set_config('standard_conforming_strings', 'on', true),
        set_config('transform_null_equals', 'off', true),
        set_config('array_nulls', 'on', true),
        -- Rows that a policy of the source hides would count as deleted: an error is better.
        set_config('row_security', 'off', true);
    IF current_setting('lc_messages') NOT IN ('C', 'en_US.UTF-8') AND has_parameter_privilege('lc_messages', 'SET') THEN
        -- Messages are kept, and stripped of values, in English.
        PERFORM set_config('lc_messages', 'C', true);
    END IF;
END
$_pin_session$;

-- Whether a table is on more than one node: distributed by a column, or whole on each node; for NULL, whether any table is. On one server no table
-- is. What must be done otherwise then is decided by this question, and at build where that is possible.
CREATE OR REPLACE FUNCTION etl._is_distributed(p_table regclass)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_distributed$
DECLARE
    v_tables regclass := to_regclass('pg_catalog.pg_dist_partition');
    v_is_distributed boolean;
BEGIN
    IF v_tables IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s AS p WHERE p.logicalrelid = $1 OR $1 IS NULL)', v_tables) INTO v_is_distributed USING p_table;
    RETURN v_is_distributed;
END
$_is_distributed$;
