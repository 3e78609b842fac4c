-- The last step of an initial load: rows that refer to nothing are taken out, and the foreign keys are declared.

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
