-- Where a product stands.
SELECT p.product_subtype_id
FROM oceanrecords.products AS p
WHERE p.product_id = %(product_id)s;
