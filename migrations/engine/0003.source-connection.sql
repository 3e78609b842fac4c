-- Where the contract's views wait while the operational system is on another server and foreign tables stand in for them.

CREATE SCHEMA source_local;
COMMENT ON SCHEMA source_local IS 'Views of the extraction contract that are set aside while schema source reads another server; empty otherwise.';
