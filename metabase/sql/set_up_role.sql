-- How a login of Metabase works; what it may read follows from its level.
-- Parameters: role; schema, the only one that it sees; comment.
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '60s';
ALTER ROLE {role} SET search_path = {schema};
COMMENT ON ROLE {role} IS {comment};
