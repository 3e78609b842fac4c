-- The contract: what the warehouse may see, one view a table.

CREATE VIEW source.members AS
SELECT
    member_id,
    name,
    category,
    updated_at,
    row_xid
FROM library.members;

CREATE VIEW source.books AS
SELECT
    isbn,
    title,
    genre,
    updated_at,
    row_xid
FROM library.books;

CREATE VIEW source.loans AS
SELECT
    loan_id,
    member_id,
    isbn,
    borrowed_at,
    returned_at,
    row_xid
FROM library.loans;

-- Tombstones of both businesses, as they share a database.
CREATE OR REPLACE VIEW source.tombstones AS
SELECT
    table_name,
    row_key,
    deleted_at,
    row_xid
FROM oceanrecords.deleted_rows
UNION ALL
SELECT
    table_name,
    row_key,
    deleted_at,
    row_xid
FROM library.deleted_rows;

INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column, delete_detection)
VALUES
    ('members', '{member_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('books', '{isbn}', 'snapshot', 'row_xid', 'tombstone'),
    ('loans', '{loan_id}', 'snapshot', 'row_xid', 'tombstone');

-- Makes delta.members, stage.members and so on, on which the views of the next steps stand.
CALL etl.build();
