-- Bulk loads into empty tables: indexes and constraints are built once, after the rows, instead of row by row.

/*
Sets aside the foreign keys of the facts that a run will fill: with them in place a fact would have to wait for the facts that it
refers to, dimensions could not be filled without their key, and fills side by side would lock each other out of the dimensions that they
share. Those that lead to a dimension come back when that is filled (etl._restore_constraints), or stay, where the fact's rows can be checked
at once; tasks that make the others again join the run.
Parameters: p_run_id, the run.
Writes:     structure of the fact tables, etl.deferred_constraint, etl.task_run, etl.task_edge.
*/
CREATE OR REPLACE FUNCTION etl._defer_constraints(p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $_defer_constraints$
DECLARE
    r_fact record;
    v_is_empty boolean;
    r_constraint record;
BEGIN
    FOR r_fact IN
        SELECT f.fact, f.fact_table
        FROM etl.fact AS f
        JOIN etl.load_state AS l ON l.object = f.fact AND l.needs_reload
        JOIN etl.task_run AS t ON t.run_id = p_run_id AND t.task = 'fact:' || f.fact
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', r_fact.fact_table) INTO v_is_empty;
        CONTINUE WHEN NOT v_is_empty;
        BEGIN
            FOR r_constraint IN
                SELECT c.conname, c.confrelid, pg_get_constraintdef(c.oid) AS definition
                FROM pg_constraint AS c
                WHERE c.conrelid = r_fact.fact_table
                    AND c.contype = 'f'
                    AND NOT (
                        etl._may_check_at_once(r_fact.fact)
                        AND etl._is_dimension_of(r_fact.fact, c.confrelid)
                        AND NOT EXISTS (
                            SELECT
                            FROM etl.dimension AS d
                            JOIN etl.load_state AS s ON s.object = d.dimension AND s.needs_reload
                            WHERE d.dimension_table = c.confrelid
                        )
                    )
            LOOP
                INSERT INTO etl.deferred_constraint (fact, constraint_name, definition, referenced_table)
                VALUES (r_fact.fact, r_constraint.conname, r_constraint.definition, r_constraint.confrelid);
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r_fact.fact_table, r_constraint.conname);
            END LOOP;
        EXCEPTION
            WHEN lock_not_available THEN
                -- Somebody reads a dimension just now. The fact waits for the others then, and drops its keys when its turn has come.
                NULL;
        END;
    END LOOP;

    IF NOT EXISTS (SELECT FROM etl.deferred_constraint) THEN
        RETURN;
    END IF;
    -- A fact waits for another because of its foreign key: not while that is set aside.
    PERFORM etl._build_tasks();
    INSERT INTO etl.task_run (run_id, task, kind, object, position, max_attempts)
    SELECT p_run_id, t.task, t.kind, t.object, t.position, t.max_attempts
    FROM etl.task AS t
    WHERE t.kind = 'constrain'
        AND t.object IN (SELECT d.fact FROM etl.deferred_constraint AS d)
        -- Not while the other fact has still to be loaded, by another run: all rows would be taken out.
        AND NOT EXISTS (
            SELECT
            FROM etl.deferred_constraint AS d
            JOIN etl.fact AS r ON r.fact_table = d.referenced_table
            JOIN etl.load_state AS m ON m.object = d.fact
            JOIN etl.load_state AS o ON o.object = r.fact AND o.needs_reload
            WHERE d.fact = t.object
                AND (NOT m.needs_reload OR EXISTS (SELECT FROM etl.task_run AS p WHERE p.run_id = p_run_id AND p.task = 'fact:' || d.fact))
                AND NOT EXISTS (SELECT FROM etl.task_run AS p WHERE p.run_id = p_run_id AND p.task = 'fact:' || r.fact)
        );
END
$_defer_constraints$;
COMMENT ON FUNCTION etl._defer_constraints(bigint) IS 'Sets aside the foreign keys of the facts that a run will fill.';

