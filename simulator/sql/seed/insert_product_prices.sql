-- The price log.
INSERT INTO oceanrecords.product_prices (product_id, valid_from, price, created_at, updated_at)
SELECT
    r.product_id,
    r.valid_from,
    r.price,
    r.valid_from,
    r.valid_from
FROM seed_price AS r
ORDER BY
    r.product_id,
    r.valid_from;
