-- Rows by an attribute that the business declares, in place of countries; what the views of the contract read
--
-- depends: 0008.placement

CREATE TABLE etl.row_filter (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    attribute text NOT NULL CHECK (attribute <> ''),
    value_relation regclass NOT NULL,
    value_column name NOT NULL
);
COMMENT ON TABLE etl.row_filter IS 'The attribute by which rows are shown to some users only: one row at most, written by etl.define_row_filter().';
COMMENT ON COLUMN etl.row_filter.is_only IS 'Limits the table to one row.';
COMMENT ON COLUMN etl.row_filter.attribute IS 'Name of the attribute, for messages and as the name of an option, such as branch.';
COMMENT ON COLUMN etl.row_filter.value_relation IS 'Table or view that lists its values.';
COMMENT ON COLUMN etl.row_filter.value_column IS 'Column of that table or view.';

ALTER TABLE etl.country_access RENAME TO row_access;
ALTER TABLE etl.row_access RENAME COLUMN country_code TO value;
ALTER TABLE etl.row_access RENAME CONSTRAINT country_access_pkey TO row_access_pkey;
ALTER TABLE etl.row_access RENAME CONSTRAINT country_access_country_code_check TO row_access_value_check;
-- Its successor is installed after the migrations.
DROP FUNCTION IF EXISTS etl._sign_country_access() CASCADE;
COMMENT ON TABLE etl.row_access IS 'Rows that each login sees in schema analysis, by values of the row filter. A login without an entry sees none.';
COMMENT ON COLUMN etl.row_access.login IS 'Login.';
COMMENT ON COLUMN etl.row_access.value IS 'Value of the attribute that etl.row_filter names; ?? for rows without a known value; * for all rows.';
COMMENT ON COLUMN etl.row_access.role_id IS 'Role that had the name when the entry was made; a later role of the same name does not inherit it. Set by a trigger.';
COMMENT ON COLUMN etl.row_access.granted_at IS 'When the entry was made.';

ALTER TABLE etl.declaration DROP CONSTRAINT declaration_kind_check;
ALTER TABLE etl.declaration ADD CHECK (kind IN ('source', 'dimension', 'fact', 'aggregate', 'check', 'row filter'));
ALTER TABLE etl.source_table ADD COLUMN read_relations jsonb;
COMMENT ON COLUMN etl.declaration.kind IS 'source, dimension, fact, aggregate, check or row filter.';
COMMENT ON COLUMN etl.source_table.read_relations IS 'Relations that the view source.<name> read when etl.build() was last called: their names and oids. NULL when they are on another server.';
