-- Unique customers by quarter. Small groups are suppressed (etl.suppress_small): a count is shown only if neither it nor the rest, the customers of
-- the quarter outside the chosen countries, is a small group. So the total does not reveal a small country by subtraction.

-- Customers with an order from one day to another, by country, read from the facts; a routine of its own as work.kpi_line_sold is. Each customer once
-- per country; nothing without a day.
CREATE OR REPLACE FUNCTION work.kpi_customer(p_first date, p_last date)
RETURNS TABLE (country text, customer_id bigint)
LANGUAGE plpgsql
STABLE
STRICT
SET search_path = pg_catalog, pg_temp
AS $kpi_customer$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT DISTINCT a.country, u.customer_id
    FROM dwh.dim_date AS d
    JOIN dwh.fact_order AS f ON f.ordered_date_key = d.date_key
    JOIN dwh.dim_customer AS u USING (customer_key)
    JOIN dwh.dim_address AS a USING (address_key)
    WHERE d.full_date BETWEEN p_first AND p_last
        AND NOT f.is_deleted
        AND u.customer_id IS NOT NULL;
END
$kpi_customer$;
COMMENT ON FUNCTION work.kpi_customer(date, date) IS 'Customers with an order from one day to another, by country.';

/*
Unique customers by quarter, over the chosen countries, without a gap from the first order to today. A chosen country with a small group in a
quarter is left out of that quarter.
Parameters: p_countries, names of countries; none for all.
Returns:    one row per quarter, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.customer_count_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    quarter_start date,
    quarter_name text,
    is_complete boolean,
    unique_customers bigint,
    is_suppressed boolean
)
LANGUAGE sql
STABLE
PARALLEL SAFE
SECURITY DEFINER
ROWS 20
SET search_path = pg_catalog, pg_temp
AS $customer_count_of$
    WITH clock AS MATERIALIZED (
        -- The quarter of a business date ends with that date; NULL without one.
        SELECT
            c.horizon,
            CASE WHEN isfinite(c.horizon) THEN date_trunc('quarter', c.horizon::timestamp)::date END AS played_quarter
        FROM work.kpi_clock AS c
    ),
    played AS MATERIALIZED (
        SELECT c.played_quarter AS quarter_start, p.country, p.customer_id
        FROM clock AS c
        CROSS JOIN LATERAL work.kpi_customer(c.played_quarter, c.horizon) AS p
    ),
    customer AS NOT MATERIALIZED (
        SELECT a.quarter_start, a.country, a.customer_id
        FROM dwh.agg_customer_quarterly AS a
        CROSS JOIN clock AS k
        WHERE a.customer_id <> -1
            AND a.quarter_start IS DISTINCT FROM k.played_quarter
        UNION ALL
        SELECT p.quarter_start, p.country, p.customer_id
        FROM played AS p
    ),
    total AS (
        SELECT a.quarter_start, count(*) AS customers
        FROM dwh.agg_customer_total_quarterly AS a
        CROSS JOIN clock AS k
        WHERE a.customer_id <> -1
            AND a.quarter_start IS DISTINCT FROM k.played_quarter
        GROUP BY a.quarter_start
        UNION ALL
        SELECT p.quarter_start, count(DISTINCT p.customer_id)
        FROM played AS p
        GROUP BY p.quarter_start
    ),
    country AS (
        SELECT c.quarter_start, c.country, etl.suppress_small(count(*)) AS customers
        FROM customer AS c
        WHERE c.country = ANY (p_countries)
        GROUP BY c.quarter_start, c.country
    ),
    -- Only customers of several countries have to be told apart. One of the three branches runs.
    chosen AS (
        SELECT t.quarter_start, t.customers, false AS is_partial
        FROM total AS t
        WHERE cardinality(p_countries) = 0
        UNION ALL
        SELECT c.quarter_start, c.customers, false
        FROM country AS c
        WHERE cardinality(p_countries) = 1
        UNION ALL
        SELECT a.quarter_start, nullif(count(DISTINCT a.customer_id) FILTER (WHERE c.customers IS NOT NULL), 0), bool_or(c.customers IS NULL)
        FROM customer AS a
        JOIN country AS c USING (quarter_start, country)
        WHERE cardinality(p_countries) > 1
        GROUP BY a.quarter_start
    ),
    shown AS (
        SELECT
            c.quarter_start,
            CASE WHEN etl.suppress_small(t.customers - c.customers) IS NOT NULL THEN etl.suppress_small(c.customers) END AS customers,
            c.is_partial
        FROM chosen AS c
        JOIN total AS t USING (quarter_start)
    )
    SELECT
        q.quarter_start,
        q.quarter_name,
        q.is_complete,
        -- Who is small is not counted.
        CASE WHEN 'Other countries' = ANY (p_countries) THEN NULL WHEN s.quarter_start IS NULL THEN 0 ELSE s.customers END,
        'Other countries' = ANY (p_countries) OR s.quarter_start IS NOT NULL AND (s.customers IS NULL OR s.is_partial)
    FROM kpi.quarter AS q
    LEFT JOIN shown AS s USING (quarter_start)
    ORDER BY q.quarter_start
$customer_count_of$;
COMMENT ON FUNCTION kpi.customer_count_of(text[]) IS 'The figures of kpi.customer_count over the given countries; over all if none is given.';

CREATE OR REPLACE VIEW kpi.customer_count AS
SELECT
    c.quarter_start,
    c.quarter_name,
    c.is_complete,
    c.unique_customers,
    c.is_suppressed
FROM kpi.customer_count_of() AS c;

COMMENT ON VIEW kpi.customer_count IS 'Unique customers by quarter, without a gap up to the current one. Unit: customers. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.customer_count.quarter_start IS 'First day of the quarter, in the business time zone.';
COMMENT ON COLUMN kpi.customer_count.quarter_name IS 'Year and quarter, such as 2025 Q1.';
COMMENT ON COLUMN kpi.customer_count.is_complete IS 'Whether all days of the quarter are over and loaded.';
COMMENT ON COLUMN kpi.customer_count.unique_customers IS 'Different customers with at least one order in the quarter, lost orders included. Orders of unknown customers do not count. NULL for a small group.';
COMMENT ON COLUMN kpi.customer_count.is_suppressed IS 'Whether a small group (setting small_group) was suppressed: the figure, or some of the chosen countries.';
