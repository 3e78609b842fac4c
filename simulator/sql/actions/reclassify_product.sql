-- The product moves to another shelf.
UPDATE oceanrecords.products
SET product_subtype_id = %(product_subtype_id)s
WHERE product_id = %(product_id)s;
