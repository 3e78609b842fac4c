-- The next active product from a number on that no other session has locked.
SELECT
    p.product_id,
    p.price
FROM oceanrecords.products AS p
WHERE p.product_id >= %(from_product)s
    AND p.is_active
ORDER BY p.product_id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;
