-- The newest products, as long as they are new.
SELECT p.product_id
FROM oceanrecords.products AS p
WHERE p.product_id > (SELECT max(n.product_id) - 12 FROM oceanrecords.products AS n)
    AND p.created_at > oceanrecords.business_time() - interval '21 days'
    AND p.is_active
ORDER BY p.product_id;
