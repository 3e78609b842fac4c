-- The extraction contract: what the warehouse may know of the operational system. Here each relation is a view of the schema
-- beside it; when the operational system is on another server, foreign tables of the same names and columns take their place.
-- Columns are named one by one, so that a column added over there does not turn up here unnoticed.

CREATE VIEW source.customers AS
SELECT
    customer_id,
    first_name,
    last_name,
    email,
    phone,
    segment,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.customers;
COMMENT ON VIEW source.customers IS 'Extraction contract for the operational table customers.';
COMMENT ON COLUMN source.customers.customer_id IS 'Customer.';
COMMENT ON COLUMN source.customers.first_name IS 'Given name.';
COMMENT ON COLUMN source.customers.last_name IS 'Family name.';
COMMENT ON COLUMN source.customers.email IS 'E-mail address.';
COMMENT ON COLUMN source.customers.phone IS 'Telephone number.';
COMMENT ON COLUMN source.customers.segment IS 'consumer or business.';
COMMENT ON COLUMN source.customers.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.customers.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.customers.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.addresses AS
SELECT
    address_id,
    street,
    postal_code,
    city,
    country_code,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.addresses;
COMMENT ON VIEW source.addresses IS 'Extraction contract for the operational table addresses.';
COMMENT ON COLUMN source.addresses.address_id IS 'Address.';
COMMENT ON COLUMN source.addresses.street IS 'Street and number.';
COMMENT ON COLUMN source.addresses.postal_code IS 'Postal code.';
COMMENT ON COLUMN source.addresses.city IS 'City.';
COMMENT ON COLUMN source.addresses.country_code IS 'Country, ISO 3166-1 alpha-2.';
COMMENT ON COLUMN source.addresses.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.addresses.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.addresses.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.customers_addresses AS
SELECT
    customer_id,
    address_id,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.customers_addresses;
COMMENT ON VIEW source.customers_addresses IS 'Extraction contract for the operational table customers_addresses.';
COMMENT ON COLUMN source.customers_addresses.customer_id IS 'Customer.';
COMMENT ON COLUMN source.customers_addresses.address_id IS 'Address.';
COMMENT ON COLUMN source.customers_addresses.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.customers_addresses.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.customers_addresses.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.suppliers AS
SELECT
    supplier_id,
    name,
    country_code,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.suppliers;
COMMENT ON VIEW source.suppliers IS 'Extraction contract for the operational table suppliers.';
COMMENT ON COLUMN source.suppliers.supplier_id IS 'Supplier.';
COMMENT ON COLUMN source.suppliers.name IS 'Name.';
COMMENT ON COLUMN source.suppliers.country_code IS 'Country, ISO 3166-1 alpha-2.';
COMMENT ON COLUMN source.suppliers.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.suppliers.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.suppliers.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.product_types AS
SELECT
    product_type_id,
    name,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.product_types;
COMMENT ON VIEW source.product_types IS 'Extraction contract for the operational table product_types.';
COMMENT ON COLUMN source.product_types.product_type_id IS 'Product type.';
COMMENT ON COLUMN source.product_types.name IS 'Name.';
COMMENT ON COLUMN source.product_types.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.product_types.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.product_types.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.product_subtypes AS
SELECT
    product_subtype_id,
    product_type_id,
    name,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.product_subtypes;
COMMENT ON VIEW source.product_subtypes IS 'Extraction contract for the operational table product_subtypes.';
COMMENT ON COLUMN source.product_subtypes.product_subtype_id IS 'Product subtype.';
COMMENT ON COLUMN source.product_subtypes.product_type_id IS 'Product type.';
COMMENT ON COLUMN source.product_subtypes.name IS 'Name.';
COMMENT ON COLUMN source.product_subtypes.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.product_subtypes.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.product_subtypes.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.products AS
SELECT
    product_id,
    product_subtype_id,
    supplier_id,
    sku,
    name,
    price,
    is_active,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.products;
COMMENT ON VIEW source.products IS 'Extraction contract for the operational table products.';
COMMENT ON COLUMN source.products.product_id IS 'Product.';
COMMENT ON COLUMN source.products.product_subtype_id IS 'Product subtype.';
COMMENT ON COLUMN source.products.supplier_id IS 'Supplier.';
COMMENT ON COLUMN source.products.sku IS 'Stock keeping unit.';
COMMENT ON COLUMN source.products.name IS 'Name.';
COMMENT ON COLUMN source.products.price IS 'List price in the business currency.';
COMMENT ON COLUMN source.products.is_active IS 'Whether the product is on sale.';
COMMENT ON COLUMN source.products.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.products.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.products.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.product_prices AS
SELECT
    product_id,
    valid_from,
    price,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.product_prices;
COMMENT ON VIEW source.product_prices IS 'Extraction contract for the operational table product_prices.';
COMMENT ON COLUMN source.product_prices.product_id IS 'Product.';
COMMENT ON COLUMN source.product_prices.valid_from IS 'Moment from which the price holds.';
COMMENT ON COLUMN source.product_prices.price IS 'List price in the business currency.';
COMMENT ON COLUMN source.product_prices.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.product_prices.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.product_prices.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.payment_methods AS
SELECT
    payment_method_id,
    code,
    name,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.payment_methods;
COMMENT ON VIEW source.payment_methods IS 'Extraction contract for the operational table payment_methods.';
COMMENT ON COLUMN source.payment_methods.payment_method_id IS 'Payment method.';
COMMENT ON COLUMN source.payment_methods.code IS 'Short code.';
COMMENT ON COLUMN source.payment_methods.name IS 'Name.';
COMMENT ON COLUMN source.payment_methods.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.payment_methods.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.payment_methods.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.order_statuses AS
SELECT
    order_status_id,
    code,
    name,
    is_lost,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.order_statuses;
