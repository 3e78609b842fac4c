-- The jobs of pg_cron that belong to this database. Schedule and maintenance both ask for them.

-- LIKE pattern of the names of this database's jobs.
CREATE OR REPLACE FUNCTION etl._job_pattern()
RETURNS text
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_job_pattern$
    SELECT 'etl ' || replace(replace(replace(current_database()::text, '\', '\\'), '%', '\%'), '_', '\_') || ' %'
$_job_pattern$;

-- Whether pg_cron lives in this database and this role may look into it.
CREATE OR REPLACE FUNCTION etl._may_see_cron()
RETURNS boolean
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $_may_see_cron$
    SELECT EXISTS (
        SELECT
        FROM pg_namespace AS n
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'job'
        WHERE n.nspname = 'cron'
            AND has_schema_privilege(n.oid, 'USAGE')
    )
$_may_see_cron$;
