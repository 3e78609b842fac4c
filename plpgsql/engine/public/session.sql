-- Public functions behave the same in every session: settings that change how keys are written as text and jsonb are pinned. A procedure that
-- commits cannot have settings; each of its transactions calls etl._pin_session instead.

DO $pin$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid
        FROM pg_proc AS p
        WHERE p.pronamespace = 'etl'::regnamespace
            AND p.proname NOT LIKE '\_%'
            AND p.proname <> 'get_setting'
            AND p.proconfig IS NOT NULL
    LOOP
        EXECUTE format(
            'ALTER ROUTINE %1$s SET TimeZone = ''UTC'';'
            'ALTER ROUTINE %1$s SET DateStyle = ''ISO, MDY'';'
            'ALTER ROUTINE %1$s SET IntervalStyle = ''postgres'';'
            'ALTER ROUTINE %1$s SET bytea_output = ''hex'';'
            'ALTER ROUTINE %1$s SET extra_float_digits = 1;'
            'ALTER ROUTINE %1$s SET quote_all_identifiers = off;'
            'ALTER ROUTINE %1$s SET standard_conforming_strings = on;'
            'ALTER ROUTINE %1$s SET transform_null_equals = off;'
            'ALTER ROUTINE %1$s SET array_nulls = on;',
            v_function
        );
    END LOOP;
END
$pin$;
