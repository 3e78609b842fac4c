-- A routine of the workers that no file of the engine creates any more
--
-- depends: 0012.retired

DELETE FROM etl.definer_routine
WHERE schema_name = 'etl'
    AND routine_name = '_hold_tasks';
