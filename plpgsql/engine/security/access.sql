-- Who owns what and who may do what, brought in line with what the catalog says (etl.access_schema, etl.permission, etl.definer_routine).
--
-- Objects are handed to their owner after they were made, by whomever that was: CREATE OR REPLACE keeps owner and permissions of
-- what is there, and what is new belongs to who migrates until etl.apply_permissions has been called. Permissions are compared first and
-- only what differs is granted or revoked, so that a call with nothing to do costs next to nothing. The permissions of roles that are
-- no level are none of its business.
--
-- The database and the routines of extensions belong to whom they belong: their permissions are brought in line where the caller may do
-- that, and etl.access_flaw tells where he may not. Grants past the catalog (etl.direct_grant) are reported, and revoked on request.

CREATE OR REPLACE VIEW etl.access_object AS
SELECT
    'database' AS object_kind,
    ''::name AS schema_name,
    d.datname AS object_name,
    d.oid AS object_id,
    'DATABASE' AS keyword,
    quote_ident(d.datname) AS identity,
    d.datdba AS owner_id,
    coalesce(d.datacl, acldefault('d', d.datdba)) AS acl,
    false AS is_part
FROM pg_database AS d
WHERE d.datname = current_database()
UNION ALL
SELECT
    'extension',
    e.extname,
    p.proname,
    p.oid,
    'ROUTINE',
    format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
    p.proowner,
    coalesce(p.proacl, acldefault('f', p.proowner)),
    false
FROM pg_extension AS e
JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE EXISTS (SELECT FROM etl.permission AS m
    WHERE m.object_kind = 'extension' AND m.schema_name = e.extname)
UNION ALL
SELECT
    'schema',
    n.nspname,
    n.nspname,
    n.oid,
    'SCHEMA',
    quote_ident(n.nspname),
    n.nspowner,
    coalesce(n.nspacl, acldefault('n', n.nspowner)),
    false
FROM pg_namespace AS n
JOIN etl.access_schema AS s ON s.schema_name = n.nspname
UNION ALL
SELECT
    'relation',
    n.nspname,
    c.relname,
    c.oid,
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
    format('%I.%I', n.nspname, c.relname),
    c.relowner,
    coalesce(c.relacl, acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", c.relowner)),
    exists(
        SELECT
        FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('i', 'a')
            AND c.relkind = 'S'
    )
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN etl.access_schema AS s ON s.schema_name = n.nspname
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT
    'routine',
    n.nspname,
    p.proname,
    p.oid,
    'ROUTINE',
    format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
    p.proowner,
    coalesce(p.proacl, acldefault('f', p.proowner)),
    false
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN etl.access_schema AS s ON s.schema_name = n.nspname
WHERE NOT EXISTS (SELECT FROM pg_depend AS d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');
COMMENT ON VIEW etl.access_object IS 'All objects whose permissions are declared: the database, what is in the schemas of etl.access_schema, and the routines of the extensions that etl.permission names.';
COMMENT ON COLUMN etl.access_object.object_kind IS 'database, extension (a routine of one), schema, relation or routine.';
COMMENT ON COLUMN etl.access_object.schema_name IS 'Schema; the extension of its routines; empty for the database.';
COMMENT ON COLUMN etl.access_object.object_name IS 'Name.';
COMMENT ON COLUMN etl.access_object.object_id IS 'Object identifier.';
COMMENT ON COLUMN etl.access_object.keyword IS 'What ALTER calls it.';
COMMENT ON COLUMN etl.access_object.identity IS 'Its name as SQL writes it.';
COMMENT ON COLUMN etl.access_object.owner_id IS 'Role that owns it.';
COMMENT ON COLUMN etl.access_object.acl IS 'Permissions that it has.';
COMMENT ON COLUMN etl.access_object.is_part IS 'Whether it belongs to a column of a table (a sequence), and needs no permission of its own.';

CREATE OR REPLACE VIEW etl.permission_gap AS
SELECT o.object_kind, o.schema_name, o.object_name
FROM etl.access_object AS o
WHERE NOT o.is_part
    AND NOT EXISTS (
        SELECT
        FROM etl.permission AS p
        WHERE p.object_kind = o.object_kind
            AND p.schema_name = o.schema_name
            AND o.object_name LIKE replace(replace(p.object_name, '_', '\_'), '*', '%')
    )
UNION ALL
SELECT 'schema', n.nspname, n.nspname
FROM pg_namespace AS n
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'public')
    AND n.nspname NOT LIKE 'pg\_%'
    AND NOT EXISTS (SELECT FROM etl.access_schema AS s
        WHERE s.schema_name = n.nspname)
    AND NOT EXISTS (SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
UNION ALL
SELECT 'column', s.schema_name, format('%s.%s', s.object_name, s.column_name)
FROM etl.column_status AS s
WHERE s.sensitivity IS NULL;
COMMENT ON VIEW etl.permission_gap IS 'What nobody has decided about: objects that no row of etl.permission names, schemas that no row of etl.access_schema names, columns that no row of etl.column_sensitivity names. Only the owner reads them.';
COMMENT ON COLUMN etl.permission_gap.object_kind IS 'As in etl.access_object, or column.';
COMMENT ON COLUMN etl.permission_gap.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.permission_gap.object_name IS 'Name; of a column, relation.column.';

CREATE OR REPLACE VIEW etl.direct_grant AS
WITH entry (grantor_id, grantee_id, privilege, object_kind, schema_name, object_name, statement) AS (
    SELECT
        g.grantor,
        g.grantee,
        g.privilege_type,
        o.object_kind,
        o.schema_name,
        o.object_name,
        format(
            'REVOKE %s ON %s %s', g.privilege_type, CASE WHEN o.object_kind = 'relation' AND o.keyword <> 'SEQUENCE' THEN 'TABLE' ELSE o.keyword END,
            o.identity
        )
    FROM etl.access_object AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS g
    WHERE o.object_kind IN ('schema', 'relation', 'routine')
        AND g.grantee <> o.owner_id
    UNION ALL
    SELECT
        g.grantor,
        g.grantee,
        g.privilege_type,
        'column',
        o.schema_name,
        format('%s.%s', o.object_name, a.attname),
        format('REVOKE %s (%I) ON TABLE %s', g.privilege_type, a.attname, o.identity)
    FROM etl.access_object AS o
    JOIN pg_attribute AS a ON a.attrelid = o.object_id AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    WHERE o.object_kind = 'relation'
        AND g.grantee <> o.owner_id
    UNION ALL
    SELECT
        d.defaclrole,
        g.grantee,
        g.privilege_type,
        'default',
        coalesce(n.nspname, ''),
        k.objects,
        format(
            'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I REVOKE %s ON %s',
            pg_get_userbyid(d.defaclrole), n.nspname, g.privilege_type, k.objects
        )
    FROM pg_default_acl AS d
    JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    JOIN etl.access_schema AS s ON s.schema_name = n.nspname
    CROSS JOIN LATERAL aclexplode(d.defaclacl) AS g
    CROSS JOIN LATERAL (
        SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END
    ) AS k (objects)
    WHERE g.grantee <> d.defaclrole
)
SELECT
    CASE WHEN e.grantee_id = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(e.grantee_id) END AS grantee,
    e.privilege,
    e.object_kind,
    e.schema_name,
    e.object_name,
    pg_get_userbyid(e.grantor_id) AS grantor,
    format(
        '%s FROM %s%s', e.statement, CASE WHEN e.grantee_id = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee_id)) END,
        CASE WHEN e.object_kind = 'default' THEN '' ELSE ' CASCADE' END
    ) AS statement
