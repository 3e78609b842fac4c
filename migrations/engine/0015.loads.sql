-- Routines that no file of the engine creates any more
--
-- depends: 0012.retired

DROP FUNCTION IF EXISTS etl._begin_retry(name, name[]);
DROP FUNCTION IF EXISTS etl._changed_condition(etl.source_table, text, text, text, text, text, text);
DROP FUNCTION IF EXISTS etl._changed_condition(etl.source_table, text, text, text, text, text);
DROP FUNCTION IF EXISTS etl._extract_delta(etl.source_table, boolean, etl.batch, etl.watermark, timestamptz);
DROP FUNCTION IF EXISTS etl._is_read_by_key(regclass, name[], name);
DROP FUNCTION IF EXISTS etl._lock_aggregates(name);
DROP FUNCTION IF EXISTS etl._quarantine_key(name, name[], text, text, bigint);
