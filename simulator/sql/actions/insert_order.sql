-- A new order, at the business time.
INSERT INTO oceanrecords.orders (customer_id, address_id, payment_method_id)
VALUES (%(customer_id)s, %(address_id)s, %(payment_method_id)s)
RETURNING
    order_id,
    ordered_at;
