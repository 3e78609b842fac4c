-- A customer gets an address; nothing comes back if it is the customer's already.
INSERT INTO oceanrecords.customers_addresses (customer_id, address_id)
VALUES (%(customer_id)s, %(address_id)s)
ON CONFLICT (customer_id, address_id) DO NOTHING
RETURNING address_id;
