-- The views that read a mirror, with what stands in for each while the mirrors are altered.
SELECT DISTINCT
    format('%I.%I', n.nspname, v.relname) AS name,
    concat(
        format('CREATE OR REPLACE VIEW %I.%I', n.nspname, v.relname),
        ' WITH (' || array_to_string(v.reloptions, ', ') || ')', ' AS '
    ) AS head,
    rtrim(pg_get_viewdef(v.oid), ';') AS definition,
    'SELECT ' || (
        SELECT string_agg(
            format('NULL::%s AS %I', format_type(a.atttypid, a.atttypmod), a.attname), ', '
            ORDER BY a.attnum)
        FROM pg_attribute AS a
        WHERE a.attrelid = v.oid AND a.attnum > 0
    ) || ' WHERE false' AS stub
FROM pg_class AS s
JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
    AND d.classid = 'pg_rewrite'::regclass
JOIN pg_rewrite AS w ON w.oid = d.objid
JOIN pg_class AS v ON v.oid = w.ev_class AND v.relkind = 'v'
JOIN pg_namespace AS n ON n.oid = v.relnamespace
WHERE s.relnamespace = to_regnamespace('stage') AND s.relkind IN ('r', 'p')
