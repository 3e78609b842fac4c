-- The reprocessing queue: facts with unresolved keys. They are loaded again when the member is there, or on request.

/*
Adds to the pending keys the facts whose queue entries are ready, and those in quarantine for a missing row of another fact when
that one has been loaded in this run: such rows are good themselves, and nothing else would bring them back.
Parameters: p_fact, the fact; p_fact_table, p_business_key, its table and business key; p_run_id, the run.
Writes:     work.<fact>_key.
*/
CREATE OR REPLACE FUNCTION etl._take_waiting(p_fact name, p_fact_table regclass, p_business_key name[], p_run_id bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_take_waiting$
BEGIN
    EXECUTE format(
        $sql$INSERT INTO work.%1$I (%2$s)
SELECT %3$s
FROM etl.reprocessing_queue AS q
WHERE q.fact = $1
    AND q.is_ready
UNION
SELECT %4$s
FROM etl.quarantine AS q
WHERE q.object = $1
    AND q.sqlstate = '23503'
    AND EXISTS (
        SELECT
        FROM etl.task_edge AS e
        JOIN etl.task_run AS t ON t.run_id = $2 AND t.task = e.predecessor
        WHERE e.task = 'fact:' || $1
            AND t.kind = 'fact'
            AND t.rows_inserted + t.rows_updated > 0
    )$sql$,
        p_fact || '_key',
        etl._list(p_business_key),
        etl._from_json(p_business_key, 'q.fact_key', p_fact_table),
        etl._from_json(p_business_key, 'q.row_key', p_fact_table)
    )
    USING p_fact, p_run_id;
END
$_take_waiting$;
COMMENT ON FUNCTION etl._take_waiting(name, regclass, name[], bigint) IS 'Adds to the pending keys the facts that waited for something which is there now.';

/*
Asks that queued facts be looked up again by the next run, though their members have not been loaded since.
Parameters: p_fact, the fact (all by default).
Returns:    number of entries.
Writes:     etl.reprocessing_queue.
Errors:     ET002 when there is no such fact.
*/
CREATE OR REPLACE FUNCTION etl.retry_queue(p_fact name DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $retry_queue$
DECLARE
    v_count bigint;
BEGIN
    PERFORM etl._check_names(ARRAY[p_fact::text], NULL) WHERE p_fact IS NOT NULL;
    UPDATE etl.reprocessing_queue AS q
    SET is_ready = true
    WHERE NOT q.is_ready
        AND (p_fact IS NULL OR q.fact = p_fact);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$retry_queue$;
COMMENT ON FUNCTION etl.retry_queue(name) IS 'Asks that queued facts be looked up again by the next run; returns the number of entries.';
