-- The number of the next product, which its stock-keeping unit contains.
SELECT nextval(pg_get_serial_sequence('oceanrecords.products', 'product_id')) AS product_id;
