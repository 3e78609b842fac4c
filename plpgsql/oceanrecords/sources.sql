-- Source tables of OceanRecords: every change is found by the transaction that made it, every deletion by its tombstone.

INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column, delete_detection)
VALUES
    ('addresses', '{address_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('customers', '{customer_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('customers_addresses', '{customer_id,address_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('order_lines', '{order_id,line_number}', 'snapshot', 'row_xid', 'tombstone'),
    ('order_statuses', '{order_status_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('orders', '{order_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('payment_methods', '{payment_method_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('product_prices', '{product_id,valid_from}', 'snapshot', 'row_xid', 'tombstone'),
    ('product_subtypes', '{product_subtype_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('product_types', '{product_type_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('products', '{product_id}', 'snapshot', 'row_xid', 'tombstone'),
    ('suppliers', '{supplier_id}', 'snapshot', 'row_xid', 'tombstone')
ON CONFLICT (source_table) DO UPDATE
SET key_columns = excluded.key_columns,
    change_detection = excluded.change_detection,
    change_column = excluded.change_column,
    delete_detection = excluded.delete_detection;

-- The mirrors come first: the transformation views stand on them.
CALL etl.build();
