DROP TABLE etl.placement;
