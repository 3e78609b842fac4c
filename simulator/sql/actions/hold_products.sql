-- Products at their price. No price changes while they are held, so that an order has the price of its moment. All who
-- hold several take them in the order of their numbers.
SELECT
    p.product_id,
    p.price
FROM oceanrecords.products AS p
WHERE p.product_id = any(%(product_ids)s::bigint[])
    AND p.is_active
ORDER BY p.product_id
FOR SHARE;
