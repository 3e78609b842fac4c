-- What is wrong with group roles, logins and PUBLIC, each with a remedy.

-- A list for a sentence: its first five entries and the number of the others.
CREATE OR REPLACE FUNCTION etl._first_five(p_entries text[])
RETURNS text
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_first_five$
    SELECT array_to_string(p_entries[:5], ', ') || CASE WHEN cardinality(p_entries) > 5 THEN format(' and %s more', cardinality(p_entries) - 5) ELSE '' END
$_first_five$;

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
    -- The nodes of a cluster are reached as the owner.
    CASE WHEN r.rolcanlogin AND NOT (l.level = 'owner' AND etl._is_distributed(NULL)) THEN 'a login' END,
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
        -- A role that may create roles can be a member without using the rights of the group.
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
    format('Let %I, or a superuser, execute: CALL etl.apply_permissions();', pg_get_userbyid(o.owner_id))
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
        '%s has privileges that are not declared: %s', CASE g.grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE format('the role "%s"', g.grantee) END,
        etl._first_five(array_agg(g.privilege ORDER BY g.privilege))
    ),
    format('oceanrecords users grants --revoke %I', g.grantee)
FROM (
    SELECT
        d.grantee,
        format(
            '%s on %s%s', string_agg(DISTINCT d.privilege, ', '),
            CASE d.object_kind WHEN 'relation' THEN '' WHEN 'default' THEN 'new ' ELSE d.object_kind || ' ' END,
            concat_ws('.', CASE WHEN d.object_kind <> 'schema' THEN nullif(d.schema_name, '') END, d.object_name)
        ) AS privilege
    FROM etl.direct_grant AS d
    GROUP BY d.grantee, d.object_kind, d.schema_name, d.object_name
) AS g
GROUP BY g.grantee
UNION ALL
SELECT
    p.schema_name,
    false,
    CASE p.object_kind
        WHEN 'column' THEN 'columns without a declared sensitivity: '
        WHEN 'small group' THEN 'figures that count people but do not suppress small groups: '
        ELSE 'views that show personal data to people who may not see them: '
    END || etl._first_five(array_agg(format('%s.%s', p.schema_name, p.object_name) ORDER BY p.object_name)),
    CASE p.object_kind
        WHEN 'column' THEN 'INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity) VALUES (…); CALL etl.publish(); '
            'analysts do not see the columns until then'
        WHEN 'small group' THEN 'Pass each count to etl.suppress_small(count), or remove the row from etl.permission.'
        ELSE 'Leave the personal columns out, or remove the row from etl.permission.'
    END
FROM etl.permission_gap AS p
WHERE p.object_kind IN ('column', 'small group', 'personal data')
GROUP BY p.object_kind, p.schema_name
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
    x.owner,
    false,
    format('the user "%s" has left a transaction prepared since %s, which keeps its locks', x.owner, date_trunc('second', x.prepared)),
    format('ROLLBACK PREPARED %L;', x.gid)
FROM pg_prepared_xacts AS x
JOIN etl.user_account AS u ON u.login = x.owner
WHERE x.database = current_database()
UNION ALL
SELECT
    o.role_name,
    false,
    format('the role "%s" does not see whether sessions of other roles are idle', o.role_name),
    format('Let a superuser execute: GRANT pg_read_all_stats TO %I;', o.role_name)
FROM etl.owner_role AS o
WHERE NOT pg_has_role(o.role_id, 'pg_read_all_stats', 'USAGE');
COMMENT ON VIEW etl.access_flaw IS 'What is wrong with group roles, logins and PUBLIC, with a remedy. `oceanrecords doctor` shows it.';
COMMENT ON COLUMN etl.access_flaw.object IS 'Role, schema or extension; empty for the database.';
COMMENT ON COLUMN etl.access_flaw.is_fatal IS 'Whether the warehouse cannot work until it is repaired.';
COMMENT ON COLUMN etl.access_flaw.problem IS 'What is wrong, in one sentence.';
COMMENT ON COLUMN etl.access_flaw.remedy IS 'What to do about it.';
