-- Empties the operational system, apart from its reference rows. A tombstone for every row first: then TRUNCATE, otherwise
-- refused because it leaves none, does no harm.
DO $reset$
DECLARE
    r_table record;
    v_tables text[] := '{}';
BEGIN
    PERFORM set_config('timezone', 'UTC', true);
    FOR r_table IN
        SELECT
            c.oid::regclass AS name,
            c.relname AS short_name,
            string_agg(format('%L, t.%I', a.attname, a.attname), ', ' ORDER BY a.attnum) AS row_key
        FROM pg_class AS c
        INNER JOIN pg_index AS i
            ON i.indrelid = c.oid
            AND i.indisprimary
        INNER JOIN pg_attribute AS a
            ON a.attrelid = c.oid
            AND a.attnum = ANY (i.indkey)
        WHERE c.relnamespace = 'oceanrecords'::regnamespace
            AND c.relname IN (
                'customers', 'addresses', 'customers_addresses', 'suppliers', 'product_types', 'product_subtypes',
                'products', 'product_prices', 'orders', 'order_lines'
            )
        GROUP BY c.oid
        ORDER BY c.relname
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER refuse_truncate', r_table.name);
        EXECUTE format(
            'INSERT INTO oceanrecords.deleted_rows (table_name, row_key) SELECT %L, jsonb_build_object(%s) FROM %s AS t',
            r_table.short_name, r_table.row_key, r_table.name
        );
        v_tables := v_tables || r_table.name::text;
    END LOOP;
    EXECUTE format('TRUNCATE %s', array_to_string(v_tables, ', '));
    FOR r_table IN
        SELECT unnest(v_tables) AS name
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER refuse_truncate', r_table.name);
    END LOOP;
END;
$reset$;
