-- Takes permissions and their catalog away; the warehouse then belongs to who rolls back. Group roles go with the last database that
-- uses them. Refused while somebody would lose more than permissions by it.

DO $refuse_to_lose$
BEGIN
    IF EXISTS (SELECT FROM etl.forgotten_subject) THEN
        RAISE EXCEPTION 'somebody was forgotten, which a rollback would undo at the next load'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT * FROM etl.forgotten_subject';
    ELSIF EXISTS (SELECT FROM etl.user_account) THEN
        RAISE EXCEPTION 'there are users, who would be left with logins that nobody manages'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Remove them first: oceanrecords users list, oceanrecords users remove.';
    ELSIF EXISTS (SELECT FROM audit.act AS a WHERE a.act <> 'permissions applied') THEN
        RAISE EXCEPTION 'the audit trail is not empty, and a rollback would lose it'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Save it, then DROP SCHEMA audit CASCADE says that you mean it.';
    END IF;
END
$refuse_to_lose$;

-- Routines work with the rights of their caller again: their owner may be a superuser from here on.
DO $make_invokers$
DECLARE
    v_routine regprocedure;
BEGIN
    FOR v_routine IN
        SELECT p.oid
        FROM pg_proc AS p
        WHERE p.pronamespace = 'etl'::regnamespace
            AND p.prosecdef
    LOOP
        EXECUTE format('ALTER ROUTINE %s SECURITY INVOKER', v_routine);
    END LOOP;
END
$make_invokers$;

DO $open_database$
BEGIN
    IF (SELECT pg_has_role(d.datdba, 'USAGE') FROM pg_database AS d WHERE d.datname = current_database()) THEN
        EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO public', current_database());
    END IF;
END
$open_database$;

DROP SCHEMA audit CASCADE;
DROP SCHEMA analysis CASCADE;

DO $remove_group_roles$
DECLARE
    v_role name;
BEGIN
    FOREACH v_role IN ARRAY ARRAY[
        'oceanrecords_owner', 'oceanrecords_etl', 'oceanrecords_analyst', 'oceanrecords_application', 'oceanrecords_auditor', 'oceanrecords_business',
        'oceanrecords_steward'
    ]
    LOOP
        -- Another database of the server may have dropped it: an engine alone gives the application nothing that would keep its role.
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = v_role);
        EXECUTE format('REASSIGN OWNED BY %I TO CURRENT_USER', v_role);
        EXECUTE format('DROP OWNED BY %I', v_role);
    END LOOP;
END
$remove_group_roles$;

DROP TRIGGER IF EXISTS bind_hook ON etl.setting;
DROP TRIGGER IF EXISTS withhold_values ON etl.task_run;
DROP PROCEDURE IF EXISTS etl.apply_permissions;
DROP FUNCTION IF EXISTS etl._make_definers;
DROP VIEW IF EXISTS etl.access_flaw, etl.access_limit, etl.permission_gap, etl.direct_grant, etl.column_status, etl._wanted_privilege, etl.access_object;
DROP VIEW IF EXISTS etl.user_status;
-- Extractions call it; nobody is forgotten.
CREATE OR REPLACE FUNCTION etl._suppress_forgotten(p_source_table name, p_relation regclass, p_batch_id bigint)
RETURNS bigint
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_suppress_forgotten$
    SELECT 0::bigint
$_suppress_forgotten$;
CREATE OR REPLACE FUNCTION etl._erase_expired()
RETURNS bigint
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS 'SELECT 0::bigint'; -- etl._maintain() calls it; nothing is declared to be personal.
CREATE OR REPLACE FUNCTION etl._hand_over_built()
RETURNS void
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS ''; -- etl.build() calls it; there is no owner to hand anything to.
DROP TABLE
    etl.forgotten_row,
    etl.forgotten_subject,
    etl.personal_column,
    etl.personal_object,
    etl.personal_subject,
    etl.pseudonym_secret,
    etl.published_view,
    etl.column_sensitivity,
    etl.country_access,
    etl.user_account,
    etl.definer_routine,
    etl.permission,
    etl.access_schema,
    etl.access_level
    CASCADE;

DO $drop_group_roles$
DECLARE
    v_role name;
BEGIN
    FOREACH v_role IN ARRAY ARRAY[
        'oceanrecords_owner', 'oceanrecords_etl', 'oceanrecords_analyst', 'oceanrecords_application', 'oceanrecords_auditor', 'oceanrecords_business',
        'oceanrecords_steward'
    ]
    LOOP
        BEGIN
            EXECUTE format('DROP ROLE %I', v_role);
        EXCEPTION
            WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use OR undefined_object THEN
                -- Another database of the server uses it, or has dropped it.
                NULL;
        END;
    END LOOP;
END
$drop_group_roles$;