/*
Makes the foreign keys again that lead from facts which are still empty to a dimension that has been filled: there is nothing to validate
yet, and the fact's rows will be checked at once when they come. Where they will not be, or somebody has the tables locked, the keys are left
to the tasks that follow the facts.
Parameters: p_table, the dimension's table.
Writes:     structure of the fact tables, etl.deferred_constraint.
*/
CREATE OR REPLACE FUNCTION etl._restore_constraints(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $_restore_constraints$
DECLARE
    r_constraint record;
    v_is_empty boolean;
BEGIN
    FOR r_constraint IN
        SELECT d.*, f.fact_table
        FROM etl.deferred_constraint AS d
        JOIN etl.fact AS f USING (fact)
        WHERE d.referenced_table = p_table
            AND etl._is_dimension_of(d.fact, p_table)
            AND etl._may_check_at_once(d.fact)
        ORDER BY d.fact, d.constraint_name
    LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', r_constraint.fact_table) INTO v_is_empty;
        CONTINUE WHEN NOT v_is_empty;
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', r_constraint.fact_table, r_constraint.constraint_name, r_constraint.definition);
        DELETE FROM etl.deferred_constraint AS d
        WHERE d.fact = r_constraint.fact
            AND d.constraint_name = r_constraint.constraint_name;
    END LOOP;
EXCEPTION
    WHEN lock_not_available THEN
        NULL;
END
$_restore_constraints$;
COMMENT ON FUNCTION etl._restore_constraints(regclass) IS 'Makes the foreign keys again that lead from facts which are still empty to a dimension that has been filled.';

/*
Makes the foreign keys of a fact again that were set aside for its first load, each validated in one pass. Rows whose other fact
is not there, because it could not be loaded, are taken out and go the ordinary way, to quarantine.
Parameters: p_fact, the fact; p_run_id, the run.
Returns:    rows read (foreign keys), queued and quarantined (when rows were taken out).
Writes:     structure of the fact table, etl.deferred_constraint, etl.task_edge; where rows are taken out, as etl._load_fact.
*/
CREATE OR REPLACE FUNCTION etl._constrain(p_fact name, p_run_id bigint)
RETURNS etl.load_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_constrain$
DECLARE
    r_fact etl.fact;
    r_constraint record;
    r_result etl.load_result := (0, 0, 0, 0, 0, 0);
    r_reload etl.load_result;
BEGIN
    SELECT *
    INTO STRICT r_fact
    FROM etl.fact AS f
    WHERE f.fact = p_fact;
    FOR r_constraint IN
        DELETE FROM etl.deferred_constraint AS d
        WHERE d.fact = p_fact
        RETURNING
            d.constraint_name,
            format('ALTER TABLE %s ADD CONSTRAINT %I %s', r_fact.fact_table, d.constraint_name, d.definition) AS statement
    LOOP
        BEGIN
            EXECUTE r_constraint.statement;
        EXCEPTION
            WHEN foreign_key_violation THEN
                EXECUTE r_constraint.statement || ' NOT VALID';
                PERFORM etl._take_out_orphans(r_fact, r_constraint.constraint_name);
                EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', r_fact.fact_table, r_constraint.constraint_name);
                r_reload := etl._load_fact(p_fact, p_run_id);
                r_result.rows_queued := r_result.rows_queued + r_reload.rows_queued;
                r_result.rows_quarantined := r_result.rows_quarantined + r_reload.rows_quarantined;
        END;
        r_result.rows_read := r_result.rows_read + 1;
    END LOOP;
    PERFORM etl._build_tasks();
    RETURN r_result;
END
$_constrain$;
COMMENT ON FUNCTION etl._constrain(name, bigint) IS 'Makes the foreign keys of a fact again that were set aside for its first load.';

/*
Takes the rows out of a fact that violate a foreign key which is not validated yet, and makes their keys pending. What is not in
the star does not wait for a member either.
Parameters: p_fact, the fact; p_constraint, name of the foreign key.
Writes:     the fact's table, work.<fact>_key, etl.reprocessing_queue, etl.load_state (its aggregates are to be built anew).
Locks:      its aggregates.
*/
CREATE OR REPLACE FUNCTION etl._take_out_orphans(p_fact etl.fact, p_constraint name)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_take_out_orphans$
DECLARE
    v_is_orphan text := (SELECT k.is_orphan FROM etl._foreign_keys(p_fact.fact_table, 'f') AS k WHERE k.name = p_constraint);
BEGIN
    EXECUTE format(
        $sql$WITH orphan AS (
    DELETE FROM %1$s AS f
    WHERE %2$s
    RETURNING %3$s
),
waiting AS (
    DELETE FROM etl.reprocessing_queue AS q
    USING orphan AS f
    WHERE q.fact = %6$L
        AND q.fact_key = %7$s
)
INSERT INTO work.%4$I (%5$s)
SELECT %5$s
FROM orphan$sql$,
        p_fact.fact_table, v_is_orphan, etl._list(p_fact.business_key, 'f.%1$I'), p_fact.fact || '_key', etl._list(p_fact.business_key),
        p_fact.fact, etl._json_key(p_fact.business_key, 'f')
    );
    -- One that is being built may have read the rows already, and would take the request for the one that it fulfils.
    PERFORM etl._lock_aggregates(p_fact.fact);
    PERFORM etl._request_reload(etl._fed_by(p_fact.fact));
END
$_take_out_orphans$;
COMMENT ON FUNCTION etl._take_out_orphans(etl.fact, name) IS 'Takes the rows out of a fact that violate a foreign key, and makes their keys pending.';

/*
Drops the indexes and constraints of a table that only cost time while it is filled, switches the triggers off that look for overlapping
versions, and returns the statements that make it all again. A key that foreign keys of other tables refer to stays.
Parameters: p_table, the table; p_keep_foreign_keys, whether its foreign keys stay, since the filling will not have them checked row by row.
Returns:    statements, to be executed in their order by _finish_bulk.
Writes:     structure of the table; takes an ACCESS EXCLUSIVE lock on it until the end of the transaction.
*/
CREATE OR REPLACE FUNCTION etl._begin_bulk(p_table regclass, p_keep_foreign_keys boolean DEFAULT false)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_begin_bulk$
DECLARE
    v_statements text[] := ARRAY[]::text[];
    r_part record;
BEGIN
    FOR r_part IN
        -- Keys and indexes first, then what is validated in one pass by means of them.
        SELECT
            format('ALTER TABLE %s DROP CONSTRAINT %I', p_table, c.conname) AS remove,
            format('ALTER TABLE %s ADD CONSTRAINT %I %s', p_table, c.conname, pg_get_constraintdef(c.oid)) AS make,
            CASE c.contype WHEN 'f' THEN 3 ELSE 1 END AS step,
            c.conname AS name
        FROM pg_constraint AS c
        WHERE c.conrelid = p_table
            AND c.contype IN ('p', 'u', 'x', 'f')
            AND NOT (c.contype = 'f' AND p_keep_foreign_keys)
            AND NOT EXISTS (
                SELECT
                FROM pg_constraint AS f
                WHERE f.confrelid = p_table
                    AND f.contype = 'f'
                    AND f.conindid = c.conindid
                    AND c.contype <> 'f'
            )
        UNION ALL
        SELECT
            format('DROP INDEX %s', i.indexrelid::regclass),
            pg_get_indexdef(i.indexrelid),
            2,
            i.indexrelid::regclass::text
        FROM pg_index AS i
        WHERE i.indrelid = p_table
            AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)
        UNION ALL
        SELECT
            format('ALTER TABLE %s %s', p_table, string_agg(format('DISABLE TRIGGER %I', t.tgname), ', ')),
            format('ALTER TABLE %s %s; %s', p_table, string_agg(format('ENABLE TRIGGER %I', t.tgname), ', '), etl._refuse_overlap_sql(d)),
            4,
            'overlap'
        FROM etl.dimension AS d
        JOIN pg_trigger AS t ON t.tgrelid = d.dimension_table AND t.tgfoid = 'etl._refuse_overlap'::regproc
        WHERE d.dimension_table = p_table
        GROUP BY d
        ORDER BY step, name
    LOOP
        EXECUTE r_part.remove;
        v_statements := v_statements || r_part.make;
    END LOOP;
    RETURN v_statements;
