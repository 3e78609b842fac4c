-- A new price; the price log is written by trigger.
UPDATE oceanrecords.products
SET price = %(price)s
WHERE product_id = %(product_id)s;
