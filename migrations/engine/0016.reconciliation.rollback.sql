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
