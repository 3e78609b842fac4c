-- etl.apply_permissions(): owners, permissions and limits as the catalog declares them (etl.access_schema, etl.permission,
-- etl.definer_routine, etl.access_level). A second call changes nothing.

-- Makes the declared routines SECURITY DEFINER, which CREATE OR REPLACE resets. ET031 when a declared routine does not exist, or has no fixed search
-- path.
CREATE OR REPLACE FUNCTION etl._make_definers()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_make_definers$
DECLARE
    r_routine record;
BEGIN
    FOR r_routine IN
        SELECT
            format('%I.%I', d.schema_name, d.routine_name) AS name,
            o.identity,
            p.prosecdef AS is_definer,
            EXISTS (SELECT FROM unnest(p.proconfig) AS c (setting) WHERE c.setting = 'search_path=pg_catalog, pg_temp') AS is_bound
        FROM etl.definer_routine AS d
        LEFT JOIN etl.access_object AS o ON o.object_kind = 'routine' AND o.schema_name = d.schema_name AND o.object_name = d.routine_name
        LEFT JOIN pg_proc AS p ON p.oid = o.object_id
    LOOP
        IF r_routine.identity IS NULL OR NOT r_routine.is_bound THEN
            RAISE EXCEPTION 'routine % cannot be SECURITY DEFINER: %',
                    r_routine.name, CASE WHEN r_routine.identity IS NULL THEN 'it does not exist' ELSE 'it has no fixed search path' END
                USING ERRCODE = 'ET031', HINT = 'Correct the row of etl.definer_routine, or add to the routine: SET search_path = pg_catalog, pg_temp.';
        ELSIF NOT r_routine.is_definer THEN
            EXECUTE format('ALTER ROUTINE %s SECURITY DEFINER', r_routine.identity);
        END IF;
    END LOOP;
END
$_make_definers$;

-- Sets what no row of etl.permission says: the permissions that new objects get, and rights of the server. Routines of the owners are not for PUBLIC.
-- An object that the caller creates in a schema of an owner is open to that owner until the next call. A view of the contract that is dropped and
-- created again stays readable for the loads.
CREATE OR REPLACE FUNCTION etl._set_defaults()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_set_defaults$
DECLARE
    v_statement text;
BEGIN
    FOR v_statement IN
        -- PostgreSQL cannot revoke this default in single schemas. The owners create nothing but the warehouse; the caller may create other things.
        SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE EXECUTE ON ROUTINES FROM PUBLIC', r.rolname)
        FROM etl.owner_role AS o
        JOIN pg_roles AS r ON r.oid = o.role_id
        WHERE NOT EXISTS (SELECT FROM pg_default_acl AS d WHERE d.defaclrole = r.oid AND d.defaclnamespace = 0 AND d.defaclobjtype = 'f')
        UNION ALL
        SELECT format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT %s TO %I', n.nspname, g.privileges, g.role_name)
        FROM (
            SELECT s.schema_name, p.privileges, l.role_name
            FROM etl.access_schema AS s
            JOIN etl.access_level AS l ON l.level = s.owner_level
            CROSS JOIN (VALUES ('ALL ON TABLES'), ('EXECUTE ON ROUTINES')) AS p (privileges)
            UNION ALL
            SELECT p.schema_name, array_to_string(p.privileges, ', ') || ' ON TABLES', l.role_name
            FROM etl.permission AS p
            JOIN etl.access_level AS l USING (level)
            JOIN etl.owner_role AS o ON o.role_name = l.role_name
            JOIN etl.access_schema AS s ON s.schema_name = p.schema_name AND s.owner_level IS NULL
            WHERE p.object_kind = 'relation'
                AND p.object_name = '*'
                AND p.column_names IS NULL
                AND cardinality(p.privileges) > 0
        ) AS g
        JOIN pg_namespace AS n ON n.nspname = g.schema_name
        WHERE g.role_name <> current_user
            AND NOT EXISTS (
                SELECT
                FROM pg_default_acl AS d
                WHERE d.defaclrole = current_user::regrole
                    AND d.defaclnamespace = n.oid
                    AND d.defaclobjtype = 'r'
            )
        UNION ALL
        -- A large object belongs to no schema, so no permission of a schema holds it.
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
        FROM pg_proc AS p
        JOIN pg_roles AS r ON r.rolname = current_user AND r.rolsuper
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
            AND has_function_privilege('public', p.oid, 'EXECUTE')
        UNION ALL
        -- Without it, a load cannot tell an idle lock holder from an active one.
        SELECT format('GRANT pg_read_all_stats TO %I', o.role_name)
        FROM etl.owner_role AS o
        WHERE NOT pg_has_role(o.role_id, 'pg_read_all_stats', 'USAGE')
            AND pg_has_role('pg_read_all_stats', 'USAGE WITH ADMIN OPTION')
    LOOP
        BEGIN
            EXECUTE v_statement;
        EXCEPTION
            -- A concurrent migration of another database of the server grants the same membership.
            WHEN unique_violation OR SQLSTATE 'XX000' THEN
                IF v_statement NOT LIKE 'GRANT %' THEN
                    RAISE;
                END IF;
        END;
    END LOOP;
END
$_set_defaults$;

-- Call it after every change of the catalog or of the objects. The caller is a superuser, or the migrating role, which must be a member of the owning
-- role. Permissions of roles that are not a level stay (see etl.direct_grant). Writes owners, permissions and default privileges of the objects of
-- etl.access_object, limits of the users; audit.act if anything changed. ET030 when a group role is missing, ET031 when a routine of
-- etl.definer_routine is unsuitable.
CREATE OR REPLACE PROCEDURE etl.apply_permissions()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $apply_permissions$
DECLARE
    v_owned bigint;
    v_revoked bigint;
    v_granted bigint;
BEGIN
    -- On Citus, privileges on spread tables reach the nodes.
    PERFORM set_config('citus.enable_ddl_propagation', 'on', true);
    v_owned := etl._hand_over();
    PERFORM etl._make_definers();
    -- REVOKE on a table also revokes the privileges on its columns, so columns come second.
    v_revoked := etl._change_privileges('REVOKE', p_of_columns => false) + etl._change_privileges('REVOKE', p_of_columns => true);
    v_granted := etl._change_privileges('GRANT', p_of_columns => false) + etl._change_privileges('GRANT', p_of_columns => true);
    PERFORM etl._set_defaults();
    PERFORM etl._apply_limits();
    IF v_owned + v_revoked + v_granted > 0 THEN
        PERFORM audit.note(
            'permissions applied', current_database(),
            jsonb_build_object('handed_over', v_owned, 'revoked', v_revoked, 'granted', v_granted)
        );
    END IF;
END
$apply_permissions$;
COMMENT ON PROCEDURE etl.apply_permissions() IS 'Brings owners, permissions and limits in line with etl.access_schema, etl.permission, etl.definer_routine and etl.access_level.';
