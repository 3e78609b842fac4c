-- The contract of a source on another server, where its views do more than take the columns of one table.

-- Schema source with its functions and views. p_role reads; p_schemas are the schemas of the operational system, whose tables it then may read. One
-- statement per row, to be executed by an owner of these schemas. They can be executed again.
CREATE OR REPLACE FUNCTION etl.source_contract(p_role text, p_schemas name[] DEFAULT '{}')
RETURNS SETOF text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $source_contract$
    WITH view AS (
        SELECT k.relation, pg_get_viewdef(k.local_view) AS definition
        FROM etl._contract() AS k
        WHERE k.local_view IS NOT NULL
    )
    SELECT s.statement
    FROM (
        SELECT 1 AS step, '' AS name, 'CREATE SCHEMA IF NOT EXISTS source;' AS statement
        UNION ALL
        -- An earlier form may have other columns.
        SELECT 2, v.relation, format('DROP VIEW IF EXISTS source.%I;', v.relation)
        FROM view AS v
        UNION ALL
        SELECT 3, p.oid::regprocedure::text, format('DROP FUNCTION IF EXISTS %s; %s;', p.oid::regprocedure, pg_get_functiondef(p.oid))
        FROM pg_proc AS p
        WHERE p.pronamespace = 'source'::regnamespace
            AND p.prokind = 'f'
        UNION ALL
        SELECT 4, v.relation, format('CREATE VIEW source.%I AS %s', v.relation, v.definition)
        FROM view AS v
        UNION ALL
        SELECT 5, n.name, format('GRANT USAGE ON SCHEMA %1$I TO %2$I; GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO %2$I;', n.name, p_role)
        FROM unnest('source'::name || p_schemas) AS n (name)
    ) AS s
    ORDER BY s.step, s.name
$source_contract$;
COMMENT ON FUNCTION etl.source_contract(text, name[]) IS 'Statements that install the contract in the database of a source on another server.';
