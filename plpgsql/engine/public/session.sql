-- Public functions see the same whatever the session of their caller looks like: they build, read and compare keys as text and jsonb.
-- (The procedures that run the warehouse commit, so they cannot; each of their transactions pins the same by etl._pin_session.)

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
            -- A procedure that commits has no settings.
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
