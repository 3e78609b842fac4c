-- The objects whose permissions are declared, and what is not declared yet.

CREATE OR REPLACE VIEW etl.owner_role AS
SELECT DISTINCT r.rolname AS role_name, r.oid AS role_id
FROM etl.access_schema AS s
JOIN etl.access_level AS l ON l.level = s.owner_level
JOIN pg_roles AS r ON r.rolname = l.role_name;
COMMENT ON VIEW etl.owner_role IS 'Roles that own schemas of the warehouse.';
COMMENT ON COLUMN etl.owner_role.role_name IS 'Role.';
COMMENT ON COLUMN etl.owner_role.role_id IS 'Its object identifier.';

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
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    format('%I.%I', n.nspname, c.relname),
    c.relowner,
    coalesce(c.relacl, acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", c.relowner)),
    c.relkind = 'S' AND EXISTS (
        SELECT
        FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('i', 'a')
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
COMMENT ON VIEW etl.access_object IS 'Objects whose permissions are declared: the database, the objects in the schemas of etl.access_schema, and the routines of the extensions that etl.permission names.';
COMMENT ON COLUMN etl.access_object.object_kind IS 'database, extension (a routine of one), schema, relation or routine.';
COMMENT ON COLUMN etl.access_object.schema_name IS 'Schema; for a routine of an extension, the extension; empty for the database.';
COMMENT ON COLUMN etl.access_object.object_name IS 'Name.';
COMMENT ON COLUMN etl.access_object.object_id IS 'Object identifier.';
COMMENT ON COLUMN etl.access_object.keyword IS 'Kind of object in GRANT and ALTER; TABLE stands for views and foreign tables, too.';
COMMENT ON COLUMN etl.access_object.identity IS 'Quoted name, for a routine with its parameter types.';
COMMENT ON COLUMN etl.access_object.owner_id IS 'Role that owns the object.';
COMMENT ON COLUMN etl.access_object.acl IS 'Permissions that are granted on the object.';
COMMENT ON COLUMN etl.access_object.is_part IS 'Whether the object is a sequence of a column and needs no permission of its own.';

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
WHERE s.sensitivity IS NULL
UNION ALL
SELECT CASE r.reads WHEN 'people' THEN 'small group' ELSE r.reads END, r.schema_name, r.object_name
FROM etl.people_reader AS r
WHERE NOT r.is_protected;
COMMENT ON VIEW etl.permission_gap IS 'What is not declared: objects without a row in etl.permission, schemas without one in etl.access_schema, columns without one in etl.column_sensitivity. Only the owner reads these. Also readable views and routines that show personal data or do not suppress small groups.';
COMMENT ON COLUMN etl.permission_gap.object_kind IS 'As in etl.access_object, column, small group or personal data.';
COMMENT ON COLUMN etl.permission_gap.schema_name IS 'Schema.';
COMMENT ON COLUMN etl.permission_gap.object_name IS 'Name; of a column, relation.column.';
