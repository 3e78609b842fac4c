-- Placement: where the tables of an object are on a cluster. On one server nothing depends on it. `oceanrecords migrate --optional citus` spreads the
-- tables that are still local.
--
--   distributed   facts, and the mirrors whose key begins like theirs: rows with the same value of the distribution column are on one node.
--                 So are the delta of such a mirror, and the pending keys and planned changes of a fact: they are joined on the nodes.
--   reference     whole on each node: the tables of dimensions.
--   local         on the coordinator only: all other tables, also the mirrors, deltas, pending keys and planned changes of dimensions.

-- The default (NULL) is derived: facts distributed with their mirrors, dimensions reference, all else local. It decides how the tables are spread,
-- and changes no table that is spread already. Writes etl.placement. ET002: there is no such object; ET003: objects of its kind cannot be placed so.
CREATE OR REPLACE FUNCTION etl.place(p_object name, p_placement text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $place$
DECLARE
    v_kind text;
BEGIN
    SELECT o.kind
    INTO v_kind
    FROM etl.object AS o
    WHERE o.object = p_object;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'object "%" does not exist', p_object
            USING ERRCODE = 'ET002', HINT = 'SELECT object FROM etl.object lists them.';
    ELSIF p_placement <> ALL (CASE v_kind
        WHEN 'source' THEN '{distributed,local}'
        WHEN 'dimension' THEN '{reference,local}'
        WHEN 'fact' THEN '{distributed,local}'
        ELSE '{local}'
    END::text[])
    THEN
        RAISE EXCEPTION 'placement "%" is not possible for % "%"', p_placement, v_kind, p_object
            USING ERRCODE = 'ET003',
                HINT = 'Facts and source tables can be distributed or local, dimensions reference or local, aggregates are local.';
    END IF;
    DELETE FROM etl.placement AS p
    WHERE p.object = p_object;
    INSERT INTO etl.placement (object, placement)
    SELECT p_object, p_placement
    WHERE p_placement IS NOT NULL;
END
$place$;
COMMENT ON FUNCTION etl.place(name, text) IS 'Declares where the tables of an object are on a cluster: distributed, reference or local.';

CREATE OR REPLACE VIEW etl.object_placement AS
WITH RECURSIVE fact AS (
    SELECT f.fact, f.transform_view, f.business_key[1] AS distribution_column
    FROM etl.fact AS f
    LEFT JOIN etl.placement AS p ON p.object = f.fact
    WHERE p.placement IS DISTINCT FROM 'local'
),
read_by_facts (relation) AS (
    SELECT f.transform_view::oid
    FROM fact AS f
    UNION
    SELECT d.refobjid
    FROM read_by_facts AS r
    JOIN pg_rewrite AS w ON w.ev_class = r.relation
    JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
),
derived AS (
    SELECT
        o.object,
        o.kind,
        o.table_name,
        (SELECT min(f.distribution_column) FROM fact AS f) AS distribution_column,
        CASE
            WHEN p.placement IS NOT NULL THEN p.placement
            WHEN o.kind = 'fact' THEN 'distributed'
            WHEN o.kind = 'dimension' AND (SELECT count(*) FROM fact AS f) > 0 THEN 'reference'
            WHEN o.kind = 'source'
                AND o.table_name IN (SELECT r.relation FROM read_by_facts AS r)
                AND o.business_key @> ARRAY[(SELECT min(f.distribution_column)::name FROM fact AS f)]
                THEN 'distributed'
            ELSE 'local'
        END AS placement
    FROM etl.object AS o
    LEFT JOIN etl.placement AS p ON p.object = o.object
)
SELECT
    d.object,
    d.kind,
    d.placement,
    CASE d.placement WHEN 'distributed' THEN d.distribution_column END AS distribution_column,
    array_remove(
        CASE
            WHEN d.kind = 'source' AND d.placement = 'distributed' THEN ARRAY[d.table_name, etl._relation_in('delta', d.object)]
            WHEN d.kind = 'fact' AND d.placement = 'distributed' THEN ARRAY[
                d.table_name, etl._relation_in('work', (d.object || '_key')::name), etl._relation_in('work', (d.object || '_decision')::name)
            ]
            ELSE ARRAY[d.table_name]
        END,
        NULL
    ) AS relations
FROM derived AS d;
COMMENT ON VIEW etl.object_placement IS 'Where the tables of each object are, or would be, on a cluster.';
COMMENT ON COLUMN etl.object_placement.object IS 'Object.';
COMMENT ON COLUMN etl.object_placement.kind IS 'source, dimension, fact or aggregate.';
COMMENT ON COLUMN etl.object_placement.placement IS 'distributed, reference or local; declared by etl.place(), or derived.';
COMMENT ON COLUMN etl.object_placement.distribution_column IS 'Column that decides on which node a row is; NULL unless distributed.';
COMMENT ON COLUMN etl.object_placement.relations IS 'Tables that are placed so. The other tables of the object are local.';
