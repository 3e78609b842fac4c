-- Error messages that may be stored: without the values that PostgreSQL quotes.

/*
An error message without values of rows. PostgreSQL quotes them in errors of the data: invalid input syntax for type integer: "…", value "…" is
out of range for type integer. Names of constraints, columns and types stay.
Parameters: p_sqlstate, error code; p_message, the message.
Returns:    the message; as it is for other errors than those of the data (classes 22 and 23).
*/
CREATE OR REPLACE FUNCTION etl._without_values(p_sqlstate text, p_message text)
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_without_values$
    SELECT CASE
        WHEN p_sqlstate ~ '^2[23]'
            THEN regexp_replace(
                regexp_replace(p_message, ': ".*"$', ': (withheld)'),
                '(^|value )".*" (is out of range|for |is not )', '\1(withheld) \2'
            )
        ELSE p_message
    END
$_without_values$;
COMMENT ON FUNCTION etl._without_values(text, text) IS 'An error message without the values of rows that PostgreSQL quotes in errors of the data.';
