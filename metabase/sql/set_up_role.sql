-- How the dashboard's login works; what it may read follows from its level, business.
-- Parameters: role.
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '60s';
ALTER ROLE {role} SET search_path = kpi;
COMMENT ON ROLE {role} IS 'The dashboard''s login: reads schema kpi alone.';