FROM entry AS e
LEFT JOIN pg_roles AS r ON r.oid = e.grantee_id
WHERE r.rolsuper IS NOT TRUE
    -- What levels have is brought in line with the catalog by etl.apply_permissions.
    AND NOT EXISTS (SELECT FROM etl.access_level AS l
        WHERE l.role_name = r.rolname);
COMMENT ON VIEW etl.direct_grant IS 'Privileges in the schemas of the warehouse that the catalog does not give: to people, programs and PUBLIC, and by default privileges. etl.revoke_direct_grants takes them away.';
COMMENT ON COLUMN etl.direct_grant.grantee IS 'Role that has the privilege, or PUBLIC.';
COMMENT ON COLUMN etl.direct_grant.privilege IS 'Privilege.';
COMMENT ON COLUMN etl.direct_grant.object_kind IS 'schema, relation, routine, column, or default: objects that will be created.';
COMMENT ON COLUMN etl.direct_grant.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.direct_grant.object_name IS 'Name; of a column, relation.column; of default privileges, the kind of objects.';
COMMENT ON COLUMN etl.direct_grant.grantor IS 'Role that granted it.';
COMMENT ON COLUMN etl.direct_grant.statement IS 'Statement that takes it away.';

/*
Takes away privileges that the catalog does not give.
Parameters: p_grantee, the role that has them, or PUBLIC; NULL for all.
Returns:    number of privileges.
Writes:     permissions and default privileges, audit.act.
Errors:     ET032 when the caller may not change one of them.
*/
CREATE OR REPLACE FUNCTION etl.revoke_direct_grants(p_grantee text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $revoke_direct_grants$
DECLARE
    r_grant record;
    v_count bigint := 0;
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
                RAISE EXCEPTION 'permission denied to revoke what "%" has on %.%', r_grant.grantee, r_grant.schema_name, r_grant.object_name
                    USING ERRCODE = 'ET032', HINT = format('Let "%s", or a superuser, execute: %s;', r_grant.grantor, r_grant.statement);
        END;
        v_count := v_count + 1;
    END LOOP;
    IF v_count > 0 THEN
        PERFORM etl._audit('direct grants revoked', coalesce(p_grantee, current_database()), jsonb_build_object('privileges', v_count));
    END IF;
    RETURN v_count;
END
$revoke_direct_grants$;
COMMENT ON FUNCTION etl.revoke_direct_grants(text) IS 'Takes away privileges that the catalog does not give, from a role or from all; returns their number.';

CREATE OR REPLACE VIEW etl.access_limit AS
WITH wanted AS (
    SELECT
        r.oid AS role_id,
        r.rolname AS login,
        r.rolconnlimit AS present_limit,
        -- Of several levels the most generous counts, and none has no limit.
        CASE WHEN bool_and(l.connection_limit IS NOT NULL) THEN max(l.connection_limit) ELSE -1 END AS connection_limit,
        CASE WHEN bool_and(l.statement_timeout IS NOT NULL) THEN max(l.statement_timeout) END AS statement_timeout,
        CASE WHEN bool_and(l.idle_timeout IS NOT NULL) THEN max(l.idle_timeout) END AS idle_timeout,
        CASE WHEN bool_and(l.temporary_space IS NOT NULL) THEN max(l.temporary_space) END AS temporary_space
    FROM etl.user_account AS u
    JOIN pg_roles AS r ON r.rolname = u.login AND NOT r.rolsuper
    JOIN pg_auth_members AS m ON m.member = r.oid
    JOIN pg_roles AS g ON g.oid = m.roleid
    JOIN etl.access_level AS l ON l.role_name = g.rolname
    GROUP BY r.oid, r.rolname, r.rolconnlimit
)
SELECT
    w.login,
    'connections' AS name,
    nullif(w.connection_limit, -1)::text AS wanted,
    nullif(w.present_limit, -1)::text AS present,
    format('ALTER ROLE %I CONNECTION LIMIT %s', w.login, w.connection_limit) AS statement
FROM wanted AS w
UNION ALL
SELECT
    w.login,
    p.name,
    p.wanted,
    p.present,
    format(
        'ALTER ROLE %I IN DATABASE %I %s', w.login, current_database(),
        CASE WHEN p.wanted IS NULL THEN format('RESET %s', p.name) ELSE format('SET %s = %L', p.name, p.wanted) END
    )
FROM wanted AS w
CROSS JOIN LATERAL (
    SELECT v.name, v.wanted, substring(c.setting FROM '=(.*)$') AS present
    FROM (
        VALUES
            ('statement_timeout', (extract(epoch FROM w.statement_timeout) * 1000)::bigint || 'ms'),
            ('idle_in_transaction_session_timeout', (extract(epoch FROM w.idle_timeout) * 1000)::bigint || 'ms'),
            ('temp_file_limit', w.temporary_space / 1024 || 'kB')
    ) AS v (name, wanted)
    LEFT JOIN pg_db_role_setting AS s ON s.setrole = w.role_id
        AND s.setdatabase = (SELECT d.oid FROM pg_database AS d
            WHERE d.datname = current_database())
    LEFT JOIN LATERAL unnest(s.setconfig) AS c (setting) ON split_part(c.setting, '=', 1) = v.name
) AS p;
COMMENT ON VIEW etl.access_limit IS 'Limits of the users: what their levels give them, and what they have.';
COMMENT ON COLUMN etl.access_limit.login IS 'User.';
COMMENT ON COLUMN etl.access_limit.name IS 'connections, or the setting.';
COMMENT ON COLUMN etl.access_limit.wanted IS 'Limit of the levels; NULL for none.';
COMMENT ON COLUMN etl.access_limit.present IS 'Limit that is set; NULL for none.';
COMMENT ON COLUMN etl.access_limit.statement IS 'Statement that sets what the levels give.';

/*
Sets the limits that the levels of the users give. What the caller may not set stays: temp_file_limit takes a superuser.
Parameters: p_login, the user; NULL for all.
Returns:    number of limits that changed.
Writes:     roles of the server.
*/
CREATE OR REPLACE FUNCTION etl._set_limits(p_login text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_set_limits$
DECLARE
    v_statement text;
    v_count bigint := 0;
BEGIN
    FOR v_statement IN
        SELECT a.statement
        FROM etl.access_limit AS a
        WHERE a.wanted IS DISTINCT FROM a.present
            AND (p_login IS NULL OR a.login = p_login)
    LOOP
        BEGIN
            EXECUTE v_statement;
            v_count := v_count + 1;
        EXCEPTION
            WHEN insufficient_privilege THEN
                NULL;
        END;
    END LOOP;
    RETURN v_count;
END
$_set_limits$;
COMMENT ON FUNCTION etl._set_limits(text) IS 'Sets the limits that the levels of the users give; returns how many changed.';

/*
Takes the right to create large objects from PUBLIC: they belong to no schema, so no permission of a schema holds them. A superuser alone can.
*/
CREATE OR REPLACE FUNCTION etl._refuse_large_objects()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_refuse_large_objects$
DECLARE
    v_routine regprocedure;
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RETURN;
    END IF;
    FOR v_routine IN
        SELECT p.oid
        FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
            AND has_function_privilege('public', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', v_routine);
    END LOOP;
END
$_refuse_large_objects$;
COMMENT ON FUNCTION etl._refuse_large_objects() IS 'Takes the right to create large objects from PUBLIC.';

CREATE OR REPLACE VIEW etl.access_flaw AS
SELECT
    l.role_name AS object,
    true AS is_fatal,
    format('there is no group role "%s"', l.role_name) AS problem,
    format('CREATE ROLE %I NOLOGIN; then oceanrecords migrate', l.role_name) AS remedy
FROM etl.access_level AS l
WHERE NOT EXISTS (SELECT FROM pg_roles AS r
    WHERE r.rolname = l.role_name)
UNION ALL
SELECT
    l.role_name,
    false,
    format('the group role "%s" is more than a group: %s', l.role_name, p.powers),
    format('ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION;', l.role_name)
FROM etl.access_level AS l
JOIN pg_roles AS r ON r.rolname = l.role_name
CROSS JOIN LATERAL concat_ws(
    ', ',
    CASE WHEN r.rolcanlogin THEN 'a login' END,
    CASE WHEN r.rolsuper THEN 'a superuser' END,
    CASE WHEN r.rolcreaterole THEN 'able to create roles' END,
    CASE WHEN r.rolcreatedb THEN 'able to create databases' END,
    CASE WHEN r.rolbypassrls THEN 'free of row security' END,
    CASE WHEN r.rolreplication THEN 'able to replicate' END
) AS p (powers)
WHERE p.powers <> ''
UNION ALL
SELECT
    m.login,
    false,
    format('the login "%s" has %s levels: %s', m.login, cardinality(m.levels), array_to_string(m.levels, ', ')),
    format('oceanrecords users revoke %s LEVEL, unless it is meant to have them all', m.login)
FROM (
    SELECT r.rolname AS login, array_agg(l.level ORDER BY l.level) AS levels
    FROM pg_roles AS r
    JOIN pg_roles AS g ON g.rolname <> r.rolname
    JOIN etl.access_level AS l ON l.role_name = g.rolname
    WHERE r.rolcanlogin
        AND NOT r.rolsuper
        -- Who may create roles belongs to those that he made, so that he can grant them; he has their rights only if he gave them to himself.
        AND (pg_has_role(r.oid, g.oid, 'USAGE') OR NOT r.rolcreaterole AND pg_has_role(r.oid, g.oid, 'MEMBER'))
        AND NOT EXISTS (SELECT FROM etl.access_level AS o
            WHERE o.role_name = r.rolname)
    GROUP BY r.rolname
) AS m
WHERE cardinality(m.levels) > 1
UNION ALL
SELECT
    o.schema_name,
    false,
    CASE o.object_kind
        WHEN 'database' THEN format('everybody may %s the database "%s"', string_agg(
            CASE g.privilege_type WHEN 'CONNECT' THEN 'connect to' WHEN 'TEMPORARY' THEN 'make temporary tables in' ELSE 'create schemas in' END,
            ' and ' ORDER BY g.privilege_type
        ), min(o.object_name::text))
        ELSE format('everybody may execute %s routines of the extension %s', count(*), o.schema_name)
    END,
    format('Let %I, or a superuser, do: CALL etl.apply_permissions();', pg_get_userbyid(o.owner_id))
FROM etl.access_object AS o
CROSS JOIN LATERAL aclexplode(o.acl) AS g
WHERE o.object_kind IN ('database', 'extension')
    AND g.grantee = 0
GROUP BY o.object_kind, o.schema_name, o.owner_id
UNION ALL
SELECT
    g.grantee,
    false,
    format(
        '%s has privileges that are not declared: %s%s', CASE g.grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE format('the role "%s"', g.grantee) END,
        string_agg(g.told, ', ' ORDER BY g.told) FILTER (WHERE g.place <= 5),
        CASE WHEN count(*) > 5 THEN format(' and %s more', count(*) - 5) ELSE '' END
    ),
    format('oceanrecords users grants --revoke %I', g.grantee)
FROM (
    SELECT d.grantee, d.told, row_number() OVER (PARTITION BY d.grantee ORDER BY d.told) AS place
    FROM (
        SELECT
            m.grantee,
            format(
                '%s on %s%s', string_agg(DISTINCT m.privilege, ', '), CASE m.object_kind WHEN 'default' THEN 'new ' WHEN 'schema' THEN 'schema ' ELSE '' END,
                CASE m.object_kind WHEN 'schema' THEN m.schema_name::text ELSE format('%s.%s', m.schema_name, m.object_name) END
            ) AS told
        FROM etl.direct_grant AS m
        GROUP BY m.grantee, m.object_kind, m.schema_name, m.object_name
    ) AS d
) AS g
GROUP BY g.grantee
UNION ALL
SELECT
    c.schema_name,
    false,
    format(
        'nobody has decided how sensitive %s: %s%s',
        CASE count(*) WHEN 1 THEN 'a column is' ELSE format('%s columns are', count(*)) END,
        string_agg(c.told, ', ' ORDER BY c.told) FILTER (WHERE c.place <= 5),
        CASE WHEN count(*) > 5 THEN format(' and %s more', count(*) - 5) ELSE '' END
    ),
    'INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity) VALUES (…), then publish; until then analysts do not see it'
FROM (
    SELECT
        p.schema_name,
        format('%s.%s', p.schema_name, p.object_name) AS told,
        row_number() OVER (PARTITION BY p.schema_name ORDER BY p.object_name) AS place
    FROM etl.permission_gap AS p
    WHERE p.object_kind = 'column'
) AS c
GROUP BY c.schema_name
UNION ALL
SELECT
    a.login,
    false,
    format(
        'limits of the user "%s" are not as its levels say: %s', a.login,
        string_agg(format('%s %s, not %s', a.name, coalesce(a.present, 'none'), coalesce(a.wanted, 'none')), '; ' ORDER BY a.name)
    ),
    'Let a superuser execute: CALL etl.apply_permissions();'
FROM etl.access_limit AS a
WHERE a.wanted IS DISTINCT FROM a.present
GROUP BY a.login
UNION ALL
SELECT
    l.role_name,
    false,
    format('the role "%s" does not see whether sessions of other roles are idle', l.role_name),
    format('Let a superuser execute: GRANT pg_read_all_stats TO %I;', l.role_name)
FROM (SELECT DISTINCT s.owner_level FROM etl.access_schema AS s
    WHERE s.owner_level IS NOT NULL) AS w
JOIN etl.access_level AS l ON l.level = w.owner_level
JOIN pg_roles AS o ON o.rolname = l.role_name
WHERE NOT pg_has_role(o.oid, 'pg_read_all_stats', 'USAGE')
UNION ALL
SELECT
    m.rolname,
    false,
    format('the user "%s" is a member of "%s", which owns the warehouse', m.rolname, o.rolname),
    format('REVOKE %I FROM %I;', o.rolname, m.rolname)
FROM (SELECT DISTINCT s.owner_level FROM etl.access_schema AS s
    WHERE s.owner_level IS NOT NULL) AS w
JOIN etl.access_level AS l ON l.level = w.owner_level
JOIN pg_roles AS o ON o.rolname = l.role_name
JOIN pg_roles AS m ON m.oid <> o.oid AND NOT m.rolsuper AND pg_has_role(m.oid, o.oid, 'MEMBER')
JOIN etl.user_account AS u ON u.login = m.rolname;
COMMENT ON VIEW etl.access_flaw IS 'What is not as it should be with group roles, logins and PUBLIC, and what to do about it. `oceanrecords doctor` shows it.';
COMMENT ON COLUMN etl.access_flaw.object IS 'Role, or extension; empty for the database.';
COMMENT ON COLUMN etl.access_flaw.is_fatal IS 'Whether the warehouse cannot do without.';
COMMENT ON COLUMN etl.access_flaw.problem IS 'What is wrong, in one sentence.';
COMMENT ON COLUMN etl.access_flaw.remedy IS 'What to do about it.';

/*
Privileges that the catalog gives. Whoever may read a view may execute the functions in it, too: PostgreSQL asks the reader for that
right, although the view reads its tables with its owner's.
Returns:    object, number of the column (0 for the object), role, privilege.
*/
CREATE OR REPLACE FUNCTION etl._wanted_privileges()
RETURNS TABLE (object_id oid, column_number smallint, role_id oid, privilege text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_wanted_privileges$
    WITH RECURSIVE declared AS MATERIALIZED (
        SELECT o.object_kind, o.object_id, p.column_names, r.oid AS role_id, v.privilege
        FROM etl.permission AS p
        JOIN etl.access_level AS l USING (level)
        JOIN pg_roles AS r ON r.rolname = l.role_name
        JOIN etl.access_object AS o ON o.object_kind = p.object_kind
            AND o.schema_name = p.schema_name
            AND o.object_name LIKE replace(replace(p.object_name, '_', '\_'), '*', '%')
            AND o.owner_id <> r.oid
            AND NOT o.is_part
        CROSS JOIN LATERAL unnest(p.privileges) AS v (privilege)
    ),
    part AS MATERIALIZED (
        SELECT DISTINCT w.ev_class AS view_id, d.refclassid, d.refobjid
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        WHERE d.refobjid <> w.ev_class
            AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
    ),
    read (relation_id, role_id) AS (
        SELECT d.object_id, d.role_id
        FROM declared AS d
        WHERE d.object_kind = 'relation'
            AND d.privilege = 'SELECT'
        UNION
        SELECT p.refobjid, r.role_id
        FROM read AS r
        JOIN part AS p ON p.view_id = r.relation_id AND p.refclassid = 'pg_class'::regclass
    )
    SELECT d.object_id, coalesce(a.attnum, 0::smallint), d.role_id, d.privilege
    FROM declared AS d
    LEFT JOIN pg_attribute AS a ON a.attrelid = d.object_id AND a.attname = ANY (d.column_names) AND d.column_names IS NOT NULL
    WHERE d.column_names IS NULL
        OR a.attnum IS NOT NULL
    UNION
    SELECT o.object_id, 0::smallint, r.role_id, 'EXECUTE'
    FROM read AS r
    JOIN part AS p ON p.view_id = r.relation_id AND p.refclassid = 'pg_proc'::regclass
    JOIN etl.access_object AS o ON o.object_id = p.refobjid AND o.object_kind = 'routine' AND o.owner_id <> r.role_id
$_wanted_privileges$;
COMMENT ON FUNCTION etl._wanted_privileges() IS 'Privileges that the catalog gives, on objects and columns.';

/*
Privileges that the levels and PUBLIC have.
Returns:    object, number of the column (0 for the object), role (0 for PUBLIC), privilege.
*/
CREATE OR REPLACE FUNCTION etl._present_privileges()
RETURNS TABLE (object_id oid, column_number smallint, role_id oid, privilege text)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_present_privileges$
    SELECT o.object_id, 0::smallint, g.grantee, g.privilege_type
    FROM etl.access_object AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS g
    WHERE g.grantee <> o.owner_id
        AND (g.grantee = 0 OR pg_get_userbyid(g.grantee) IN (SELECT l.role_name FROM etl.access_level AS l))
    UNION
    SELECT o.object_id, a.attnum, g.grantee, g.privilege_type
    FROM etl.access_object AS o
    JOIN pg_attribute AS a ON a.attrelid = o.object_id AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    WHERE o.object_kind = 'relation'
        AND g.grantee <> o.owner_id
        AND (g.grantee = 0 OR pg_get_userbyid(g.grantee) IN (SELECT l.role_name FROM etl.access_level AS l))
$_present_privileges$;
COMMENT ON FUNCTION etl._present_privileges() IS 'Privileges that the levels and PUBLIC have, on objects and columns.';

/*
Hands the objects of the schemas to their owners.
Errors: ET030 when an owner's role is missing.
*/
CREATE OR REPLACE FUNCTION etl._hand_over()
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_hand_over$
DECLARE
    v_role name;
    v_statements text[];
    v_statement text;
BEGIN
    SELECT l.role_name
    INTO v_role
    FROM etl.access_level AS l
    WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = l.role_name)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'there is no role "%"', v_role
            USING ERRCODE = 'ET030', HINT = format('CREATE ROLE %I NOLOGIN; then apply the permissions again: oceanrecords migrate.', v_role);
    END IF;

    -- All of them before the first is executed: a table that a query is reading cannot be altered. Schemas first: who is to own an
    -- object must be allowed to create in its schema.
    SELECT array_agg(format('ALTER %s %s OWNER TO %I', c.keyword, c.identity, c.role_name) ORDER BY c.step)
    INTO v_statements
    FROM (
        SELECT o.keyword, o.identity, l.role_name, CASE o.object_kind WHEN 'schema' THEN 1 ELSE 2 END AS step
        FROM etl.access_object AS o
        JOIN etl.access_schema AS s USING (schema_name)
        JOIN etl.access_level AS l ON l.level = s.owner_level
        JOIN pg_roles AS r ON r.rolname = l.role_name
        WHERE o.owner_id <> r.oid
            AND NOT o.is_part
            AND o.object_kind <> 'extension'
        UNION ALL
        SELECT 'TYPE', format('%I.%I', n.nspname, t.typname), l.role_name, 3
        FROM pg_type AS t
        JOIN pg_namespace AS n ON n.oid = t.typnamespace
        JOIN etl.access_schema AS s ON s.schema_name = n.nspname
        JOIN etl.access_level AS l ON l.level = s.owner_level
        JOIN pg_roles AS r ON r.rolname = l.role_name
        LEFT JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE t.typowner <> r.oid
            AND t.typtype IN ('c', 'd', 'e', 'r')
            AND coalesce(c.relkind, 'c') = 'c'
            AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    ) AS c (keyword, identity, role_name, step);
    FOREACH v_statement IN ARRAY coalesce(v_statements, '{}')
    LOOP
        EXECUTE v_statement;
    END LOOP;
    RETURN coalesce(cardinality(v_statements), 0);
END
$_hand_over$;
COMMENT ON FUNCTION etl._hand_over() IS 'Hands the objects of the schemas to their owners; returns how many changed hands.';

/*
Grants what is wanted and not there, or revokes what is there and not wanted. The database, and routines of extensions, are left as they are when
the caller does not own them.
Parameters: p_verb, GRANT or REVOKE; p_of_columns, whether of columns or of whole objects.
Returns:    number of privileges.
*/
CREATE OR REPLACE FUNCTION etl._change_privileges(p_verb text, p_of_columns boolean)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_change_privileges$
DECLARE
    r_change record;
    v_count bigint := 0;
BEGIN
    FOR r_change IN
        WITH wanted AS MATERIALIZED (
            SELECT * FROM etl._wanted_privileges()
        ),
        present AS MATERIALIZED (
            SELECT * FROM etl._present_privileges()
        ),
        change AS (
            (SELECT * FROM wanted WHERE p_verb = 'GRANT'
            UNION ALL
            SELECT * FROM present WHERE p_verb = 'REVOKE')
            EXCEPT
            (SELECT * FROM present WHERE p_verb = 'GRANT'
            UNION ALL
            SELECT * FROM wanted WHERE p_verb = 'REVOKE')
        )
        SELECT
            format(
                '%s %s%s ON %s %s %s %s',
                p_verb, c.privilege, c.columns,
                CASE WHEN o.object_kind = 'relation' AND o.keyword <> 'SEQUENCE' THEN 'TABLE' ELSE o.keyword END,
                string_agg(o.identity, ', ' ORDER BY o.identity),
                CASE p_verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END,
                CASE c.role_id WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(c.role_id)) END
            ) AS statement,
            sum(c.privilege_count) AS privilege_count
        FROM (
            SELECT
                h.object_id,
                h.role_id,
                h.privilege,
                coalesce(' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')', '') AS columns,
                count(*) AS privilege_count
            FROM change AS h
            LEFT JOIN pg_attribute AS a ON a.attrelid = h.object_id AND a.attnum = h.column_number AND h.column_number > 0
            WHERE (h.column_number > 0) = p_of_columns
            GROUP BY h.object_id, h.role_id, h.privilege
        ) AS c
        JOIN etl.access_object AS o ON o.object_id = c.object_id
        WHERE o.object_kind NOT IN ('database', 'extension')
            OR pg_has_role(o.owner_id, 'USAGE')
        GROUP BY c.role_id, c.privilege, c.columns, CASE WHEN o.object_kind = 'relation' AND o.keyword <> 'SEQUENCE' THEN 'TABLE' ELSE o.keyword END
        ORDER BY 1
    LOOP
        EXECUTE r_change.statement;
        v_count := v_count + r_change.privilege_count;
    END LOOP;
    RETURN v_count;
END
$_change_privileges$;
COMMENT ON FUNCTION etl._change_privileges(text, boolean) IS 'Grants what is wanted and not there, or revokes what is there and not wanted.';

/*
Hands what was just built to its owner, and grants what the catalog declares: a run works with the rights of the owner. Revokes nothing: while the
warehouse is installed, the catalog of permissions may still be that of the version before. Does nothing where no level is declared.
Writes:     owners and permissions of the objects of etl.access_object.
*/
CREATE OR REPLACE FUNCTION etl._hand_over_built()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_hand_over_built$
BEGIN
    IF EXISTS (SELECT FROM etl.access_schema AS s WHERE s.owner_level IS NOT NULL) THEN
        PERFORM etl._hand_over();
        PERFORM etl._change_privileges('GRANT', p_of_columns => false);
    END IF;
END
$_hand_over_built$;
COMMENT ON FUNCTION etl._hand_over_built() IS 'Hands what was just built to its owner, and grants what the catalog declares.';

/*
Lets the declared routines work with their owner's rights. CREATE OR REPLACE takes that from them.
Errors: ET031 when a declared routine does not exist, or has no fixed search path.
*/
CREATE OR REPLACE FUNCTION etl._make_definers()
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_make_definers$
DECLARE
    r_routine record;
    v_count bigint := 0;
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
            RAISE EXCEPTION 'routine % cannot work with the rights of its owner: %',
                    r_routine.name, CASE WHEN r_routine.identity IS NULL THEN 'it does not exist' ELSE 'it has no fixed search path' END
                USING ERRCODE = 'ET031', HINT = 'Correct the row of etl.definer_routine, or let the routine SET search_path = pg_catalog, pg_temp.';
        END IF;
        IF NOT r_routine.is_definer THEN
            EXECUTE format('ALTER ROUTINE %s SECURITY DEFINER', r_routine.identity);
            v_count := v_count + 1;
        END IF;
    END LOOP;
    RETURN v_count;
END
$_make_definers$;
COMMENT ON FUNCTION etl._make_definers() IS 'Lets the declared routines work with their owner''s rights.';

/*
What is created from now on: routines of the owners are not for PUBLIC; and what another role than the owner of a schema creates there can be used
by that owner, until the next call hands it over.
Writes: default privileges of the calling role and of the owners.
*/
CREATE OR REPLACE FUNCTION etl._set_default_privileges()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_set_default_privileges$
DECLARE
    v_role name;
    r_schema record;
BEGIN
    -- Of the owners alone, which make nothing but the warehouse: PostgreSQL cannot take such a default back in single schemas, and what the caller
    -- makes for another application must stay usable.
    FOR v_role IN
        SELECT DISTINCT l.role_name
        FROM etl.access_schema AS s
        JOIN etl.access_level AS l ON l.level = s.owner_level
    LOOP
        IF NOT EXISTS (
            SELECT
            FROM pg_default_acl AS d
            WHERE d.defaclrole = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = v_role)
                AND d.defaclnamespace = 0
                AND d.defaclobjtype = 'f'
        ) THEN
            EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I REVOKE EXECUTE ON ROUTINES FROM PUBLIC', v_role);
        END IF;
    END LOOP;
    FOR r_schema IN
        SELECT s.schema_name, l.role_name
        FROM etl.access_schema AS s
        JOIN etl.access_level AS l ON l.level = s.owner_level
        WHERE l.role_name <> current_user
            AND NOT EXISTS (
                SELECT
                FROM pg_default_acl AS d
                JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
                WHERE d.defaclrole = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
                    AND n.nspname = s.schema_name
                    AND d.defaclobjtype = 'r'
            )
    LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT ALL ON TABLES TO %I', r_schema.schema_name, r_schema.role_name);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT EXECUTE ON ROUTINES TO %I', r_schema.schema_name, r_schema.role_name);
    END LOOP;
    -- A view of the contract that is dropped and created again must stay readable for the loads.
    FOR r_schema IN
        SELECT p.schema_name, l.role_name, array_to_string(p.privileges, ', ') AS privileges
        FROM etl.permission AS p
        JOIN etl.access_level AS l USING (level)
        JOIN etl.access_schema AS s ON s.schema_name = p.schema_name AND s.owner_level IS NULL
        JOIN pg_namespace AS n ON n.nspname = p.schema_name
        WHERE p.level IN (SELECT o.owner_level FROM etl.access_schema AS o)
            AND p.object_kind = 'relation'
            AND p.object_name = '*'
            AND p.column_names IS NULL
            AND cardinality(p.privileges) > 0
            AND NOT EXISTS (
                SELECT
                FROM pg_default_acl AS d
                WHERE d.defaclrole = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
                    AND d.defaclnamespace = n.oid
                    AND d.defaclobjtype = 'r'
            )
    LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT %s ON TABLES TO %I', r_schema.schema_name, r_schema.privileges, r_schema.role_name);
    END LOOP;
