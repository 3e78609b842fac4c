-- Views and a trigger that no file of the engine creates any more
--
-- depends: 0010.wording

DROP VIEW IF EXISTS etl.object_status, etl.object_edge, etl.planned_refresh, etl.queue_entry, etl.star_aggregate, etl.task_graph;
DROP TRIGGER IF EXISTS note_default ON etl.setting;
