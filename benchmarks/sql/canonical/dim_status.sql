SELECT
    order_status_id,
    status_code,
    status_name,
    is_lost
FROM dim_status
