-- Power past the catalog: privileges, memberships and attributes of roles that neither etl.permission nor etl.grant_level gives.

CREATE OR REPLACE VIEW etl.direct_grant AS
WITH member AS (
    -- Logins that are held by levels.
    SELECT r.oid
    FROM etl.user_account AS u
    JOIN pg_roles AS r ON r.rolname = u.login
),
level AS (
    SELECT r.oid
    FROM etl.access_level AS l
    JOIN pg_roles AS r ON r.rolname = l.role_name
),
grantable AS (
    SELECT l.oid
    FROM level AS l
    EXCEPT
    SELECT o.role_id
    FROM etl.owner_role AS o
),
-- The privileges on objects, and of objects that will be created.
privilege (grantor_id, grantee_id, privilege, object_kind, schema_name, object_name, verb, target) AS (
    SELECT g.grantor, g.grantee, g.privilege_type, o.object_kind, o.schema_name, o.object_name, 'REVOKE ', format('%s %s', o.keyword, o.identity)
    FROM etl.access_object AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS g
    WHERE g.grantee <> o.owner_id
        AND (
            o.object_kind IN ('schema', 'relation', 'routine')
            -- Others may use the database, too.
            OR o.object_kind = 'database' AND g.privilege_type <> 'CONNECT' AND g.grantee IN (SELECT m.oid FROM member AS m)
        )
    UNION ALL
    SELECT
        g.grantor, g.grantee, format('%s (%I)', g.privilege_type, a.attname), 'column', o.schema_name, format('%s.%s', o.object_name, a.attname),
        'REVOKE ', format('TABLE %s', o.identity)
    FROM etl.access_object AS o
    JOIN pg_attribute AS a ON a.attrelid = o.object_id AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    WHERE o.object_kind = 'relation'
        AND g.grantee <> o.owner_id
    UNION ALL
    SELECT g.grantor, g.grantee, g.privilege_type, 'parameter', '', p.parname, 'REVOKE ', format('PARAMETER %s', p.parname)
    FROM pg_parameter_acl AS p
    CROSS JOIN LATERAL aclexplode(p.paracl) AS g
    WHERE g.grantee IN (SELECT m.oid FROM member AS m)
    UNION ALL
    SELECT
        d.defaclrole, g.grantee, g.privilege_type, 'default', coalesce(n.nspname, ''), k.objects,
        format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ', pg_get_userbyid(d.defaclrole), ' IN SCHEMA ' || quote_ident(n.nspname)), k.objects
    FROM pg_default_acl AS d
    LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS g
    CROSS JOIN LATERAL (
        SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END
    ) AS k (objects)
    WHERE g.grantee <> d.defaclrole
        AND CASE
            WHEN n.nspname IS NOT NULL THEN n.nspname IN (SELECT s.schema_name FROM etl.access_schema AS s)
            -- Defaults of other roles are for their own applications.
            ELSE g.grantee IN (SELECT m.oid FROM member AS m) OR g.grantee <> 0 AND d.defaclrole IN (SELECT l.oid FROM level AS l)
        END
),
-- Roles by which a level or a user becomes more than the catalog says.
power AS (
    SELECT r.oid
    FROM pg_roles AS r
    WHERE r.rolsuper
        OR r.rolname LIKE 'pg\_%'
        OR r.oid IN (SELECT l.oid FROM level AS l)
        OR r.oid IN (SELECT m.oid FROM member AS m)
),
membership AS (
    SELECT
        m.grantor,
        m.member,
        g.oid AS group_id,
        g.rolname AS group_name,
        -- A level given by etl.grant_level comes without ADMIN OPTION: only the option is too much.
        m.member IN (SELECT u.oid FROM member AS u) AND g.oid IN (SELECT l.oid FROM grantable AS l) AS is_given,
        m.admin_option
    FROM pg_auth_members AS m
    JOIN pg_roles AS g ON g.oid = m.roleid
    JOIN pg_roles AS r ON r.oid = m.member AND NOT r.rolsuper
    WHERE (
        g.oid IN (SELECT l.oid FROM grantable AS l)
        OR EXISTS (
            SELECT
            FROM power AS p
            WHERE pg_has_role(g.oid, p.oid, 'MEMBER')
                -- etl.access_flaw has users with several levels by way of a group.
                AND (p.oid NOT IN (SELECT l.oid FROM grantable AS l) OR m.member IN (SELECT l.oid FROM level AS l))
        )
    )
        AND (
            m.member IN (SELECT u.oid FROM member AS u)
            OR m.member IN (SELECT l.oid FROM level AS l) AND NOT (g.rolname = 'pg_read_all_stats' AND m.member IN (SELECT o.role_id FROM etl.owner_role AS o))
            -- Since PostgreSQL 16, a role that may create roles is a member of those it created.
            OR g.oid IN (SELECT u.oid FROM member AS u) AND NOT r.rolcreaterole
        )
)
SELECT
    CASE p.grantee_id WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(p.grantee_id) END AS grantee,
    split_part(p.privilege, ' (', 1) AS privilege,
    p.object_kind,
    p.schema_name,
    p.object_name,
    pg_get_userbyid(p.grantor_id) AS grantor,
    format(
        '%s%s ON %s FROM %s%s', p.verb, p.privilege, p.target, CASE p.grantee_id WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee_id)) END,
        CASE WHEN p.object_kind <> 'default' THEN ' CASCADE' END
    ) AS statement