END
$_set_default_privileges$;
COMMENT ON FUNCTION etl._set_default_privileges() IS 'Sets what permissions new objects have.';

/*
Gives the owners of the warehouse what the loads need beyond their own objects: to see whether another session works or is idle, and to check the
foreign keys of a load all at once. The loads do without, but cannot tell an idle session that holds a lock from one at work, and check each row.
Writes: memberships and parameter permissions of the server, where the caller may give them; etl.access_flaw tells where it may not.
*/
CREATE OR REPLACE FUNCTION etl._empower_owners()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_empower_owners$
DECLARE
    v_role name;
BEGIN
    FOR v_role IN
        SELECT DISTINCT l.role_name
        FROM etl.access_schema AS s
        JOIN etl.access_level AS l ON l.level = s.owner_level
    LOOP
        IF NOT pg_has_role(v_role, 'pg_read_all_stats', 'USAGE') AND pg_has_role('pg_read_all_stats', 'USAGE WITH ADMIN OPTION') THEN
            EXECUTE format('GRANT pg_read_all_stats TO %I', v_role);
        END IF;
        IF NOT has_parameter_privilege(v_role, 'session_replication_role', 'SET')
            AND has_parameter_privilege('session_replication_role', 'SET WITH GRANT OPTION')
        THEN
            EXECUTE format('GRANT SET ON PARAMETER session_replication_role TO %I', v_role);
        END IF;
    END LOOP;
