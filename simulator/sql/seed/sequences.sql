-- The identity columns go on after the highest number given.
DO $sequences$
DECLARE
    r_column record;
BEGIN
    FOR r_column IN
        SELECT
            a.attrelid::regclass AS table_name,
            a.attname AS column_name,
            pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) AS sequence_name
        FROM pg_attribute AS a
        INNER JOIN pg_class AS c
            ON c.oid = a.attrelid
        WHERE c.relnamespace = 'oceanrecords'::regnamespace
            AND c.relname <> 'deleted_rows'
            AND a.attidentity <> ''
    LOOP
        EXECUTE format(
            'SELECT setval(%L, greatest(max(t.%I), 1), max(t.%I) IS NOT NULL) FROM %s AS t',
            r_column.sequence_name, r_column.column_name, r_column.column_name, r_column.table_name
        );
    END LOOP;
END;
$sequences$;