COMMENT ON VIEW source.order_statuses IS 'Extraction contract for the operational table order_statuses.';
COMMENT ON COLUMN source.order_statuses.order_status_id IS 'Order status.';
COMMENT ON COLUMN source.order_statuses.code IS 'Short code.';
COMMENT ON COLUMN source.order_statuses.name IS 'Name.';
COMMENT ON COLUMN source.order_statuses.is_lost IS 'Whether an order in this status is lost.';
COMMENT ON COLUMN source.order_statuses.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.order_statuses.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.order_statuses.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.orders AS
SELECT
    order_id,
    customer_id,
    address_id,
    order_status_id,
    payment_method_id,
    ordered_at,
    paid_at,
    shipped_at,
    delivered_at,
    cancelled_at,
    refunded_at,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.orders;
COMMENT ON VIEW source.orders IS 'Extraction contract for the operational table orders.';
COMMENT ON COLUMN source.orders.order_id IS 'Order.';
COMMENT ON COLUMN source.orders.customer_id IS 'Customer.';
COMMENT ON COLUMN source.orders.address_id IS 'Address.';
COMMENT ON COLUMN source.orders.order_status_id IS 'Order status.';
COMMENT ON COLUMN source.orders.payment_method_id IS 'Payment method.';
COMMENT ON COLUMN source.orders.ordered_at IS 'When the order was placed.';
COMMENT ON COLUMN source.orders.paid_at IS 'When it was paid.';
COMMENT ON COLUMN source.orders.shipped_at IS 'When it was shipped.';
COMMENT ON COLUMN source.orders.delivered_at IS 'When it was delivered.';
COMMENT ON COLUMN source.orders.cancelled_at IS 'When it was cancelled.';
COMMENT ON COLUMN source.orders.refunded_at IS 'When it was refunded.';
COMMENT ON COLUMN source.orders.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.orders.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.orders.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.order_lines AS
SELECT
    order_id,
    line_number,
    product_id,
    quantity,
    unit_price,
    created_at,
    updated_at,
    row_xid
FROM oceanrecords.order_lines;
COMMENT ON VIEW source.order_lines IS 'Extraction contract for the operational table order_lines.';
COMMENT ON COLUMN source.order_lines.order_id IS 'Order.';
COMMENT ON COLUMN source.order_lines.line_number IS 'Number of the line in its order.';
COMMENT ON COLUMN source.order_lines.product_id IS 'Product.';
COMMENT ON COLUMN source.order_lines.quantity IS 'Pieces.';
COMMENT ON COLUMN source.order_lines.unit_price IS 'Price of a piece at the time of the order, in the business currency.';
COMMENT ON COLUMN source.order_lines.created_at IS 'When the row was created.';
COMMENT ON COLUMN source.order_lines.updated_at IS 'When the row last changed.';
COMMENT ON COLUMN source.order_lines.row_xid IS 'Transaction that last wrote the row.';

CREATE VIEW source.tombstones AS
SELECT
    table_name,
    row_key,
    deleted_at,
    row_xid
FROM oceanrecords.deleted_rows;
COMMENT ON VIEW source.tombstones IS 'Rows that were deleted in the operational system.';
COMMENT ON COLUMN source.tombstones.table_name IS 'Table that the row was deleted from.';
COMMENT ON COLUMN source.tombstones.row_key IS 'Its key.';
COMMENT ON COLUMN source.tombstones.deleted_at IS 'When it was deleted.';
COMMENT ON COLUMN source.tombstones.row_xid IS 'Transaction that deleted it.';

-- In place of the engine's own, which tells the same: `oceanrecords source connect` finds its relation over this one.
CREATE OR REPLACE VIEW source.extraction_point AS
SELECT
    snapshot,
    system_identifier,
    read_at,
    is_standby,
    database_id,
    timeline_id,
    wal_inserted_until,
    wal_flushed_until,
    wal_flushed_within
FROM oceanrecords.extraction_point;
COMMENT ON VIEW source.extraction_point IS 'What the present transaction sees of the operational system.';
COMMENT ON COLUMN source.extraction_point.snapshot IS 'Transactions that it sees.';
COMMENT ON COLUMN source.extraction_point.system_identifier IS 'Database system of the transaction ids.';
COMMENT ON COLUMN source.extraction_point.read_at IS 'Present moment.';
COMMENT ON COLUMN source.extraction_point.is_standby IS 'Whether the server is a hot standby.';
COMMENT ON COLUMN source.extraction_point.database_id IS 'Oid of the database.';
COMMENT ON COLUMN source.extraction_point.timeline_id IS 'Timeline of the WAL.';
COMMENT ON COLUMN source.extraction_point.wal_inserted_until IS 'End of the WAL that is written.';
COMMENT ON COLUMN source.extraction_point.wal_flushed_until IS 'End of the WAL that is flushed.';
COMMENT ON COLUMN source.extraction_point.wal_flushed_within IS 'Time within which the WAL of a transaction that has ended is flushed.';

CREATE VIEW source.columns AS
SELECT
    table_name,
    column_name,
    data_type
FROM oceanrecords.extraction_columns;
COMMENT ON VIEW source.columns IS 'Columns that the operational tables have, told so that a change of their structure is noticed.';
COMMENT ON COLUMN source.columns.table_name IS 'Table.';
COMMENT ON COLUMN source.columns.column_name IS 'Column.';
COMMENT ON COLUMN source.columns.data_type IS 'SQL type.';
