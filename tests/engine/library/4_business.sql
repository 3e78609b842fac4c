-- The business: a view a table of the star, and what the engine must know about each.

CREATE VIEW work.dim_member AS
SELECT
    m.member_id,
    trim(m.name) AS member_name,
    m.category,
    m.updated_at AS effective_at,
    m.deleted_at
FROM stage.members AS m;

CREATE VIEW work.dim_book AS
SELECT
    b.isbn,
    trim(b.title) AS title,
    b.genre,
    b.updated_at AS effective_at,
    b.deleted_at
FROM stage.books AS b;

CREATE VIEW work.fact_loan AS
SELECT
    l.loan_id,
    l.member_id,
    l.isbn,
    (l.borrowed_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS borrowed_on,
    (l.returned_at AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date AS returned_on,
    l.borrowed_at,
    1 AS loan_count,
    extract(epoch FROM l.returned_at - l.borrowed_at) / 86400 AS days_out,
    l.deleted_at
FROM stage.loans AS l;

INSERT INTO etl.dimension (dimension, dimension_table, transform_view, surrogate_key, business_key)
VALUES
    ('dim_member', 'dwh.dim_member', 'work.dim_member', 'member_key', '{member_id}'),
    ('dim_book', 'dwh.dim_book', 'work.dim_book', 'book_key', '{isbn}');

-- A member who grows up is another version; a corrected name or title is not.
INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)
VALUES
    ('dim_member', 'member_name', 1),
    ('dim_member', 'category', 2),
    ('dim_book', 'title', 1),
    ('dim_book', 'genre', 1);

INSERT INTO etl.fact (fact, fact_table, transform_view, business_key, measures)
VALUES ('fact_loan', 'dwh.fact_loan', 'work.fact_loan', '{loan_id}', '{loan_count,days_out}');

INSERT INTO etl.fact_dimension (fact, key_column, dimension, lookup_columns, as_of_column, null_key)
VALUES
    ('fact_loan', 'member_key', 'dim_member', '{member_id}', 'borrowed_at', -1),
    ('fact_loan', 'book_key', 'dim_book', '{isbn}', 'borrowed_at', -1),
    ('fact_loan', 'borrowed_date_key', 'dim_date', '{borrowed_on}', NULL, -1),
    ('fact_loan', 'returned_date_key', 'dim_date', '{returned_on}', NULL, -2);

INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
    ('dim_member', 'members', 'SELECT member_id FROM changed'),
    ('dim_book', 'books', 'SELECT isbn FROM changed'),
    ('fact_loan', 'loans', 'SELECT loan_id FROM changed');

CALL etl.build();
