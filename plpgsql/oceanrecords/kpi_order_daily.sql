CREATE OR REPLACE VIEW kpi.order_daily AS
WITH late AS (
    -- On a business date, what is lost later is not lost yet.
    SELECT a.day, a.country, sum(a.lost_orders)::bigint AS orders, sum(a.lost_amount) AS amount
    FROM dwh.agg_order_lost_daily AS a
    CROSS JOIN work.kpi_clock AS c
    WHERE a.lost_on > c.horizon
    GROUP BY a.day, a.country
),
known AS (
    SELECT
        a.day,
        a.country,
        a.orders,
        a.lost_orders - coalesce(l.orders, 0) AS lost_orders,
        a.sales + coalesce(l.amount, 0) AS sales,
        a.fulfilled_orders,
        a.hours_to_fulfil
    FROM dwh.agg_order_daily AS a
    CROSS JOIN work.kpi_clock AS c
    LEFT JOIN late AS l
        ON l.day = a.day
        AND l.country = a.country
    WHERE a.day <= c.horizon
)
SELECT
    k.day,
    k.country,
    k.orders,
    k.lost_orders,
    k.sales,
    round(k.sales / nullif(k.orders - k.lost_orders, 0), 10) AS average_order_value,
    k.fulfilled_orders,
    k.hours_to_fulfil,
    round(k.hours_to_fulfil / nullif(k.fulfilled_orders, 0), 10) AS fulfilment_hours
FROM known AS k;

COMMENT ON VIEW kpi.order_daily IS 'Orders by day and country, a row where there was something. Unit: orders, business currency, hours. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.order_daily.day IS 'Day in the business time zone: of the order, and for fulfilment of the delivery.';
COMMENT ON COLUMN kpi.order_daily.country IS 'Country that the orders went to.';
COMMENT ON COLUMN kpi.order_daily.orders IS 'Orders placed, lost ones included.';
COMMENT ON COLUMN kpi.order_daily.lost_orders IS 'Orders placed on the day that were cancelled or refunded since.';
COMMENT ON COLUMN kpi.order_daily.sales IS 'Amount of the orders that were not lost, in the business currency.';
COMMENT ON COLUMN kpi.order_daily.average_order_value IS 'Sales divided by the number of orders that were not lost, in the business currency; empty where there is none.';
COMMENT ON COLUMN kpi.order_daily.fulfilled_orders IS 'Orders delivered on the day.';
COMMENT ON COLUMN kpi.order_daily.hours_to_fulfil IS 'Hours from order to delivery, summed over the orders delivered on the day.';
COMMENT ON COLUMN kpi.order_daily.fulfilment_hours IS 'Average hours from order to delivery of the orders delivered on the day.';

CREATE OR REPLACE VIEW kpi.country AS
SELECT a.country
FROM dwh.agg_order_daily AS a
UNION
SELECT k.shown_as
FROM work.kpi_small_country AS k;
COMMENT ON VIEW kpi.country IS 'Countries that were ever sold to, and Other countries if some had few customers in a month: the values of a filter. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.country.country IS 'Country.';

CREATE OR REPLACE VIEW kpi.calendar AS
SELECT g.moment::date AS day
FROM work.kpi_clock AS c
CROSS JOIN LATERAL generate_series(
    date_trunc('month', c.first_day::timestamp), date_trunc('month', c.last_day::timestamp) + interval '1 month' - interval '1 day', interval '1 day'
) AS g (moment);
COMMENT ON VIEW kpi.calendar IS 'All days of the months with orders, up to the end of the current one: a filter of periods finds its ends here.';
COMMENT ON COLUMN kpi.calendar.day IS 'Day.';

CREATE OR REPLACE VIEW kpi.period AS
WITH clock AS (
    SELECT
        c.whole_until,
        c.month_start AS current_month,
        -- The months before this one are complete.
        date_trunc('month', c.whole_until::timestamp) AS running,
        date_trunc('month', c.first_day::timestamp)::date AS first_month,
        greatest(date_trunc('month', c.last_day::timestamp), c.month_start)::date AS last_month
    FROM work.kpi_clock AS c
),
period AS (
    SELECT p.*
    FROM clock AS c
    CROSS JOIN LATERAL (
        VALUES
            (1, 'preset', 'Last 30 days', c.whole_until - 30, c.whole_until - 1),
            (2, 'preset', 'This month', c.current_month, (c.current_month + interval '1 month')::date - 1),
            (3, 'preset', 'Last full month', (c.running - interval '1 month')::date, c.running::date - 1),
            (4, 'preset', 'Last 3 full months', (c.running - interval '3 months')::date, c.running::date - 1),
            (5, 'preset', 'Last 12 full months', (c.running - interval '12 months')::date, c.running::date - 1),
            (6, 'preset', 'Year to date', date_trunc('year', c.current_month)::date, (c.current_month + interval '1 month')::date - 1),
            (
                7, 'preset', 'Last year', (date_trunc('year', c.current_month) - interval '1 year')::date,
                date_trunc('year', c.current_month)::date - 1
            )
    ) AS p (position, kind, period, first_day, last_day)
    UNION ALL
    SELECT 8, 'quarter', to_char(g.moment, 'YYYY "Q"Q'), g.moment::date, (g.moment + interval '3 months')::date - 1
    FROM clock AS c
    CROSS JOIN LATERAL generate_series(
        date_trunc('quarter', c.first_month::timestamp), c.last_month::timestamp, interval '3 months'
    ) AS g (moment)
    UNION ALL
    SELECT 9, 'month', to_char(g.moment, 'Mon YYYY'), g.moment::date, (g.moment + interval '1 month')::date - 1
    FROM clock AS c
    CROSS JOIN LATERAL generate_series(c.first_month::timestamp, c.last_month::timestamp, interval '1 month') AS g (moment)
)
SELECT
    p.position,
    p.kind,
    p.period,
    p.first_day,
    p.last_day
FROM period AS p
CROSS JOIN clock AS c
-- Nothing happened before business began.
WHERE p.last_day >= c.first_month;

COMMENT ON VIEW kpi.period IS 'Periods that a dashboard offers: presets, and the quarters and months with orders. Order them by position and, the latest first, by first_day.';
COMMENT ON COLUMN kpi.period.position IS 'Order of the presets; quarters and months follow.';
COMMENT ON COLUMN kpi.period.kind IS 'preset, quarter or month.';
COMMENT ON COLUMN kpi.period.period IS 'Name, such as Last 30 days, 2025 Q1 or Mar 2025.';
COMMENT ON COLUMN kpi.period.first_day IS 'First day.';
COMMENT ON COLUMN kpi.period.last_day IS 'Last day; of the current month or quarter its end.';
