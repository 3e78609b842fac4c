-- They were installed after the migrations.
DROP VIEW IF EXISTS etl.object_status, etl.object_placement;

DROP TABLE etl.placement;
