-- How long it takes until orders are lost, estimated from the orders of the latest two years. Young orders count for the ages that they
-- have reached (the Kaplan-Meier estimate), so the curve does not depend on how much history there is. It covers all countries.

CREATE OR REPLACE VIEW work.kpi_loss_curve AS
WITH clock AS (
    SELECT c.whole_until
    FROM work.kpi_clock AS c
),
lost AS (
    SELECT
        a.day,
        a.lost_on - a.day AS age_days,
        sum(a.lost_orders) AS orders
    FROM dwh.agg_order_lost_daily AS a
    CROSS JOIN clock AS c
    WHERE a.day >= c.whole_until - 730
        AND a.lost_on < c.whole_until
    GROUP BY a.day, a.lost_on
),
placed AS (
    -- Ages that are reached: orders of yesterday have reached age 0.
    SELECT
        c.whole_until - 1 - a.day AS age_days,
        sum(a.orders) AS orders
    FROM dwh.agg_order_daily AS a
    CROSS JOIN clock AS c
    WHERE a.day >= c.whole_until - 730
        AND a.day < c.whole_until
    GROUP BY a.day, c.whole_until
),
event AS (
    -- At each age some orders are lost, and some have not become older yet.
    SELECT l.age_days, l.orders AS lost, 0 AS open
    FROM lost AS l
    UNION ALL
    SELECT p.age_days, 0, p.orders
    FROM placed AS p
    UNION ALL
    SELECT c.whole_until - 1 - l.day, 0, -l.orders
    FROM lost AS l
    CROSS JOIN clock AS c
),
age AS (
    SELECT
        e.age_days,
        sum(e.lost) AS lost,
        sum(e.open) AS open
    FROM event AS e
    GROUP BY e.age_days
),
risk AS (
    SELECT
        a.age_days,
        a.lost,
        sum(a.lost + a.open) OVER (ORDER BY a.age_days DESC) AS orders
    FROM age AS a
),
kept AS (
    SELECT
        r.age_days,
        exp(sum(ln(greatest(1 - r.lost / r.orders, 0.000001))) OVER (ORDER BY r.age_days)) AS share
    FROM risk AS r
    WHERE r.orders > 0
),
final AS (
    SELECT
        min(k.share) AS share,
        (SELECT max(l.age_days) FROM lost AS l) AS oldest
    FROM kept AS k
)
SELECT
    k.age_days,
    1 - k.share AS lost_share,
    (1 - k.share) / nullif(1 - f.share, 0) AS part_of_final,
    1 - f.share / k.share AS later_share
FROM kept AS k
CROSS JOIN final AS f
WHERE k.age_days <= f.oldest;

COMMENT ON VIEW work.kpi_loss_curve IS 'Share of orders that is lost up to an age, and from it on. Grain: an age in days, up to the highest one at which an order was lost.';
COMMENT ON COLUMN work.kpi_loss_curve.age_days IS 'Days from the day of the order.';
COMMENT ON COLUMN work.kpi_loss_curve.lost_share IS 'Share of orders that is lost up to the end of this day, from 0 to 1.';
COMMENT ON COLUMN work.kpi_loss_curve.part_of_final IS 'The same as a part of all orders that are lost in the end, from 0 to 1.';
COMMENT ON COLUMN work.kpi_loss_curve.later_share IS 'Share of the orders not lost by then that is lost later, from 0 to 1.';

CREATE OR REPLACE VIEW kpi.loss_curve AS
SELECT
    c.age_days,
    round(100 * c.lost_share, 2) AS lost_percent,
    round(100 * c.part_of_final, 1) AS final_percent,
    round(100 * c.later_share, 2) AS later_percent
FROM work.kpi_loss_curve AS c;

COMMENT ON VIEW kpi.loss_curve IS 'How long it takes until orders are lost, over all countries: the basis of expected values and of what counts as provisional. Unit: percent. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.loss_curve.age_days IS 'Days from the day of the order.';
COMMENT ON COLUMN kpi.loss_curve.lost_percent IS 'Share of orders that is lost up to this age, in percent.';
COMMENT ON COLUMN kpi.loss_curve.final_percent IS 'The same as a part of all orders that are lost in the end, in percent. A period is provisional until its youngest orders have reached 95 percent.';
COMMENT ON COLUMN kpi.loss_curve.later_percent IS 'Share of the orders not lost by this age that is lost later, in percent.';
