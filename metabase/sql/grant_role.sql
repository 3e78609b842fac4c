-- Lets the dashboard's login read the views of schema kpi, those to come as well, and nothing else.
-- Parameters: role, database.
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA kpi TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA kpi TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA kpi GRANT SELECT ON TABLES TO {role};
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '60s';
ALTER ROLE {role} SET search_path = kpi;
COMMENT ON ROLE {role} IS 'The dashboard''s login: reads schema kpi alone.';
