-- Placement: where the tables of an object are on a cluster
--
-- depends: 0007.quarantine

CREATE TABLE etl.placement (
    object name PRIMARY KEY,
    placement text NOT NULL CHECK (placement IN ('distributed', 'reference', 'local'))
);
COMMENT ON TABLE etl.placement IS 'Declared placements of objects on a cluster; etl.object_placement has the others.';
COMMENT ON COLUMN etl.placement.object IS 'Source table, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.placement.placement IS 'distributed, reference or local.';
