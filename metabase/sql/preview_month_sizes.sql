SELECT
    month_start,
    count(*) AS cells
FROM (
    SELECT month_start FROM kpi.product_monthly
    UNION ALL
    SELECT month_start FROM kpi.late_loss
) AS cell
GROUP BY month_start
ORDER BY month_start
