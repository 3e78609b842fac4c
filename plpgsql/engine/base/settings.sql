-- Settings of the engine, how they are read, and the check on write.

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
            USING ERRCODE = 'ET002', HINT = 'To list the settings, run: oceanrecords settings list.';
    END IF;
    RETURN v_value;
END
$get_setting$;
COMMENT ON FUNCTION etl.get_setting(text) IS 'Value of a setting as text; error ET002 when there is none of that name.';

-- Trigger: refuses a value that is not of the setting's type (ET019), so that the session that writes it gets the error, not the next run. The value
-- that a setting is installed with is its default.
CREATE OR REPLACE FUNCTION etl._check_setting()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_check_setting$
DECLARE
    v_is_fit boolean;
    v_interval interval;
BEGIN
    BEGIN
        CASE NEW.value_type
            WHEN 'count' THEN
                v_is_fit := NEW.value::bigint >= 0;
            WHEN 'currency' THEN
                v_is_fit := NEW.value ~ '^[A-Z]{3}$';
            WHEN 'date' THEN
                -- Any other format means another day under another DateStyle.
                v_is_fit := NEW.value = '' OR NEW.value ~ '^\d{4}-\d\d-\d\d$' AND NEW.value::date IS NOT NULL;
            WHEN 'interval' THEN
                v_interval := NEW.value::interval;
                -- Intervals are subtracted from timestamps.
                v_is_fit := v_interval >= interval '0' AND isfinite(clock_timestamp() - v_interval);
            WHEN 'percent' THEN
                v_is_fit := NEW.value::numeric BETWEEN 0 AND 100;
            WHEN 'procedure' THEN
                v_is_fit := trim(NEW.value) = '';
                IF NOT v_is_fit THEN
                    v_is_fit := etl._hook_call(NEW.value) IS NOT NULL;
                END IF;
            WHEN 'time zone' THEN
                -- AT TIME ZONE accepts more: Berlin1 is one hour west of Greenwich.
                v_is_fit := EXISTS (SELECT FROM pg_timezone_names AS z WHERE lower(z.name) = lower(NEW.value));
            ELSE
                v_is_fit := true;
        END CASE;
    EXCEPTION
        WHEN OTHERS THEN
            v_is_fit := false;
    END;
    IF NOT v_is_fit THEN
        RAISE EXCEPTION 'the setting "%" cannot be "%": it takes %', NEW.name, NEW.value, CASE NEW.value_type
                WHEN 'count' THEN 'a whole number from 0 on'
                WHEN 'currency' THEN 'the code of a currency, three capitals such as EUR'
                WHEN 'date' THEN 'a date such as 2025-12-31, or nothing'
                WHEN 'interval' THEN 'an interval from 0 on, such as 15 minutes'
                WHEN 'percent' THEN 'a number from 0 to 100'
                WHEN 'procedure' THEN 'the name of a procedure with parameters (text, text, jsonb), such as ops.page, or nothing'
                WHEN 'time zone' THEN 'a time zone such as Europe/Berlin'
            END
            USING ERRCODE = 'ET019',
                HINT = CASE NEW.value_type
                    WHEN 'procedure' THEN 'Create the procedure first, and write its name with its schema.'
                    WHEN 'time zone' THEN 'SELECT name FROM pg_timezone_names lists them.'
                    ELSE 'To see what each setting decides, run: oceanrecords settings list.'
                END;
    END IF;
    NEW.default_value := coalesce(NEW.default_value, NEW.value);
    RETURN NEW;
END
$_check_setting$;

CREATE OR REPLACE TRIGGER check_value
    BEFORE INSERT OR UPDATE OF value, value_type ON etl.setting
    FOR EACH ROW
    EXECUTE FUNCTION etl._check_setting();

INSERT INTO etl.setting (name, value, value_type, description)
VALUES
    ('time_zone', 'UTC', 'time zone', 'Time zone of the business: it decides the date of a point in time.'),
    ('stale_after', '15 minutes', 'interval', 'Age from which the warehouse counts as stale (interval).'),
    (
        'compare_sources_every', '1 day', 'interval',
        'How often each source table is compared completely with its mirror, to find rows written without triggers (interval).'
    ),
    ('runs_kept', '30 days', 'interval', 'How long the history of runs is kept (interval).'),
    ('queue_old_after', '7 days', 'interval', 'Age from which an entry of the reprocessing queue is reported as old (interval).'),
    (
        'wait_limit', '1 minute', 'interval',
        'How long a migration, a build and forgetting wait for a live run, and the statements of a run for a lock, before they fail (interval).'
    ),
    (
        'source_retry_pause', '1 second', 'interval',
        'Pause before a batch is extracted again after the connection to the source was lost; it doubles each time (interval).'
    ),
    ('quarantine_limit', '1000', 'count', 'Number of bad rows of one object above which its load fails as a whole instead of putting them into quarantine.'),
    (
        'quarantine_share_limit', '1', 'percent',
        'Share of the rows of a load that may newly go to quarantine; with more, and more than ten, the load fails as a whole (percent).'
    ),
    ('quarantine_tolerated', '0', 'count', 'Number of rows of one object that a run may put into quarantine, not accepted, and still succeed.'),
    ('reconciliation_rows_kept', '10000', 'count', 'Number of differing rows of one object that are kept; when there are more, a repair rebuilds the object.'),
    ('maintenance_every', '1 hour', 'interval', 'How often a run prunes the history (interval).'),
    ('checks_kept', '30 days', 'interval', 'How long the results of quality checks are kept (interval); the last of each check stays.'),
    ('reconciliations_kept', '90 days', 'interval', 'How long reconciliations are kept (interval); the last one stays.'),
    ('password_length', '8', 'count', 'Number of characters that the password of a user must have at least.'),
    ('small_group', '5', 'count', 'Number of people below which a figure that counts people is not shown to users who may not see personal data.'),
    ('alert_hook', '', 'procedure', 'Procedure that alerts are handed to as (p_kind text, p_message text, p_details jsonb), such as ops.page. Empty for none.')
ON CONFLICT (name) DO UPDATE
SET value_type = excluded.value_type,
    description = excluded.description
WHERE (etl.setting.value_type, etl.setting.description) IS DISTINCT FROM (excluded.value_type, excluded.description)
    OR etl.setting.default_value IS NULL;

CREATE OR REPLACE VIEW etl.currency AS
SELECT c.currency, g.decimals
FROM (
    VALUES
        (0, '{BIF,CLP,DJF,GNF,ISK,JPY,KMF,KRW,PYG,RWF,UGX,UYI,VND,VUV,XAF,XOF,XPF}'::text[]),
        (3, '{BHD,IQD,JOD,KWD,LYD,OMR,TND}'),
        (4, '{CLF,UYW}')
) AS g (decimals, currencies)
CROSS JOIN LATERAL unnest(g.currencies) AS c (currency);
COMMENT ON VIEW etl.currency IS 'Currencies whose amounts do not have two decimals.';
COMMENT ON COLUMN etl.currency.currency IS 'Code of the currency, ISO 4217.';
COMMENT ON COLUMN etl.currency.decimals IS 'Digits after the decimal point.';
