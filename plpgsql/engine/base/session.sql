-- Session settings must not change results: keys are stored as text and jsonb, and PostgreSQL formats values by the settings of the session.

/*
Pins, until the end of the transaction, the settings that decide how values and names are written and how text is read. The business's time zone
is the setting time_zone of etl.setting, never that of the session.
Errors: none; a role that may not set lc_messages keeps its own.
*/
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
        set_config('array_nulls', 'on', true);
    IF current_setting('lc_messages') NOT IN ('C', 'en_US.UTF-8') AND has_parameter_privilege('lc_messages', 'SET') THEN
        -- Messages are kept, and stripped of values, in English.
        PERFORM set_config('lc_messages', 'C', true);
    END IF;
END
$_pin_session$;

-- Whether tables of the warehouse may be on more than one node.
CREATE OR REPLACE FUNCTION etl._is_distributed()
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_is_distributed$
    SELECT EXISTS (SELECT 1 FROM pg_extension AS e WHERE e.extname = 'citus')
$_is_distributed$;
