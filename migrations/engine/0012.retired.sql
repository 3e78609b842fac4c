-- Views and a trigger that no file of the engine creates any more
--
-- depends: 0011.noticed-changes

DROP VIEW IF EXISTS etl.planned_refresh, etl.queue_entry, etl.star_aggregate, etl.task_graph;
DROP TRIGGER IF EXISTS note_default ON etl.setting;
