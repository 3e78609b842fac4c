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
DROP FUNCTION IF EXISTS etl._end_sessions(text);
DROP FUNCTION IF EXISTS etl._begin_reconciliation(text[], integer);
DROP FUNCTION IF EXISTS etl._compare_object(bigint, name);
DROP FUNCTION IF EXISTS etl._end_reconciliation(bigint);

ALTER TABLE etl.reconciliation_object
ALTER COLUMN seconds DROP NOT NULL;
COMMENT ON COLUMN etl.reconciliation_object.seconds IS 'Duration in seconds; NULL until it has been compared.';