FROM privilege AS p
LEFT JOIN pg_roles AS r ON r.oid = p.grantee_id
WHERE r.rolsuper IS NOT TRUE
    -- etl.apply_permissions brings the privileges of levels in line with the catalog.
    AND p.grantee_id NOT IN (SELECT l.oid FROM level AS l)
UNION ALL
SELECT
    pg_get_userbyid(m.member),
    CASE WHEN m.is_given THEN 'ADMIN OPTION' ELSE 'MEMBER' END,
    'role',
    '',
    m.group_name,
    pg_get_userbyid(m.grantor),
    format(
        'REVOKE %s%I FROM %I%s', CASE WHEN m.is_given THEN 'ADMIN OPTION FOR ' END, m.group_name, pg_get_userbyid(m.member),
        CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) END
    )
FROM membership AS m
WHERE NOT m.is_given
    OR m.admin_option
UNION ALL
SELECT r.rolname, a.name, 'attribute', '', r.rolname, '', format('ALTER ROLE %I NO%s', r.rolname, a.name)
FROM member AS m
JOIN pg_roles AS r USING (oid)
CROSS JOIN LATERAL (
    VALUES
        ('SUPERUSER', r.rolsuper), ('CREATEROLE', r.rolcreaterole), ('CREATEDB', r.rolcreatedb), ('REPLICATION', r.rolreplication),
        ('BYPASSRLS', r.rolbypassrls)
) AS a (name, is_set)
WHERE a.is_set;
COMMENT ON VIEW etl.direct_grant IS 'Privileges in the warehouse, memberships and attributes of its users that the catalog does not give: to people, programs and PUBLIC, and by default privileges. etl.revoke_direct_grants takes them away.';
COMMENT ON COLUMN etl.direct_grant.grantee IS 'Role that has the privilege, or PUBLIC.';
COMMENT ON COLUMN etl.direct_grant.privilege IS 'Privilege; MEMBER or ADMIN OPTION of a role; or attribute of the role, such as SUPERUSER.';
COMMENT ON COLUMN etl.direct_grant.object_kind IS 'database, schema, relation, routine, column, parameter, role, attribute, or default: objects that will be created.';
COMMENT ON COLUMN etl.direct_grant.schema_name IS 'Schema; empty for a role, and for default privileges in all schemas.';
COMMENT ON COLUMN etl.direct_grant.object_name IS 'Name; of a column, relation.column; of default privileges, the kind of objects.';
COMMENT ON COLUMN etl.direct_grant.grantor IS 'Role that granted it.';
COMMENT ON COLUMN etl.direct_grant.statement IS 'Statement that takes it away.';

-- Ends the sessions of the users that had them. p_grantee may be PUBLIC; NULL for all. Writes permissions, default privileges, memberships and roles;
-- audit.act. ET032 when the caller may not change one of them, ET043 when a session does not end.
CREATE OR REPLACE FUNCTION etl.revoke_direct_grants(p_grantee text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $revoke_direct_grants$
DECLARE
    r_grant record;
    v_grantees text[] := ARRAY[]::text[];
BEGIN
    FOR r_grant IN
        SELECT g.*
        FROM etl.direct_grant AS g
        WHERE p_grantee IS NULL
            OR g.grantee = p_grantee
        ORDER BY g.statement
    LOOP
        BEGIN
            EXECUTE r_grant.statement;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'permission denied to revoke % of "%" on %',
                        r_grant.privilege, r_grant.grantee, concat_ws('.', nullif(r_grant.schema_name, ''), r_grant.object_name)
                    USING ERRCODE = 'ET032', HINT = format('Let a superuser execute: %s;', r_grant.statement);
        END;
        v_grantees := v_grantees || r_grant.grantee::text;
    END LOOP;
    PERFORM etl.end_sessions(u.login)
    FROM etl.user_account AS u
    WHERE u.login = ANY (v_grantees)
        AND u.login <> session_user;
    IF cardinality(v_grantees) > 0 THEN
        PERFORM audit.note('direct grants revoked', coalesce(p_grantee, current_database()), jsonb_build_object('privileges', cardinality(v_grantees)));
    END IF;
    RETURN cardinality(v_grantees);
END
$revoke_direct_grants$;
COMMENT ON FUNCTION etl.revoke_direct_grants(text) IS 'Takes away what etl.direct_grant lists, from a role or from all; returns the number of privileges.';
