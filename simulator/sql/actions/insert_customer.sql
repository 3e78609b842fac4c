-- A new customer.
INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment)
VALUES (
    %(customer_id)s, %(first_name)s, %(last_name)s, %(email)s, %(phone)s, %(segment)s
);
