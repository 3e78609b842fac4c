-- Bulk loads into empty tables: indexes and keys are dropped before and built once afterwards.

-- Drops the indexes and keys of an empty table; returns the statements by which _finish_bulk recreates them. What is more than an index stays: a key that
-- another table references (to drop it would lock that table, and with it every load beside this one) or that a view groups by, and an index that
-- replication or CLUSTER uses, or that has a tablespace of its own. Foreign keys stay as well. A table that is divided into partitions or over nodes
-- keeps all of them. The table is locked (ACCESS EXCLUSIVE) until the end of the transaction.
CREATE OR REPLACE FUNCTION etl._begin_bulk(p_table regclass)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_bulk$
DECLARE
    v_remove text[];
    v_make text[];
BEGIN
    SELECT array_agg(p.remove ORDER BY p.step, p.name), array_agg(p.make ORDER BY p.step, p.name)
    INTO v_remove, v_make
    FROM (
        SELECT
            CASE WHEN c.oid IS NULL THEN format('DROP INDEX %s', x.oid::regclass) ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', p_table, c.conname) END,
            CASE WHEN c.oid IS NULL THEN pg_get_indexdef(x.oid) ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', p_table, c.conname, pg_get_constraintdef(c.oid)) END,
            c.oid IS NULL,
            x.relname
        FROM pg_index AS i
        JOIN pg_class AS x ON x.oid = i.indexrelid
        LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x')
        WHERE i.indrelid = p_table
            AND x.relkind = 'i'
            AND x.reltablespace = 0
            AND NOT i.indisreplident
            AND NOT i.indisclustered
            AND NOT EXISTS (
                SELECT
                FROM pg_depend AS d
                WHERE d.deptype = 'n'
                    AND (d.refclassid, d.refobjid) IN (('pg_class'::regclass, x.oid), ('pg_constraint'::regclass, c.oid))
            )
    ) AS p (remove, make, step, name)
    WHERE NOT etl._is_distributed(p_table);
    PERFORM etl._execute(v_remove);
    RETURN coalesce(v_make, '{}');
END
$_begin_bulk$;

-- Recreates the indexes and constraints that _begin_bulk dropped, and analyzes the table.
CREATE OR REPLACE FUNCTION etl._finish_bulk(p_table regclass, p_statements text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A sample of 3,000 rows is enough until autovacuum takes a larger one. A sample of 30,000 took a fortieth of an initial load.
SET default_statistics_target = 10
AS $_finish_bulk$
BEGIN
    PERFORM etl._execute(p_statements);
    -- The nodes analyze their parts of a table by autovacuum; a transaction that has written to such a table cannot do it.
    IF NOT etl._is_distributed(p_table) THEN
        EXECUTE format('ANALYZE %s', p_table);
    END IF;
END
$_finish_bulk$;

-- Empties a table in delta or work: by TRUNCATE if it is large, by DELETE if that is cheaper than creating a new file.
CREATE OR REPLACE FUNCTION etl._clear_table(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_clear_table$
BEGIN
    IF pg_relation_size(p_table) > 4 * 1024 * 1024 THEN
        EXECUTE format('TRUNCATE %s', p_table);
    ELSE
        EXECUTE format('DELETE FROM %s', p_table);
    END IF;
END
$_clear_table$;
