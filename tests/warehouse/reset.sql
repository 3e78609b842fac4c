-- Puts a database back to what it was before anything was loaded, in a fraction of the time that a new one takes.
-- The first call notes what each table holds; from then on, tables that were empty are emptied, the others refilled.

CREATE SCHEMA pristine;

CREATE TABLE pristine.refilled (
    table_name regclass PRIMARY KEY,
    copy regclass NOT NULL
);

CREATE FUNCTION pristine.note()
RETURNS void
LANGUAGE plpgsql
AS $note$
DECLARE
    r_table record;
    v_filled boolean;
BEGIN
    FOR r_table IN
        SELECT c.oid::regclass AS name, 'copy_' || c.oid AS copy
        FROM pg_class AS c
        WHERE c.relkind = 'r'
            AND c.relnamespace IN ('oceanrecords'::regnamespace, 'stage'::regnamespace, 'dwh'::regnamespace, 'etl'::regnamespace)
            AND c.oid <> 'dwh.dim_date'::regclass
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', r_table.name) INTO v_filled;
        IF v_filled THEN
            EXECUTE format('CREATE TABLE pristine.%I AS SELECT * FROM %s', r_table.copy, r_table.name);
            INSERT INTO pristine.refilled (table_name, copy)
            VALUES (r_table.name, format('pristine.%I', r_table.copy)::regclass);
        END IF;
    END LOOP;
END;
$note$;

CREATE FUNCTION pristine.restore()
RETURNS void
LANGUAGE plpgsql
SET session_replication_role = replica
AS $restore$
DECLARE
    r_table record;
    v_differs boolean;
BEGIN
    FOR r_table IN
        SELECT c.oid::regclass AS name, r.copy
        FROM pg_class AS c
        LEFT JOIN pristine.refilled AS r ON r.table_name = c.oid
        WHERE c.relkind = 'r'
            AND c.relnamespace IN (
                'oceanrecords'::regnamespace, 'stage'::regnamespace, 'delta'::regnamespace, 'work'::regnamespace,
                'dwh'::regnamespace, 'etl'::regnamespace, 'proof'::regnamespace
            )
            AND c.oid NOT IN ('dwh.dim_date'::regclass, 'work.country'::regclass)
        -- The source marks what a replica deletes as well.
        ORDER BY c.oid = 'oceanrecords.deleted_rows'::regclass
    LOOP
        IF r_table.copy IS NULL THEN
            IF pg_relation_size(r_table.name) > 0 THEN
                EXECUTE format('DELETE FROM %s', r_table.name);
            END IF;
        ELSE
            EXECUTE format('SELECT EXISTS ((TABLE %1$s EXCEPT TABLE %2$s) UNION ALL (TABLE %2$s EXCEPT TABLE %1$s))', r_table.name, r_table.copy)
            INTO v_differs;
            IF v_differs THEN
                EXECUTE format('DELETE FROM %s', r_table.name);
                EXECUTE format('INSERT INTO %s OVERRIDING SYSTEM VALUE TABLE %s', r_table.name, r_table.copy);
            END IF;
        END IF;
    END LOOP;
    PERFORM setval(format('%I.%I', s.schemaname, s.sequencename)::regclass, 1, false)
    FROM pg_sequences AS s
    WHERE s.schemaname IN ('oceanrecords', 'dwh', 'etl')
        AND s.last_value IS NOT NULL;
END;
$restore$;

-- A digest of all that is not data: when a test has changed it, the database is not used again.
CREATE FUNCTION pristine.structure()
RETURNS text
LANGUAGE sql
BEGIN ATOMIC
    SELECT md5(string_agg(s.thing, E'\n' ORDER BY s.thing))
    FROM (
        SELECT format('%s %s %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull)
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE a.attnum > 0
            AND NOT a.attisdropped
            AND c.relkind IN ('r', 'v', 'f', 'i')
            AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
        UNION ALL
        SELECT format('%s %s', c.conrelid::regclass, pg_get_constraintdef(c.oid))
        FROM pg_constraint AS c
        WHERE c.contype <> 't'
        UNION ALL
        SELECT pg_get_triggerdef(t.oid)
        FROM pg_trigger AS t
        WHERE NOT t.tgisinternal
        UNION ALL
        SELECT format('%s %s %s', p.oid::regprocedure, md5(p.prosrc), p.proacl)
        FROM pg_proc AS p
        WHERE p.pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
        UNION ALL
        SELECT format('%s %s', r.ev_class::regclass, md5(pg_get_viewdef(r.ev_class)))
        FROM pg_rewrite AS r
        JOIN pg_class AS c ON c.oid = r.ev_class
        WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    ) AS s (thing);
END;
