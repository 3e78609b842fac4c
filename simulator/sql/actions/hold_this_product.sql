-- One product, waiting for its lock.
SELECT
    p.product_id,
    p.price
FROM oceanrecords.products AS p
WHERE p.product_id = %(product_id)s
FOR NO KEY UPDATE;
