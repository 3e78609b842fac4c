-- What was sold by month, country and product, and what sold for most. A name is overwritten in all versions of its product,
-- so any one of them tells it.

CREATE OR REPLACE VIEW kpi.product AS
SELECT
    d.product_id,
    min(d.product_name) AS product_name
FROM dwh.dim_product AS d
WHERE d.product_id IS NOT NULL
GROUP BY d.product_id;

COMMENT ON VIEW kpi.product IS 'Products with their names as they are now. Source: dwh.dim_product.';
COMMENT ON COLUMN kpi.product.product_id IS 'Product.';
COMMENT ON COLUMN kpi.product.product_name IS 'Name.';

CREATE OR REPLACE VIEW work.kpi_line AS
SELECT
    d.full_date AS day,
    CASE
        WHEN f.is_lost THEN coalesce((f.lost_at AT TIME ZONE c.time_zone)::date, d.full_date)
    END AS lost_on,
    f.ordered_at,
    d.month_start,
    a.country,
    p.product_type,
    p.product_subtype,
    coalesce(p.product_id, -1) AS product_id,
    l.quantity::bigint AS quantity,
    l.amount AS sales
FROM dwh.fact_order AS f
JOIN dwh.fact_order_line AS l ON l.order_id = f.order_id
JOIN dwh.dim_date AS d ON d.date_key = f.ordered_date_key
JOIN dwh.dim_address AS a ON a.address_key = f.address_key
JOIN dwh.dim_product AS p ON p.product_key = l.product_key
CROSS JOIN (SELECT max(s.value) AS time_zone FROM etl.setting AS s
    WHERE s.name = 'time_zone') AS c
WHERE NOT f.is_deleted
    AND NOT l.is_deleted
    AND d.month_start IS NOT NULL;

COMMENT ON VIEW work.kpi_line IS 'Order lines with day of order and day of loss: for periods that are not made of whole months, and for what was known earlier.';
COMMENT ON COLUMN work.kpi_line.day IS 'Day of the order, in the business time zone.';
COMMENT ON COLUMN work.kpi_line.lost_on IS 'Day on which the order was cancelled or refunded; the day of the order if unknown; NULL if the order is not lost.';
COMMENT ON COLUMN work.kpi_line.ordered_at IS 'Timestamp of the order.';
COMMENT ON COLUMN work.kpi_line.month_start IS 'First day of the month of the order.';
COMMENT ON COLUMN work.kpi_line.country IS 'Country of the address, in the version valid when ordered.';
COMMENT ON COLUMN work.kpi_line.product_type IS 'Product type, in the version valid when ordered.';
COMMENT ON COLUMN work.kpi_line.product_subtype IS 'Product subtype, in the version valid when ordered.';
COMMENT ON COLUMN work.kpi_line.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN work.kpi_line.quantity IS 'Pieces.';
COMMENT ON COLUMN work.kpi_line.sales IS 'Quantity times unit price.';

-- Order lines of a period, summed by month, country and product: of days from p_first to before p_until. Orders that were lost on p_known_until or
-- later count; those that are not lost count before p_months_from and from p_months_until on. With p_is_by_country, countries with few customers are
-- "Other countries": in whole months as work.kpi_small_country says; in the other days as these days say, and all countries if the customers of these
-- few together are few. The facts are read by a routine of its own, with the rights of its owner: Citus cannot read them from a query that contains
-- other routines, nor with the rights of a business user.
CREATE OR REPLACE FUNCTION work.kpi_line_sold(
    p_first date,
    p_until date,
    p_known_until date,
    p_months_from date,
    p_months_until date,
    p_is_by_country boolean
)
RETURNS TABLE (month_start date, country text, product_type text, product_subtype text, product_id bigint, quantity bigint, sales numeric)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $kpi_line_sold$
#variable_conflict use_column
DECLARE
    v_people integer := etl.get_setting('small_group')::integer;
    v_is_by_country boolean := p_is_by_country AND v_people > 0;
BEGIN
    RETURN QUERY
    WITH people AS MATERIALIZED (
        SELECT u.country, u.customer_id
        FROM (VALUES (p_first, least(p_until, p_months_from)), (greatest(p_first, p_months_until), p_until)) AS r (first_day, until)
        CROSS JOIN LATERAL work.kpi_customer(r.first_day, r.until - 1) AS u
        WHERE v_is_by_country
            AND r.first_day < r.until
    ),
    many AS MATERIALIZED (
        SELECT p.country
        FROM people AS p
        GROUP BY p.country
        HAVING count(DISTINCT p.customer_id) >= v_people
    ),
    shown AS MATERIALIZED (
        SELECT m.country
        FROM many AS m
        WHERE (SELECT count(DISTINCT p.customer_id) FROM people AS p WHERE p.country NOT IN (SELECT o.country FROM many AS o)) NOT BETWEEN 1 AND v_people - 1
    )
    SELECT
        l.month_start,
        CASE
            WHEN NOT v_is_by_country THEN l.country
            WHEN l.day >= p_months_from AND l.day < p_months_until THEN coalesce(k.shown_as, l.country)
            WHEN s.country IS NOT NULL THEN l.country
            ELSE 'Other countries'
        END,
        l.product_type,
        l.product_subtype,
        l.product_id,
        sum(l.quantity)::bigint,
        sum(l.sales)
    FROM work.kpi_line AS l
    LEFT JOIN work.kpi_small_country AS k ON v_is_by_country AND k.country = l.country AND k.month_start = l.month_start
    LEFT JOIN shown AS s ON s.country = l.country
    WHERE l.day >= p_first
        AND l.day < p_until
        -- The index on the timestamp finds the rows; two days cover the time zones of the business and of the session.
        AND l.ordered_at >= p_first - 2
        AND l.ordered_at < p_until + 2
        AND (
            l.lost_on >= p_known_until
            OR l.lost_on IS NULL AND (l.day < p_months_from OR l.day >= p_months_until)
        )
    GROUP BY 1, 2, 3, 4, 5;
