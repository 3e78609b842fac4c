-- How far the business has come: the latest order, and what was written last. No clock may stay behind it.
SELECT
    greatest(
        (
            SELECT o.ordered_at
            FROM oceanrecords.orders AS o
            ORDER BY o.order_id DESC
            LIMIT 1
        ),
        (
            SELECT o.updated_at
            FROM oceanrecords.orders AS o
            ORDER BY o.row_xid DESC
            LIMIT 1
        ),
        (
            SELECT p.valid_from
            FROM oceanrecords.product_prices AS p
            ORDER BY p.row_xid DESC
            LIMIT 1
        )
    ) AS newest_moment,
    clock_timestamp() AS now;
