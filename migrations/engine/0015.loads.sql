-- Routines that no file of the engine creates any more
--
-- depends: 0012.retired

DROP FUNCTION IF EXISTS etl._is_read_by_key(regclass, name[], name);
