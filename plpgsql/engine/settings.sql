-- Settings of the engine and how they are read.

INSERT INTO etl.setting (name, value, description)
VALUES
    ('time_zone', 'UTC', 'Time zone of the business: it decides on which date a moment falls.'),
    ('stale_after', '15 minutes', 'Age from which the warehouse counts as stale (interval).'),
    ('runs_kept', '30 days', 'How long the history of runs is kept (interval).'),
    ('queue_old_after', '7 days', 'Age from which an entry of the reprocessing queue is reported as old (interval).'),
    ('quarantine_limit', '1000', 'Number of bad rows of one object above which its load fails as a whole instead of putting them into quarantine.')
ON CONFLICT (name) DO UPDATE
SET description = excluded.description
WHERE etl.setting.description <> excluded.description;

/*
Value of a setting.
Parameters: p_name, name of the setting.
Returns:    its value as text.
Errors:     ET002 when there is no such setting.
*/
CREATE OR REPLACE FUNCTION etl.get_setting(p_name text)
RETURNS text
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $get_setting$
DECLARE
    v_value text;
BEGIN
    SELECT s.value
    INTO v_value
    FROM etl.setting AS s
    WHERE s.name = p_name;

    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no setting "%"', p_name
            USING ERRCODE = 'ET002', HINT = 'SELECT * FROM etl.setting lists them.';
    END IF;
    RETURN v_value;
END
$get_setting$;
COMMENT ON FUNCTION etl.get_setting(text) IS 'Value of a setting as text; error ET002 when there is none of that name.';
