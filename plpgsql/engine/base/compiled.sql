-- Routines in schema compiled. etl.build() writes one per object and step from templates; runs call them. Their SQL is static: an error names
-- routine and line, plpgsql_check and pg_stat_user_functions cover them, and \sf shows what runs.

-- The search_path under which every key is compared by its own operator: pg_catalog and the schemas of other equality operators. Without the schema
-- of citext, for example, a citext key would be compared as text.
CREATE OR REPLACE FUNCTION etl._operator_path()
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_operator_path$
    SELECT concat_ws(', ', 'pg_catalog', string_agg(DISTINCT quote_ident(n.nspname), ', '), 'pg_temp')
    FROM pg_opclass AS c
    JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
    JOIN pg_amop AS o
        ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype AND o.amopstrategy = 3
    JOIN pg_operator AS e ON e.oid = o.amopopr
    JOIN pg_namespace AS n ON n.oid = e.oprnamespace AND n.nspname <> 'pg_catalog'
    WHERE c.opcdefault
$_operator_path$;

-- Creates or replaces a compiled routine, and returns its name. p_parameters and p_result are as in CREATE FUNCTION, p_body is PL/pgSQL, p_settings
-- are further SET clauses, each as name = value.
CREATE OR REPLACE FUNCTION etl._create_compiled(
    p_name name,
    p_parameters text,
    p_result text,
    p_comment text,
    p_body text,
    p_settings text[] DEFAULT '{}'
) RETURNS name
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $_create_compiled$
DECLARE
    v_tag text := '$' || CASE WHEN p_name ~ '^[a-z_][a-z0-9_]*$' THEN p_name ELSE 'body' END || '$';
    v_earlier regprocedure[] := ARRAY(SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'compiled'::regnamespace AND p.proname = p_name);
BEGIN
    EXECUTE format(
        E'CREATE OR REPLACE FUNCTION compiled.%I(%s)\nRETURNS %s\nLANGUAGE plpgsql\nSET search_path = %s\n%sAS %s\n%s\n%s',
        p_name, p_parameters, p_result, etl._operator_path(),
        -- One session may load a batch of twenty rows and a whole table: each execution gets its own plan.
        (SELECT string_agg(format(E'SET %s\n', s.setting), '') FROM unnest('{plan_cache_mode = force_custom_plan}' || p_settings) AS s (setting)),
        v_tag, btrim(p_body, E'\n'), v_tag
    );
    IF (SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = 'compiled'::regnamespace AND p.proname = p_name) > cardinality(v_earlier) THEN
        -- One that takes other parameters was made by an earlier version of the engine.
        EXECUTE coalesce((SELECT string_agg(format('DROP FUNCTION %s;', e.routine), '') FROM unnest(v_earlier) AS e (routine)), '');
    END IF;
    EXECUTE format('COMMENT ON FUNCTION compiled.%I IS %L', p_name, p_comment);
    RETURN p_name;
END
$_create_compiled$;
