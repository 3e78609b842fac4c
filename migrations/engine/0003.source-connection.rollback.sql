-- Refuses while views are set aside: first SELECT etl.disconnect_source().

DROP SCHEMA source_local;
