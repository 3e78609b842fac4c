-- The extraction contract: the relations of schema source, where they read, and the privileges that they need.

CREATE OR REPLACE VIEW etl.source_connection AS
WITH server AS (
    SELECT
        s.oid,
        s.srvname,
        (SELECT jsonb_object_agg(o.option_name, o.option_value) FROM pg_options_to_table(s.srvoptions) AS o) AS options
    FROM pg_foreign_server AS s
)
SELECT
    CASE WHEN v.oid IS NULL THEN 'local' ELSE 'remote' END AS location,
    v.options ->> 'host' AS host,
    (v.options ->> 'port')::integer AS port,
    coalesce(v.options ->> 'dbname', current_database()) AS database_name,
    coalesce((
        SELECT o.option_value
        FROM pg_user_mappings AS m
        CROSS JOIN LATERAL pg_options_to_table(m.umoptions) AS o
        WHERE m.srvid = v.oid
            AND o.option_name = 'user'
    ), CASE WHEN v.oid IS NULL THEN current_user END) AS user_name,
    (
        SELECT o.option_value
        FROM pg_foreign_table AS t
        CROSS JOIN LATERAL pg_options_to_table(t.ftoptions) AS o
        WHERE t.ftrelid = to_regclass('source.extraction_point')
            AND o.option_name = 'schema_name'
    ) AS remote_schema,
    v.options ->> 'sslmode' AS sslmode,
    (v.options ->> 'fetch_size')::integer AS fetch_size
FROM (VALUES ('etl_source'::name)) AS n (name)
LEFT JOIN server AS v ON v.srvname = n.name;
COMMENT ON VIEW etl.source_connection IS 'Where schema source reads: one row, without the password.';
COMMENT ON COLUMN etl.source_connection.location IS 'local (views of this database) or remote (foreign tables).';
COMMENT ON COLUMN etl.source_connection.host IS 'Host; NULL when local.';
COMMENT ON COLUMN etl.source_connection.port IS 'Port; NULL when local.';
COMMENT ON COLUMN etl.source_connection.database_name IS 'Database.';
COMMENT ON COLUMN etl.source_connection.user_name IS 'Role that reads; NULL without the privilege to see it.';
COMMENT ON COLUMN etl.source_connection.remote_schema IS 'Schema on the source server; NULL when local.';
COMMENT ON COLUMN etl.source_connection.sslmode IS 'libpq''s sslmode; NULL when local.';
COMMENT ON COLUMN etl.source_connection.fetch_size IS 'Rows per fetch; NULL when local.';

-- The relations of the extraction contract: the view in schema source or source_local, if there is one, and the table of a view that only selects
-- columns of one table. Any other view must exist on the source server, too.
CREATE OR REPLACE FUNCTION etl._contract()
RETURNS TABLE (relation name, local_view regclass, base_schema name, base_table name)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_contract$
    WITH wanted AS (
        SELECT s.source_table AS relation
        FROM etl.source_table AS s
        UNION
        SELECT r.relname
        FROM pg_class AS r
        WHERE r.relnamespace IN ('source'::regnamespace, 'source_local'::regnamespace)
            AND r.relname IN ('tombstones', 'extraction_point', 'columns')
    ),
    found AS (
        SELECT w.relation, c.oid::regclass AS local_view
        FROM wanted AS w
        LEFT JOIN pg_class AS c ON c.oid = coalesce(to_regclass(format('source_local.%I', w.relation)), to_regclass(format('source.%I', w.relation)))
            AND c.relkind = 'v'
    )
    SELECT f.relation, f.local_view, b.nspname, b.relname
    FROM found AS f
    LEFT JOIN LATERAL (
        SELECT n.nspname, c.relname
        FROM pg_rewrite AS r
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> f.local_view
        JOIN pg_class AS c ON c.oid = d.refobjid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        -- The definition of a view that selects columns of this table and does nothing else.
        CROSS JOIN LATERAL (
            SELECT
                format('SELECT %s FROM %I.%I;', etl._list(etl._columns(f.local_view)), n.nspname, c.relname) AS short,
                format('SELECT %s FROM %I.%I;', etl._list(etl._columns(f.local_view), quote_ident(c.relname) || '.%1$I'), n.nspname, c.relname) AS long
        ) AS e
        WHERE r.ev_class = f.local_view
            AND btrim(regexp_replace(pg_get_viewdef(f.local_view), '\s+', ' ', 'g')) IN (e.short, e.long)
        LIMIT 1
    ) AS b ON true
    ORDER BY f.relation
$_contract$;

-- The owner of the source runs them there. p_schema is the schema on the source server, by default that of the local tables.
CREATE OR REPLACE FUNCTION etl.source_grants(p_role text, p_schema name DEFAULT NULL)
RETURNS SETOF text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $source_grants$
    WITH wanted AS (
        SELECT coalesce(p_schema, min(k.base_schema::text) OVER ()::name) AS remote_schema, k.relation, coalesce(k.base_table, k.relation) AS remote_table
        FROM etl._contract() AS k
    )
    -- The statement finds the name of its database itself.
    SELECT format('DO %L;', format('BEGIN EXECUTE format(''GRANT CONNECT ON DATABASE %%I TO %%I'', current_database(), %L); END', p_role))
    UNION ALL
    (SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I;', w.remote_schema, p_role) FROM wanted AS w)
    UNION ALL
    (
        SELECT format(
            'GRANT SELECT (%s) ON %I.%I TO %I;',
            etl._list(etl._columns(format('source.%I', w.relation)::regclass)), w.remote_schema, w.remote_table, p_role
        )
        FROM wanted AS w
        ORDER BY w.relation
    )
$source_grants$;
COMMENT ON FUNCTION etl.source_grants(text, name) IS 'Statements that grant a role of the source server the privileges that the warehouse needs.';
