-- The orders of one chunk: when, by whom, sent where, and how far their life has come when the history ends.
INSERT INTO oceanrecords.orders (
    order_id, customer_id, address_id, order_status_id, payment_method_id,
    ordered_at, paid_at, shipped_at, delivered_at, cancelled_at, refunded_at, created_at, updated_at
)
-- The order at which a customer arrives is that customer's first one. All others come from customers who are there already: of two
-- drawn by lot, the more loyal one orders.
WITH placed AS MATERIALIZED (
    SELECT
        o.order_id,
        pg_temp.moment_of_day(
            d.starts_at,
            (o.order_id - d.first_order + pg_temp.chance(o.order_id, 'moment')) / (d.last_order - d.first_order + 1)
        ) AS ordered_at,
        CASE
            WHEN a.customers > a.customers_before THEN a.customers
            WHEN pg_temp.chance(l.one, 'loyalty') > pg_temp.chance(l.other, 'loyalty') THEN l.one
            ELSE l.other
        END AS customer_id,
        CASE
            WHEN f.fate < d.cancelled_share THEN 'cancelled'
            WHEN f.fate < d.cancelled_share + d.refunded_share THEN 'refunded'
            ELSE 'kept'
        END AS fate,
        1 + width_bucket(pg_temp.chance(o.order_id, 'payment method'), ARRAY[0.42, 0.69, 0.85, 0.94]::double precision[])
            AS payment_method_id
    FROM seed_plan AS p
    CROSS JOIN seed_day AS d
    CROSS JOIN LATERAL generate_series(
        greatest(d.first_order, %(first_order)s), least(d.last_order, %(last_order)s)
    ) AS o (order_id)
    CROSS JOIN LATERAL (
        SELECT
            p.founders + (p.customers - p.founders) * o.order_id / p.orders AS customers,
            p.founders + (p.customers - p.founders) * (o.order_id - 1) / p.orders AS customers_before
    ) AS a
    CROSS JOIN LATERAL (
        SELECT
            1 + floor(pg_temp.chance(o.order_id, 'one customer') * a.customers)::bigint AS one,
            1 + floor(pg_temp.chance(o.order_id, 'another customer') * a.customers)::bigint AS other
    ) AS l
    CROSS JOIN LATERAL (
        SELECT pg_temp.chance(o.order_id, 'fate') AS fate
    ) AS f
),

-- What would happen if there were no end of history. Cards are charged at once, transfers and invoices take days; a parcel
-- takes as long as its way is.
planned AS MATERIALIZED (
    SELECT
        o.order_id,
        o.customer_id,
        CASE
            WHEN h.second_address_since <= o.ordered_at AND pg_temp.chance(o.order_id, 'to the second address') < 0.45
                THEN coalesce(h.second_address_id, h.address_id)
            ELSE h.address_id
        END AS address_id,
        o.payment_method_id,
        o.fate,
        o.ordered_at,
        m.paid_at,
        o.ordered_at + pg_temp.hours(0.4 + 40 * pg_temp.chance(o.order_id, 'cancelled after')) AS cancelled_at,
        m.paid_at + w.handling AS shipped_at,
        m.paid_at + w.handling + w.transit AS delivered_at,
        m.paid_at + w.handling + w.transit + pg_temp.hours(20 + 430 * pg_temp.chance(o.order_id, 'refunded after')) AS refunded_at
    FROM placed AS o
    INNER JOIN seed_customer AS h
        ON h.customer_id = o.customer_id
    INNER JOIN seed_country AS c
        ON c.country_code = h.country_code
    CROSS JOIN LATERAL (
        SELECT
            o.ordered_at + pg_temp.hours(
                CASE o.payment_method_id
                    WHEN 3 THEN 20 + 76 * pg_temp.chance(o.order_id, 'paid after')
                    WHEN 4 THEN 12 + 48 * pg_temp.chance(o.order_id, 'paid after')
                    ELSE 0.1 * pg_temp.chance(o.order_id, 'paid after')
                END
            ) AS paid_at
    ) AS m
    CROSS JOIN LATERAL (
        SELECT
            pg_temp.hours(5 + 26 * pg_temp.chance(o.order_id, 'shipped after')) AS handling,
            pg_temp.hours(c.transit_hours * (0.6 + 0.9 * power(pg_temp.chance(o.order_id, 'delivered after'), 2))) AS transit
    ) AS w
),

happened AS (
    SELECT
        o.order_id,
        o.customer_id,
        o.address_id,
        o.payment_method_id,
        o.ordered_at,
        CASE WHEN o.paid_at < least(p.ends_at, o.last_chance_to_pay) THEN o.paid_at END AS paid_at,
        CASE WHEN o.fate <> 'cancelled' AND o.shipped_at < p.ends_at THEN o.shipped_at END AS shipped_at,
        CASE WHEN o.fate <> 'cancelled' AND o.delivered_at < p.ends_at THEN o.delivered_at END AS delivered_at,
        CASE WHEN o.fate = 'cancelled' AND o.cancelled_at < p.ends_at THEN o.cancelled_at END AS cancelled_at,
        CASE WHEN o.fate = 'refunded' AND o.refunded_at < p.ends_at THEN o.refunded_at END AS refunded_at
    FROM (
        SELECT
            n.*,
            CASE WHEN n.fate = 'cancelled' THEN n.cancelled_at ELSE 'infinity' END AS last_chance_to_pay
        FROM planned AS n
    ) AS o
    CROSS JOIN seed_plan AS p
)

SELECT
    h.order_id,
    h.customer_id,
    h.address_id,
    CASE
        WHEN h.cancelled_at IS NOT NULL THEN 5
        WHEN h.refunded_at IS NOT NULL THEN 6
        WHEN h.delivered_at IS NOT NULL THEN 4
        WHEN h.shipped_at IS NOT NULL THEN 3
        WHEN h.paid_at IS NOT NULL THEN 2
        ELSE 1
    END,
    h.payment_method_id,
    h.ordered_at,
    h.paid_at,
    h.shipped_at,
    h.delivered_at,
    h.cancelled_at,
    h.refunded_at,
    h.ordered_at,
    greatest(h.ordered_at, h.paid_at, h.shipped_at, h.delivered_at, h.cancelled_at, h.refunded_at)
FROM happened AS h
ORDER BY h.order_id;
