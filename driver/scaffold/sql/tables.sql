-- The tables of some schemas as the catalog describes them, one row of JSON per table. Needs no more than CONNECT.
SELECT jsonb_build_object(
    'schema', n.nspname,
    'name', c.relname,
    'comment', obj_description(c.oid, 'pg_class'),
    'is_readable', has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
    'estimated_rows', c.reltuples::bigint,
    'columns', (
        SELECT jsonb_agg(jsonb_build_object(
            'name', a.attname,
            'type', format_type(a.atttypid, a.atttypmod),
            'base_type', format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END, CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END),
            'category', b.typcategory::text,
            'kind', t.typtype::text,
            'is_not_null', a.attnotnull,
            'default', pg_get_expr(d.adbin, d.adrelid),
            -- Rows are compared by "=", so the type needs a default ordering or hashing.
            'has_equality', EXISTS (
                SELECT
                FROM pg_opclass AS o
                JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
                WHERE o.opcdefault
                    AND (o.opcintype = b.oid
                        OR b.typcategory = 'E' AND o.opcintype = 'anyenum'::regtype
                        OR b.typcategory = 'R' AND o.opcintype = 'anyrange'::regtype
                        OR b.typtype = 'm' AND o.opcintype = 'anymultirange'::regtype
                        OR EXISTS (SELECT FROM pg_cast AS k WHERE k.castsource = b.oid AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i')
                        OR b.typcategory = 'A' AND o.opcintype = 'anyarray'::regtype
                            AND EXISTS (SELECT FROM pg_opclass AS e JOIN pg_am AS f ON f.oid = e.opcmethod AND f.amname = 'btree'
                                JOIN pg_type AS y ON y.oid = b.typelem
                                WHERE e.opcdefault AND (e.opcintype = y.oid OR y.typtype = 'e'
                                    OR EXISTS (SELECT FROM pg_cast AS k WHERE k.castsource = y.oid AND k.casttarget = e.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i'))))
            ),
            'number', a.attnum,
            'comment', col_description(c.oid, a.attnum)
        ) ORDER BY a.attnum)
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        JOIN pg_type AS b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid
            AND a.attnum > 0
            AND NOT a.attisdropped
    ),
    'keys', (
        -- The primary key first, then unique indexes whose columns are never NULL.
        SELECT jsonb_agg(jsonb_build_object('columns', k.columns, 'is_primary', k.is_primary) ORDER BY NOT k.is_primary, cardinality(k.columns), k.columns)
        FROM (
            SELECT i.indisprimary AS is_primary, ARRAY(
                SELECT a.attname::text
                FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS u (attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.attnum
                ORDER BY u.place
            ) AS columns
            FROM pg_index AS i
            WHERE i.indrelid = c.oid
                AND i.indisunique
                AND i.indisvalid
                AND i.indpred IS NULL
                AND i.indexprs IS NULL
                AND NOT EXISTS (
                    SELECT
                    FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS u (attnum)
                    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.attnum
                    WHERE NOT a.attnotnull
                )
        ) AS k
    ),
    'references', (
        SELECT jsonb_agg(jsonb_build_object(
            'columns', ARRAY(
                SELECT a.attname::text
                FROM unnest(f.conkey) WITH ORDINALITY AS u (attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = u.attnum
                ORDER BY u.place),
            'schema', rn.nspname,
            'table', r.relname,
            'to', ARRAY(
                SELECT a.attname::text
                FROM unnest(f.confkey) WITH ORDINALITY AS u (attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = u.attnum
                ORDER BY u.place)
        ) ORDER BY f.conname)
        FROM pg_constraint AS f
        JOIN pg_class AS r ON r.oid = f.confrelid
        JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
        WHERE f.conrelid = c.oid
            AND f.contype = 'f'
            AND NOT r.relispartition
    ),
    'triggers', (
        SELECT jsonb_agg(jsonb_build_object(
            'name', g.tgname,
            'function', g.tgfoid::regproc::text,
            'is_row', g.tgtype & 1 <> 0,
            'on_update', g.tgtype & 16 <> 0,
            'on_delete', g.tgtype & 8 <> 0,
            'on_truncate', g.tgtype & 32 <> 0,
            'is_always', g.tgenabled = 'A'
        ) ORDER BY g.tgname)
        FROM pg_trigger AS g
        WHERE g.tgrelid = c.oid
            AND NOT g.tgisinternal
            AND g.tgenabled <> 'D'
    )
)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%(schemas)s)
    AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition
    -- Tables of extensions are no part of the business.
    AND NOT EXISTS (SELECT FROM pg_depend AS x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
ORDER BY n.nspname, c.relname
