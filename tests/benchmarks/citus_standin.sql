-- Not Citus: functions of the same names that record their calls, after holding the table against the rules that Citus documents. A table
-- that they refuse would be refused by Citus; one that they take has passed these rules only.
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.citus_tables (
    table_name regclass PRIMARY KEY,
    citus_table_type text NOT NULL,
    distribution_column text,
    colocation_id integer NOT NULL
);

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass)
RETURNS void
LANGUAGE plpgsql
AS $create_reference_table$
DECLARE
    r_key record;
BEGIN
    FOR r_key IN
        SELECT c.conname, c.confrelid::regclass AS target
        FROM pg_constraint AS c
        WHERE c.contype = 'f'
            AND c.conrelid = create_reference_table.table_name
            AND NOT EXISTS (SELECT FROM pg_catalog.citus_tables AS t WHERE t.table_name = c.confrelid AND t.citus_table_type = 'reference')
    LOOP
        RAISE EXCEPTION 'foreign key % leads from a reference table to %', r_key.conname, r_key.target;
    END LOOP;
    IF EXISTS (SELECT FROM pg_constraint AS c WHERE c.contype = 'f' AND c.confrelid = create_reference_table.table_name) THEN
        RAISE EXCEPTION 'a table that is local refers to %', table_name;
    END IF;
    INSERT INTO pg_catalog.citus_tables
    VALUES (create_reference_table.table_name, 'reference', NULL, 0);
END;
$create_reference_table$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass,
    distribution_column text,
    distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default',
    shard_count integer DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql
AS $create_distributed_table$
DECLARE
    v_type regtype := (
        SELECT a.atttypid::regtype
        FROM pg_attribute AS a
        WHERE a.attrelid = table_name
            AND a.attname = distribution_column
    );
    v_number smallint := (
        SELECT a.attnum
        FROM pg_attribute AS a
        WHERE a.attrelid = table_name
            AND a.attname = distribution_column
    );
    v_neighbour regclass;
    r_fault record;
BEGIN
    IF v_type IS NULL THEN
        RAISE EXCEPTION 'column "%" of relation % does not exist', distribution_column, table_name;
    END IF;
    IF colocate_with NOT IN ('default', 'none') THEN
        v_neighbour := colocate_with::regclass;
        IF NOT EXISTS (SELECT FROM pg_catalog.citus_tables AS t WHERE t.table_name = v_neighbour AND t.citus_table_type = 'distributed') THEN
            RAISE EXCEPTION '% is not distributed', v_neighbour;
        END IF;
        IF v_type <> (
            SELECT a.atttypid::regtype
            FROM pg_catalog.citus_tables AS t
            JOIN pg_attribute AS a ON a.attrelid = v_neighbour AND a.attname = t.distribution_column
            WHERE t.table_name = v_neighbour
        ) THEN
            RAISE EXCEPTION 'cannot colocate % and %: their columns have different types', v_neighbour, table_name;
        END IF;
    END IF;
    FOR r_fault IN
        SELECT i.indexrelid::regclass AS index_name
        FROM pg_index AS i
        WHERE i.indrelid = create_distributed_table.table_name
            AND (i.indisunique OR i.indisexclusion)
            AND NOT v_number = ANY (i.indkey::smallint[])
    LOOP
        RAISE EXCEPTION 'index % does not contain the distribution column', r_fault.index_name;
    END LOOP;
    IF EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = create_distributed_table.table_name AND NOT g.tgisinternal) THEN
        RAISE EXCEPTION 'table % has triggers', table_name;
    END IF;
    FOR r_fault IN
        SELECT c.conname
        FROM pg_constraint AS c
        WHERE c.contype = 'f'
            AND create_distributed_table.table_name IN (c.conrelid, c.confrelid)
    LOOP
        RAISE EXCEPTION 'foreign key % has to wait until both of its tables are spread', r_fault.conname;
    END LOOP;
    INSERT INTO pg_catalog.citus_tables
    VALUES (create_distributed_table.table_name, 'distributed', create_distributed_table.distribution_column, 1);
END;
$create_distributed_table$;
