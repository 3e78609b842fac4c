-- An object and all that depends on it, each with what creates it again. Parameters: classid and objid of the object.
WITH RECURSIVE reached (classid, objid) AS (
    VALUES (%(classid)s::regclass::oid, %(objid)s::oid)
    UNION
    SELECT
        CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END,
        coalesce(w.ev_class, d.objid)
    FROM reached AS r
    JOIN pg_depend AS d ON d.refclassid = r.classid AND d.refobjid = r.objid
        AND (d.deptype IN ('n', 'a') OR d.classid = 'pg_type'::regclass)
    LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
)
SELECT
    r.objid AS id,
    pg_describe_object(r.classid, r.objid, 0) AS description,
    r.classid::regclass::text AS kind,
    CASE
        WHEN c.relkind = 'm' THEN 'MATERIALIZED VIEW'
        WHEN c.relkind = 'v' THEN 'VIEW'
        WHEN p.oid IS NOT NULL THEN 'ROUTINE'
    END AS noun,
    coalesce(
        CASE WHEN c.oid IS NOT NULL THEN format('%%I.%%I', n.nspname, c.relname) END,
        p.oid::regprocedure::text,
        CASE WHEN g.oid IS NOT NULL THEN format('TRIGGER %%I ON %%s', g.tgname, g.tgrelid::regclass) END
    ) AS name,
    CASE
        WHEN c.relkind IN ('v', 'm') THEN concat(
            'CREATE ', CASE c.relkind WHEN 'm' THEN 'MATERIALIZED ' END,
            format('VIEW %%I.%%I', n.nspname, c.relname),
            ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
            ' AS ', rtrim(pg_get_viewdef(c.oid), ';'),
            (SELECT string_agg('; ' || pg_get_indexdef(i.indexrelid), '') FROM pg_index AS i WHERE i.indrelid = c.oid)
        )
        WHEN p.oid IS NOT NULL THEN pg_get_functiondef(p.oid)
        WHEN g.oid IS NOT NULL THEN pg_get_triggerdef(g.oid)
    END AS definition,
    pg_get_userbyid(coalesce(c.relowner, p.proowner)) AS owner,
    obj_description(r.objid, r.classid::regclass::text::name) AS comment,
    coalesce(c.relacl, p.proacl) IS NOT NULL AS has_acl,
    ARRAY(
        SELECT jsonb_build_object(
            'role', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
            'privilege', x.privilege_type, 'option', x.is_grantable, 'column', x.attname
        )
        FROM (
            SELECT g.*, NULL::name AS attname
            FROM aclexplode(coalesce(c.relacl, p.proacl)) AS g
            UNION ALL
            SELECT g.*, a.attname
            FROM pg_attribute AS a
            CROSS JOIN LATERAL aclexplode(a.attacl) AS g
            WHERE a.attrelid = c.oid
        ) AS x
        WHERE x.grantee <> coalesce(c.relowner, p.proowner)
    ) AS grants,
    ARRAY(
        SELECT jsonb_build_object('column', a.attname, 'comment', col_description(c.oid, a.attnum))
        FROM pg_attribute AS a
        WHERE a.attrelid = c.oid
            AND a.attnum > 0
            AND col_description(c.oid, a.attnum) IS NOT NULL
    ) AS column_comments
FROM reached AS r
LEFT JOIN pg_class AS c ON r.classid = 'pg_class'::regclass AND c.oid = r.objid
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_proc AS p ON r.classid = 'pg_proc'::regclass AND p.oid = r.objid
LEFT JOIN pg_trigger AS g ON r.classid = 'pg_trigger'::regclass AND g.oid = r.objid
WHERE r.classid <> 'pg_type'::regclass
    -- The indexes of a materialized view are part of its definition.
    AND NOT EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_class AS m ON m.oid = i.indrelid
        WHERE i.indexrelid = c.oid
            AND m.relkind = 'm'
    )
