-- The reprocessing queue: facts with unresolved keys. They are loaded again when the member arrives, or on request.

-- Makes the facts with ready queue entries pending. After a full refresh, all facts that were queued or quarantined before it: the refresh has compared the
-- rows of the fact, not the queue.
-- Parameters: p_fact, the fact; p_business_key, its columns; p_refreshed_at, when a full refresh began, NULL for none.
-- Writes:     work.<fact>_key.
CREATE OR REPLACE FUNCTION etl._enqueue_waiting(p_fact name, p_business_key name[], p_refreshed_at timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_enqueue_waiting$
BEGIN
    EXECUTE etl._render(
        $template$INSERT INTO {{keys}} ({{key}})
SELECT {{u.key}}
FROM etl.reprocessing_queue AS q
CROSS JOIN LATERAL jsonb_populate_record(NULL::{{keys}}, q.fact_key) AS u
WHERE q.fact = $1
    AND (q.is_ready OR q.tried_at < $2)
UNION
SELECT {{u.key}}
FROM etl.quarantine AS q
CROSS JOIN LATERAL jsonb_populate_record(NULL::{{keys}}, q.row_key) AS u
WHERE q.object = $1
    AND q.tried_at < $2$template$,
        jsonb_build_object('keys', format('work.%I', p_fact || '_key'), 'key', to_jsonb(p_business_key))
    )
    USING p_fact, p_refreshed_at;
END
$_enqueue_waiting$;

-- Requests that the next run looks up queued facts again, although their members have not been loaded since.
-- Parameters: p_fact, the fact (all by default).
-- Returns:    number of entries.
-- Writes:     etl.reprocessing_queue.
-- Errors:     ET002 when there is no such fact.
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