END
$kpi_line_sold$;
COMMENT ON FUNCTION work.kpi_line_sold(date, date, date, date, date, boolean) IS 'Order lines of a period, summed by month, country and product.';

CREATE OR REPLACE VIEW kpi.product_monthly AS
WITH sold AS NOT MATERIALIZED (
    SELECT a.month_start, a.country, a.product_type, a.product_subtype, a.product_id, a.quantity, a.sales
    FROM dwh.agg_product_monthly AS a
    WHERE (SELECT c.horizon FROM work.kpi_clock AS c) = 'infinity'
    UNION ALL
    -- On a business date, what is ordered or lost later is not known yet.
    SELECT l.*
    FROM work.kpi_clock AS c
    CROSS JOIN LATERAL work.kpi_line_sold('-infinity', c.horizon + 1, c.horizon + 1, 'infinity', 'infinity', false) AS l
    WHERE isfinite(c.horizon)
)
SELECT
    s.month_start,
    coalesce(k.shown_as, s.country) AS country,
    s.product_type,
    s.product_subtype,
    s.product_id,
    coalesce(p.product_name, 'Unknown') AS product_name,
    sum(s.quantity)::bigint AS quantity,
    sum(s.sales) AS sales
FROM sold AS s
LEFT JOIN work.kpi_small_country AS k ON k.country = s.country AND k.month_start = s.month_start
LEFT JOIN kpi.product AS p USING (product_id)
GROUP BY 1, 2, 3, 4, 5, 6;

-- The routine of earlier versions, which only the view of earlier versions called.
DROP FUNCTION IF EXISTS work.kpi_line_sold(date, date, date, date, date);

COMMENT ON VIEW kpi.product_monthly IS 'What was sold by month, country and product; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.product_monthly.country IS 'Country that the orders went to, as it was when sold; Other countries for those with few customers in the month (setting small_group).';
COMMENT ON COLUMN kpi.product_monthly.product_type IS 'Product type as it was when sold.';
COMMENT ON COLUMN kpi.product_monthly.product_subtype IS 'Product subtype as it was when sold.';
COMMENT ON COLUMN kpi.product_monthly.product_id IS 'Product; -1 while it is not known.';
COMMENT ON COLUMN kpi.product_monthly.product_name IS 'Name of the product as it is now.';
COMMENT ON COLUMN kpi.product_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.product_monthly.sales IS 'Sales: quantity times price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.subtype_monthly AS
SELECT
    a.month_start,
    coalesce(k.shown_as, a.country) AS country,
    a.product_type,
    a.product_subtype,
    sum(a.quantity)::bigint AS quantity,
    sum(a.sales) AS sales
FROM dwh.agg_subtype_monthly AS a
LEFT JOIN work.kpi_small_country AS k ON k.country = a.country AND k.month_start = a.month_start
WHERE (SELECT c.horizon FROM work.kpi_clock AS c) = 'infinity'
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT
    p.month_start,
    p.country,
    p.product_type,
    p.product_subtype,
    sum(p.quantity)::bigint,
    sum(p.sales)
FROM kpi.product_monthly AS p
WHERE (SELECT isfinite(c.horizon) FROM work.kpi_clock AS c)
GROUP BY 1, 2, 3, 4;

COMMENT ON VIEW kpi.subtype_monthly IS 'What was sold by month, country and product subtype; lost orders are left out. Unit: pieces, business currency. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.subtype_monthly.month_start IS 'First day of the month of the order, in the business time zone.';
COMMENT ON COLUMN kpi.subtype_monthly.country IS 'Country that the orders went to, as it was when sold; Other countries for those with few customers in the month (setting small_group).';
COMMENT ON COLUMN kpi.subtype_monthly.product_type IS 'Product type as it was when sold.';
COMMENT ON COLUMN kpi.subtype_monthly.product_subtype IS 'Product subtype as it was when sold.';
COMMENT ON COLUMN kpi.subtype_monthly.quantity IS 'Pieces sold.';
COMMENT ON COLUMN kpi.subtype_monthly.sales IS 'Sales: quantity times price at the time of the order, in the business currency.';

CREATE OR REPLACE VIEW kpi.product_type AS
SELECT DISTINCT a.product_type
FROM dwh.agg_subtype_monthly AS a;
COMMENT ON VIEW kpi.product_type IS 'Product types of which something was sold: the values of a filter. Source: dwh.fact_order_line.';
COMMENT ON COLUMN kpi.product_type.product_type IS 'Product type.';
