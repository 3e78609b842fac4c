-- The number of the next customer, which the e-mail address contains.
SELECT nextval(pg_get_serial_sequence('oceanrecords.customers', 'customer_id')) AS customer_id;
