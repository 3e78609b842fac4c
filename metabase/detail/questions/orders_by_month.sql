SELECT
    ordered.month_start,
    count(*) AS orders,
    count(*) FILTER (WHERE f.is_lost) AS lost_orders,
    coalesce(sum(f.gross_amount) FILTER (WHERE NOT f.is_lost), 0) AS sales
FROM analysis.fact_order AS f
INNER JOIN analysis.dim_date AS ordered
    ON ordered.date_key = f.ordered_date_key
INNER JOIN analysis.dim_address AS address
    ON address.address_key = f.address_key
INNER JOIN analysis.dim_status AS status
    ON status.status_key = f.status_key
WHERE NOT f.is_deleted
    [[AND address.country IN ({{country}})]]
    [[AND status.status_name IN ({{status}})]]
GROUP BY ordered.month_start
ORDER BY ordered.month_start DESC
LIMIT 13