EXCEPTION
    -- Another database of the server is migrated at this moment, and gives the same.
    WHEN unique_violation OR SQLSTATE 'XX000' THEN
        NULL;
END
$_empower_owners$;
COMMENT ON FUNCTION etl._empower_owners() IS 'Gives the owners of the warehouse what the loads need beyond their own objects.';

/*
Brings owners and permissions in line with the catalog. Call it after every change of the catalog or of the objects; a second call
changes nothing. The caller is a superuser, or who migrates: he must belong to the owning role.
Writes:  owners, permissions and default privileges of the objects of etl.access_object; audit.act when it changed any.
Errors:  ET030 when a group role is missing, ET031 when a routine of etl.definer_routine is not fit for it.
*/
CREATE OR REPLACE PROCEDURE etl.apply_permissions()
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $apply_permissions$
DECLARE
    v_owned bigint;
    v_revoked bigint;
    v_granted bigint;
BEGIN
    v_owned := etl._hand_over();
    PERFORM etl._make_definers();
    -- A privilege revoked from a table is revoked from its columns as well, so columns come after.
    v_revoked := etl._change_privileges('REVOKE', p_of_columns => false);
    v_revoked := v_revoked + etl._change_privileges('REVOKE', p_of_columns => true);
    v_granted := etl._change_privileges('GRANT', p_of_columns => false);
    v_granted := v_granted + etl._change_privileges('GRANT', p_of_columns => true);
    PERFORM etl._set_default_privileges();
    PERFORM etl._empower_owners();
    PERFORM etl._set_limits();
    PERFORM etl._refuse_large_objects();
    IF v_owned + v_revoked + v_granted > 0 THEN
        PERFORM audit.note(
            'permissions applied', current_database(),
            jsonb_build_object('handed_over', v_owned, 'revoked', v_revoked, 'granted', v_granted)
        );
    END IF;
