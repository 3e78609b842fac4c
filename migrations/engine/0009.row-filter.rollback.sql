-- They were installed after the migrations.
DROP VIEW IF EXISTS etl.access_flaw, etl.access_limit, etl.permission_gap, etl.direct_grant, etl.column_status, etl.people_reader, etl.access_object;
DROP FUNCTION IF EXISTS etl._sign_row_access() CASCADE;

ALTER TABLE etl.source_table DROP COLUMN read_relations;
DELETE FROM etl.declaration AS d
WHERE d.kind = 'row filter';
ALTER TABLE etl.declaration DROP CONSTRAINT declaration_kind_check;
ALTER TABLE etl.declaration ADD CHECK (kind IN ('source', 'dimension', 'fact', 'aggregate', 'check'));
ALTER TABLE etl.row_access RENAME CONSTRAINT row_access_value_check TO country_access_country_code_check;
ALTER TABLE etl.row_access RENAME CONSTRAINT row_access_pkey TO country_access_pkey;
ALTER TABLE etl.row_access RENAME COLUMN value TO country_code;
ALTER TABLE etl.row_access RENAME TO country_access;
DROP TABLE etl.row_filter;
