-- Another name or e-mail address.
UPDATE oceanrecords.customers
SET
    last_name = %(last_name)s,
    email = %(email)s
WHERE customer_id = %(customer_id)s;