END
$apply_permissions$;
COMMENT ON PROCEDURE etl.apply_permissions() IS 'Brings owners and permissions in line with etl.access_schema, etl.permission and etl.definer_routine.';

/*
Trigger: the procedure that alerts are handed to works with the rights of who named it. A run works with those of the owner of the warehouse, who has no
business in the schemas of others, and its caller may be anybody.
Writes:  audit._call_hook, where the writer may create it; otherwise the hook is called with the rights of the owner.
*/
CREATE OR REPLACE FUNCTION etl._bind_hook()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_bind_hook$
DECLARE
    v_role name;
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
    EXECUTE format(
        'CREATE FUNCTION %s(p_kind text, p_message text, p_details jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER'
        ' SET search_path = pg_catalog, pg_temp AS %L',
        'audit._call_hook', format('BEGIN %s; END', v_call)
    );
    EXECUTE format('COMMENT ON FUNCTION audit._call_hook(text, text, jsonb) IS %L', NEW.value);
    REVOKE ALL ON FUNCTION audit._call_hook(text, text, jsonb) FROM PUBLIC;
    FOR v_role IN
        SELECT DISTINCT l.role_name
        FROM etl.access_schema AS s
        JOIN etl.access_level AS l ON l.level = s.owner_level
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION audit._call_hook(text, text, jsonb) TO %I', v_role);
    END LOOP;
    RETURN NULL;
END
$_bind_hook$;
COMMENT ON FUNCTION etl._bind_hook() IS 'Trigger: the procedure that alerts are handed to works with the rights of who named it.';

CREATE OR REPLACE TRIGGER bind_hook
    AFTER INSERT OR UPDATE OF value ON etl.setting
    FOR EACH ROW
    WHEN (NEW.value_type = 'procedure')
    EXECUTE FUNCTION etl._bind_hook();

/*
Trigger: keeps values of rows out of the history of runs, which auditors read too. PostgreSQL quotes them in errors of the data:
"Failing row contains (…)", "Key (email)=(…) already exists", invalid input syntax for type integer: "…".
Returns:    the row, its detail withheld and the values in its message replaced.
*/
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
COMMENT ON FUNCTION etl._withhold_values() IS 'Trigger: keeps values of rows out of the history of runs.';

CREATE OR REPLACE TRIGGER withhold_values
    BEFORE INSERT OR UPDATE OF message, detail ON etl.task_run
    FOR EACH ROW
    WHEN (NEW.sqlstate ~ '^(22|23|42|HV)')
    EXECUTE FUNCTION etl._withhold_values();
