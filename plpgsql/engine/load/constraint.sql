-- Foreign keys around an initial load: they are taken off before it, and declared again after it.

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