END
$_begin_bulk$;
COMMENT ON FUNCTION etl._begin_bulk(regclass, boolean) IS 'Drops the indexes and constraints that slow a bulk load down, and returns the statements that make them again.';

/*
Makes the indexes and constraints that _begin_bulk dropped, and tells the planner about the new rows.
Parameters: p_table, the table; p_statements, what _begin_bulk returned.
Writes:     structure and statistics of the table.
*/
CREATE OR REPLACE FUNCTION etl._finish_bulk(p_table regclass, p_statements text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- A sample of 3,000 rows, as in etl._analyze: of 30,000 it took a fortieth of a first load, and autovacuum takes such a sample soon.
SET default_statistics_target = 10
AS $_finish_bulk$
DECLARE
    v_statement text;
BEGIN
    FOREACH v_statement IN ARRAY p_statements
    LOOP
        EXECUTE v_statement;
    END LOOP;
    EXECUTE format('ANALYZE %s', p_table);
END
$_finish_bulk$;
COMMENT ON FUNCTION etl._finish_bulk(regclass, text[]) IS 'Makes the indexes and constraints that _begin_bulk dropped, and analyses the table.';

CREATE OR REPLACE FUNCTION etl._few_bytes()
RETURNS bigint
LANGUAGE sql
IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $_few_bytes$
    SELECT 4 * 1024 * 1024::bigint
$_few_bytes$;
COMMENT ON FUNCTION etl._few_bytes() IS 'Size up to which it is cheaper to delete the rows of a table than to give it a new file.';

/*
Empties a table of the engine: by TRUNCATE when it is large, by DELETE when that is cheaper than a new file.
Parameters: p_table, a table in delta or work.
Writes:     the table.
*/
CREATE OR REPLACE FUNCTION etl._empty(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_empty$
BEGIN
    IF pg_relation_size(p_table) > etl._few_bytes() THEN
        EXECUTE format('TRUNCATE %s', p_table);
    ELSE
        EXECUTE format('DELETE FROM %s', p_table);
    END IF;
END
$_empty$;
COMMENT ON FUNCTION etl._empty(regclass) IS 'Empties a table by TRUNCATE when it is large, else by DELETE.';
