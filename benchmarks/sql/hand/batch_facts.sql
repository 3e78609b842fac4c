-- The facts of the changed orders and lines.
INSERT INTO hand.fact_order (
    order_id, customer_key, address_key, payment_key, status_key, ordered_date_key, shipped_date_key, delivered_date_key,
    ordered_at, shipped_at, delivered_at, lost_at, line_count, quantity, gross_amount, hours_to_fulfil, is_lost, is_deleted
)
SELECT
    o.order_id,
    coalesce(c.customer_key, -1),
    coalesce(a.address_key, -1),
    coalesce(p.payment_key, -1),
    coalesce(s.status_key, -1),
    to_char(o.ordered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer,
    coalesce(to_char(o.shipped_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer, -2),
    coalesce(to_char(o.delivered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer, -2),
    o.ordered_at,
    o.shipped_at,
    o.delivered_at,
    CASE WHEN s.is_lost THEN coalesce(o.cancelled_at, o.refunded_at) END,
    coalesce(l.line_count, 0),
    coalesce(l.quantity, 0),
    coalesce(l.gross_amount, 0),
    round(extract(epoch FROM o.delivered_at - o.ordered_at) / 3600, 4),
    coalesce(s.is_lost, false),
    false
FROM changed_order AS k
JOIN oceanrecords.orders AS o USING (order_id)
LEFT JOIN (
    SELECT
        n.order_id,
        count(*)::integer AS line_count,
        sum(n.quantity) AS quantity,
        sum(n.quantity * n.unit_price) AS gross_amount
    FROM changed_order AS w
    JOIN oceanrecords.order_lines AS n USING (order_id)
    GROUP BY n.order_id
) AS l USING (order_id)
LEFT JOIN hand.dim_customer AS c
    ON c.customer_id = o.customer_id
    AND o.ordered_at >= c.valid_from
    AND o.ordered_at < c.valid_to
LEFT JOIN hand.dim_address AS a
    ON a.address_id = o.address_id
    AND o.ordered_at >= a.valid_from
    AND o.ordered_at < a.valid_to
LEFT JOIN hand.dim_payment AS p USING (payment_method_id)
LEFT JOIN hand.dim_status AS s USING (order_status_id)
ON CONFLICT (order_id) DO UPDATE
SET customer_key = excluded.customer_key,
    address_key = excluded.address_key,
    payment_key = excluded.payment_key,
    status_key = excluded.status_key,
    ordered_date_key = excluded.ordered_date_key,
    shipped_date_key = excluded.shipped_date_key,
    delivered_date_key = excluded.delivered_date_key,
    ordered_at = excluded.ordered_at,
    shipped_at = excluded.shipped_at,
    delivered_at = excluded.delivered_at,
    lost_at = excluded.lost_at,
    line_count = excluded.line_count,
    quantity = excluded.quantity,
    gross_amount = excluded.gross_amount,
    hours_to_fulfil = excluded.hours_to_fulfil,
    is_lost = excluded.is_lost;

INSERT INTO hand.fact_order_line (
    order_id, line_number, product_key, supplier_key, ordered_date_key, ordered_at, quantity, unit_price, amount, is_deleted
)
SELECT
    l.order_id,
    l.line_number,
    coalesce(p.product_key, -1),
    coalesce(s.supplier_key, -1),
    to_char(o.ordered_at AT TIME ZONE 'UTC', 'YYYYMMDD')::integer,
    o.ordered_at,
    l.quantity,
    l.unit_price,
    l.quantity * l.unit_price,
    false
FROM changed_line AS l
JOIN oceanrecords.orders AS o USING (order_id)
LEFT JOIN hand.dim_product AS p
    ON p.product_id = l.product_id
    AND o.ordered_at >= p.valid_from
    AND o.ordered_at < p.valid_to
LEFT JOIN hand.dim_supplier AS s USING (supplier_id)
ON CONFLICT (order_id, line_number) DO UPDATE
SET product_key = excluded.product_key,
    supplier_key = excluded.supplier_key,
    quantity = excluded.quantity,
    unit_price = excluded.unit_price,
    amount = excluded.amount;

UPDATE hand.watermark
SET snapshot = pg_current_snapshot();
