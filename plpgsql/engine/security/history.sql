-- What a run calls for others, and what its history tells.

-- Trigger: the alert hook is called with the rights of the role that named it, by audit._call_hook. A run has the rights of the owner of the
-- warehouse, who has none in other schemas. A hook in a schema of an owner is called with the owner's rights: code with these rights could replace
-- it.
CREATE OR REPLACE FUNCTION etl._bind_hook()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_bind_hook$
DECLARE
    v_call text;
BEGIN
    IF NOT has_schema_privilege('audit', 'CREATE') THEN
        RETURN NULL;
    END IF;
    DROP FUNCTION IF EXISTS audit._call_hook(text, text, jsonb);
    BEGIN
        v_call := replace(replace(replace(etl._hook_call(NEW.value), '$1::text', 'p_kind'), '$2::text', 'p_message'), '$3::jsonb', 'p_details');
    EXCEPTION
        WHEN OTHERS THEN
            RETURN NULL;
    END;
    IF EXISTS (
        SELECT
        FROM etl.access_schema AS s
        WHERE s.owner_level IS NOT NULL
            AND starts_with(v_call, format('CALL %I.', s.schema_name))
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format(
        'CREATE FUNCTION audit.%I(p_kind text, p_message text, p_details jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER'
        ' SET search_path = pg_catalog, pg_temp AS %L', '_call_hook', format('BEGIN %s; END', v_call)
    );
    EXECUTE format('COMMENT ON FUNCTION audit._call_hook(text, text, jsonb) IS %L', NEW.value);
    REVOKE ALL ON FUNCTION audit._call_hook(text, text, jsonb) FROM PUBLIC;
    PERFORM etl._execute(ARRAY(
        SELECT format('GRANT EXECUTE ON FUNCTION audit._call_hook(text, text, jsonb) TO %I', o.role_name) FROM etl.owner_role AS o
    ));
    RETURN NULL;
END
$_bind_hook$;

CREATE OR REPLACE TRIGGER bind_hook
    AFTER INSERT OR UPDATE OF value ON etl.setting
    FOR EACH ROW
    WHEN (NEW.value_type = 'procedure')
    EXECUTE FUNCTION etl._bind_hook();

-- Trigger: removes values of rows from errors of the data. PostgreSQL quotes them: "Failing row contains (…)", "Key (email)=(…) already exists",
-- "invalid input syntax for type integer: …". Auditors read the history of runs.
CREATE OR REPLACE FUNCTION etl._withhold_values()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_withhold_values$
BEGIN
    NEW.detail := CASE WHEN NEW.detail <> '' THEN 'Withheld, as it quotes a row; see etl.quarantine.' END;
    NEW.message := etl._without_values(NEW.sqlstate, NEW.message);
    RETURN NEW;
END
$_withhold_values$;

CREATE OR REPLACE TRIGGER withhold_values
    BEFORE INSERT OR UPDATE OF message, detail ON etl.task_run
    FOR EACH ROW
    WHEN (NEW.sqlstate ~ '^(22|23|42|HV)')
    EXECUTE FUNCTION etl._withhold_values();
