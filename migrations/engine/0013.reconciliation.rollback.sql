UPDATE etl.reconciliation_object
SET seconds = 0
WHERE seconds IS NULL;
ALTER TABLE etl.reconciliation_object
ALTER COLUMN seconds SET NOT NULL;
COMMENT ON COLUMN etl.reconciliation_object.seconds IS 'Duration in seconds.';
-- The files of the earlier version create its routines again.
DROP FUNCTION IF EXISTS etl.await_no_run();
DROP FUNCTION IF EXISTS etl.end_sessions(text);
DROP FUNCTION IF EXISTS etl.begin_reconciliation(text[], integer);
DROP FUNCTION IF EXISTS etl.compare_next_object(bigint);
DROP FUNCTION IF EXISTS etl.end_reconciliation(bigint);
DROP FUNCTION IF EXISTS etl._compare_object(etl.reconciliation, name, text);
DROP FUNCTION IF EXISTS etl._hashed_list(name[], text, regclass, boolean);
DROP FUNCTION IF EXISTS etl._compare_versions(etl.dimension, integer, integer);
DROP FUNCTION IF EXISTS etl._compile_fact_reconciliation(etl.fact);
DELETE FROM etl.definer_routine
WHERE schema_name = 'etl'
    AND routine_name IN ('begin_reconciliation', 'compare_next_object', 'end_reconciliation');
COMMENT ON COLUMN etl.reconciliation_object.left_out IS 'Rows left out by reason. changed: they differ, and changed in the source since the watermark; quarantined: they cannot be loaded; forgotten: their personal data were replaced; unlogged: past versions that no log of the source confirms; pending: they differ, and the next load re-evaluates them; following: they differ because an upstream row does.';
