SELECT
    payment_method_id,
    payment_code,
    payment_name
FROM dim_payment
