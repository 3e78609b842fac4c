-- The statements that give an object, created again, its owner, grants, comments and rows of the catalog. Parameter: saved, its row
-- of dependents.sql as JSON. A present comment stays; columns that are gone are left out.
WITH saved AS (
    SELECT s.*, CASE WHEN s.noun = 'ROUTINE' THEN 'ROUTINE' ELSE 'TABLE' END AS keyword, to_regclass(CASE WHEN s.noun <> 'ROUTINE' THEN s.name END) AS relation
    FROM jsonb_to_record(%(saved)s) AS s (
        id oid, kind name, noun text, name text, owner name, comment text, has_acl boolean, grants jsonb, column_comments jsonb
    )
),
present AS (
    SELECT a.attname, col_description(a.attrelid, a.attnum) AS comment
    FROM saved AS s
    JOIN pg_attribute AS a ON a.attrelid = s.relation
    WHERE a.attnum > 0
)
SELECT format('ALTER %%s %%s OWNER TO %%I', s.noun, s.name, s.owner)
FROM saved AS s
WHERE to_regrole(quote_ident(s.owner)) IS NOT NULL
UNION ALL
SELECT format('REVOKE ALL ON %%s %%s FROM PUBLIC', s.keyword, s.name)
FROM saved AS s
WHERE s.has_acl
    AND NOT s.grants @> '[{"role": "PUBLIC"}]'
UNION ALL
SELECT concat(
    'GRANT ', g.privilege, ' (' || quote_ident(g.column) || ')', format(' ON %%s %%s TO ', s.keyword, s.name), g.role,
    CASE WHEN g.option THEN ' WITH GRANT OPTION' END
)
FROM saved AS s
CROSS JOIN LATERAL jsonb_to_recordset(s.grants) AS g (role text, privilege text, option boolean, "column" name)
WHERE (g.column IS NULL OR g.column IN (SELECT p.attname FROM present AS p))
    -- The role may have been dropped since.
    AND (g.role = 'PUBLIC' OR to_regrole(g.role) IS NOT NULL)
UNION ALL
SELECT format('COMMENT ON %%s %%s IS %%L', s.noun, s.name, s.comment)
FROM saved AS s
WHERE s.comment IS NOT NULL
    AND obj_description(CASE WHEN s.noun = 'ROUTINE' THEN to_regprocedure(s.name)::oid ELSE s.relation::oid END, s.kind) IS NULL
UNION ALL
SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L', s.name, c.column, c.comment)
FROM saved AS s
CROSS JOIN LATERAL jsonb_to_recordset(s.column_comments) AS c ("column" name, comment text)
JOIN present AS p ON p.attname = c.column AND p.comment IS NULL
UNION ALL
SELECT format('UPDATE etl.%%1$I SET %%2$I = %%3$L WHERE %%2$I = %%4$L', c.relname, a.attname, s.relation::oid, s.id)
FROM saved AS s
JOIN pg_class AS c ON c.relnamespace = 'etl'::regnamespace AND c.relkind = 'r'
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid = 'regclass'::regtype
WHERE s.relation IS NOT NULL
