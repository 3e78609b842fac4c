-- Columns of the engine's views that have no comment of their own take over the one of the column that they show.

DO $comment$
DECLARE
    r_column record;
BEGIN
    LOOP
        FOR r_column IN
            SELECT v.oid::regclass AS view, a.attname AS name, min(col_description(s.attrelid, s.attnum)) AS comment
            FROM pg_class AS v
            JOIN pg_attribute AS a ON a.attrelid = v.oid AND col_description(v.oid, a.attnum) IS NULL
            JOIN pg_rewrite AS w ON w.ev_class = v.oid
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
            JOIN pg_attribute AS s ON s.attrelid = d.refobjid AND s.attnum = d.refobjsubid AND s.attname = a.attname
            WHERE v.relnamespace = 'etl'::regnamespace
                AND v.relkind = 'v'
            GROUP BY v.oid, a.attname
            -- Columns of one name that mean different things: the view has to say which one it shows.
            HAVING count(DISTINCT col_description(s.attrelid, s.attnum)) = 1
        LOOP
            EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', r_column.view, r_column.name, r_column.comment);
        END LOOP;
        -- Another round for views of views.
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$comment$;
