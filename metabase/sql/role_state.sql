-- What a login is, and what it sees: one row, or none when there is no such role.
-- Parameters: role; schema, the only one that it should see.
SELECT
    pg_roles.rolcanlogin AS can_log_in,
    pg_roles.rolsuper OR pg_roles.rolbypassrls OR pg_roles.rolcreaterole OR pg_roles.rolcreatedb
        OR pg_roles.rolreplication AS is_powerful,
    has_schema_privilege(pg_roles.oid, %(schema)s::text, 'USAGE') AS sees_schema,
    ARRAY(
        SELECT relation.oid::regclass::text
        FROM pg_class AS relation
        WHERE relation.relnamespace = %(schema)s::text::regnamespace
            AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND NOT has_table_privilege(pg_roles.oid, relation.oid, 'SELECT')
        ORDER BY 1
    ) AS unseen,
    ARRAY(
        SELECT relation.oid::regclass::text
        FROM pg_class AS relation
        INNER JOIN pg_namespace AS namespace
            ON namespace.oid = relation.relnamespace
        WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND namespace.nspname NOT IN ('information_schema', 'pg_catalog', 'pg_toast')
            AND has_schema_privilege(pg_roles.oid, namespace.oid, 'USAGE')
            AND (
                has_table_privilege(
                    pg_roles.oid, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'
                )
                OR namespace.nspname <> %(schema)s::text
                AND has_any_column_privilege(pg_roles.oid, relation.oid, 'SELECT')
            )
            -- What an extension grants to everybody (pg_cron's own tables, filtered by row) is not ours.
            AND NOT EXISTS (
                SELECT 1
                FROM pg_depend
                WHERE pg_depend.classid = 'pg_class'::regclass
                    AND pg_depend.objid = relation.oid
                    AND pg_depend.deptype = 'e'
            )
        ORDER BY 1
    ) AS excess
FROM pg_roles
WHERE pg_roles.rolname = %(role)s
