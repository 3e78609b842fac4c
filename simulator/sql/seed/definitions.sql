-- What the bulk load takes away and puts back: foreign keys, unique constraints, and indexes that no constraint owns, each with
-- the statements that drop and create it. Building an index once, and checking a foreign key in one pass, costs a fraction of
-- doing so row by row. Drop in this order, create in the reverse.
SELECT
    format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname) AS drop_statement,
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) AS create_statement,
    CASE c.contype WHEN 'f' THEN 1 ELSE 2 END AS phase,
    c.conname::text AS name
FROM pg_constraint AS c
WHERE c.connamespace = 'oceanrecords'::regnamespace
    AND c.contype IN ('f', 'u')
    AND c.conrelid::regclass::text NOT IN (
        'oceanrecords.payment_methods', 'oceanrecords.order_statuses', 'oceanrecords.order_status_transitions'
    )
UNION ALL
SELECT
    format('DROP INDEX %s', i.indexrelid::regclass),
    pg_get_indexdef(i.indexrelid),
    3,
    r.relname::text
FROM pg_index AS i
INNER JOIN pg_class AS r
    ON r.oid = i.indexrelid
WHERE r.relnamespace = 'oceanrecords'::regnamespace
    AND i.indrelid::regclass::text NOT IN (
        'oceanrecords.payment_methods', 'oceanrecords.order_statuses', 'oceanrecords.order_status_transitions',
        'oceanrecords.deleted_rows'
    )
    AND NOT EXISTS (
        SELECT
        FROM pg_constraint AS c
        WHERE c.conindid = i.indexrelid
    )
ORDER BY
    phase,
    name;
