SELECT
    ordered.full_date AS ordered_on,
    delivered.full_date AS delivered_on,
    address.country,
    customer.segment AS customer_segment,
    payment.payment_name AS payment_method,
    status.status_name AS status,
    f.quantity,
    f.gross_amount,
    f.is_lost,
    f.hours_to_fulfil AS fulfilment_hours
FROM analysis.fact_order AS f
INNER JOIN analysis.dim_date AS ordered
    ON ordered.date_key = f.ordered_date_key
INNER JOIN analysis.dim_address AS address
    ON address.address_key = f.address_key
INNER JOIN analysis.dim_status AS status
    ON status.status_key = f.status_key
INNER JOIN analysis.dim_date AS delivered
    ON delivered.date_key = f.delivered_date_key
INNER JOIN analysis.dim_customer AS customer
    ON customer.customer_key = f.customer_key
INNER JOIN analysis.dim_payment AS payment
    ON payment.payment_key = f.payment_key
WHERE NOT f.is_deleted
    [[AND ordered.month_start = date_trunc('month', {{month}}::timestamp)::date]]
    [[AND address.country IN ({{country}})]]
    [[AND status.status_name IN ({{status}})]]
ORDER BY f.ordered_at DESC
LIMIT 1000
