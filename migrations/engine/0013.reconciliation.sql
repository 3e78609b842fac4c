-- Routines that have other names, and when a comparison has ended
--
-- depends: 0012.retired

DO $rename$
BEGIN
    -- The next installation waits by it until no run is live.
    IF to_regprocedure('etl._await_no_run()') IS NOT NULL THEN
        ALTER FUNCTION etl._await_no_run() RENAME TO await_no_run;
    END IF;
END
$rename$;
DELETE FROM etl.definer_routine
WHERE schema_name = 'etl'
    AND routine_name IN ('_begin_reconciliation', '_compare_object', '_end_reconciliation', '_hold_tasks');

ALTER TABLE etl.reconciliation_object
ALTER COLUMN seconds DROP NOT NULL;
COMMENT ON COLUMN etl.reconciliation_object.seconds IS 'Duration in seconds; NULL until it has been compared.';
COMMENT ON COLUMN etl.reconciliation_object.left_out IS 'Rows left out by reason. changed: they changed in the source since the watermark; quarantined: they cannot be loaded; forgotten: their personal data were replaced; unlogged: past versions that no log of the source confirms; pending: they differ, and the next load re-evaluates them; following: they differ because an upstream row does.';
