SELECT
    ordered.full_date AS ordered_on,
    delivered.full_date AS delivered_on,
    address.country,
    customer.segment AS customer_segment,
    payment.payment_name AS payment_method,
    status.status_name AS status,
    f.line_count AS lines,
    f.quantity,
    CASE WHEN f.is_lost THEN 0 ELSE f.gross_amount END AS sales,
    CASE WHEN NOT f.is_lost THEN f.gross_amount END AS order_value,
    f.is_lost,
    100 * (f.is_lost::integer - (
        SELECT l.limit_share
        FROM analysis.lost_order_limit AS l
        WHERE l.valid_from <= ordered.full_date
        ORDER BY l.valid_from DESC
        LIMIT 1
    )) AS lost_order_deviation,
    f.hours_to_fulfil AS fulfilment_hours
FROM analysis.fact_order AS f
INNER JOIN analysis.dim_date AS ordered
    ON ordered.date_key = f.ordered_date_key
INNER JOIN analysis.dim_date AS delivered
    ON delivered.date_key = f.delivered_date_key
INNER JOIN analysis.dim_address AS address
    ON address.address_key = f.address_key
INNER JOIN analysis.dim_customer AS customer
    ON customer.customer_key = f.customer_key
INNER JOIN analysis.dim_payment AS payment
    ON payment.payment_key = f.payment_key
INNER JOIN analysis.dim_status AS status
    ON status.status_key = f.status_key
WHERE NOT f.is_deleted
