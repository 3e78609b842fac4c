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
    AND routine_name IN ('_begin_reconciliation', '_compare_object', '_end_reconciliation');
DROP FUNCTION IF EXISTS etl._end_sessions(text);
DROP FUNCTION IF EXISTS etl._begin_reconciliation(text[], integer);
DROP FUNCTION IF EXISTS etl._compare_object(bigint, name);
DROP FUNCTION IF EXISTS etl._end_reconciliation(bigint);

ALTER TABLE etl.reconciliation_object
ALTER COLUMN seconds DROP NOT NULL;
COMMENT ON COLUMN etl.reconciliation_object.seconds IS 'Duration in seconds; NULL until it has been compared.';
COMMENT ON COLUMN etl.reconciliation_object.left_out IS 'Rows left out by reason. changed: they changed in the source since the watermark; quarantined: they cannot be loaded; forgotten: their personal data were replaced; unlogged: past versions that no log of the source confirms; pending: they differ, and the next load re-evaluates them; following: they differ because an upstream row does.';

-- Routines of reconcile/ that have been replaced
DROP FUNCTION IF EXISTS etl._compared_list(name[], text, regclass);
DROP FUNCTION IF EXISTS etl._typed_list(name[], text, regclass);
DROP FUNCTION IF EXISTS etl._hashed_list(name[], text, regclass);
DROP FUNCTION IF EXISTS etl._comparison_values(text, text, name[], name[], regclass, name[]);
DROP FUNCTION IF EXISTS etl._side_sql(text, jsonb);
DROP FUNCTION IF EXISTS etl._bucket_sql(text, jsonb);
DROP FUNCTION IF EXISTS etl._row_sql(jsonb);
DROP FUNCTION IF EXISTS etl._compare(name, jsonb, regclass, name[], integer, integer);
DROP FUNCTION IF EXISTS etl._begin_planning(etl.dimension);
DROP FUNCTION IF EXISTS etl._member_is_refused(etl.dimension, jsonb);
DROP FUNCTION IF EXISTS etl._fact_is_refused(etl.fact, jsonb, text);
DROP FUNCTION IF EXISTS etl._member_values(etl.dimension);
DROP FUNCTION IF EXISTS etl._compare_versions(etl.dimension, jsonb, integer, integer);
DROP FUNCTION IF EXISTS etl._compare_timelines(etl.dimension, jsonb);
DROP FUNCTION IF EXISTS etl._compile_fact_reconciliation(etl.fact);
DROP FUNCTION IF EXISTS etl._write_expected(bigint, name, name[], regclass, text);
DROP FUNCTION IF EXISTS etl._unresolved_keys(name);
DROP FUNCTION IF EXISTS etl._count_outdated(etl.source_table, name[]);
DROP FUNCTION IF EXISTS etl._enqueue_differing(bigint, name, name[], regclass);
DROP FUNCTION IF EXISTS etl._repair_queue(bigint);
