-- A surrogate key stands for a version of a member: its business key and the moment from which it holds.
SELECT
    f.order_id,
    c.customer_id,
    c.valid_from AS customer_valid_from,
    a.address_id,
    a.valid_from AS address_valid_from,
    p.payment_method_id,
    s.order_status_id,
    f.ordered_date_key,
    f.shipped_date_key,
    f.delivered_date_key,
    f.ordered_at,
    f.shipped_at,
    f.delivered_at,
    f.line_count,
    f.quantity,
    f.gross_amount,
    f.hours_to_fulfil,
    f.is_lost,
    f.is_deleted
FROM fact_order AS f
LEFT JOIN dim_customer AS c USING (customer_key)
LEFT JOIN dim_address AS a USING (address_key)
LEFT JOIN dim_payment AS p USING (payment_key)
LEFT JOIN dim_status AS s USING (status_key)
