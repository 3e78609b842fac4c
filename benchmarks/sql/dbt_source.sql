-- What a watermark by time needs to find changes by index. The source pays for it with every write; that is not measured.
CREATE INDEX ON oceanrecords.orders (updated_at);
CREATE INDEX ON oceanrecords.order_lines (updated_at);
CREATE INDEX ON oceanrecords.products (updated_at);
CREATE INDEX ON oceanrecords.addresses (updated_at);
CREATE INDEX ON oceanrecords.customers (updated_at);
ANALYZE;
