/*
Different customers by quarter, over the chosen countries, without a gap from the first order to today.
Parameters: p_countries, names of countries; none for all.
Returns:    one row per quarter, in order.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.customer_count_of(VARIADIC p_countries text[] DEFAULT '{}')
RETURNS TABLE (
    quarter_start date,
    quarter_name text,
    is_complete boolean,
    unique_customers bigint
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
    customers AS (
        -- Where all countries count, or one, the rows are the customers; only several countries need DISTINCT. One of the three runs.
        SELECT
            a.quarter_start,
            count(*) AS unique_customers
        FROM dwh.agg_customer_total_quarterly AS a
        WHERE cardinality(p_countries) = 0
            AND a.customer_id <> -1
        GROUP BY a.quarter_start
        UNION ALL
        SELECT
            a.quarter_start,
            count(*)
        FROM dwh.agg_customer_quarterly AS a
        WHERE cardinality(p_countries) = 1
            AND a.country = p_countries[1]
            AND a.customer_id <> -1
        GROUP BY a.quarter_start
        UNION ALL
        SELECT
            a.quarter_start,
            count(DISTINCT a.customer_id)
        FROM dwh.agg_customer_quarterly AS a
        WHERE cardinality(p_countries) > 1
            AND a.country = ANY (p_countries)
            AND a.customer_id <> -1
        GROUP BY a.quarter_start
    ),
    played AS (
        SELECT
            c.played_quarter AS quarter_start,
            count(DISTINCT u.customer_id) AS unique_customers
        FROM clock AS c
        JOIN dwh.dim_date AS d ON d.full_date BETWEEN c.played_quarter AND c.horizon
        JOIN dwh.fact_order AS f ON f.ordered_date_key = d.date_key
        JOIN dwh.dim_customer AS u USING (customer_key)
        JOIN dwh.dim_address AS a USING (address_key)
        WHERE NOT f.is_deleted
            AND (cardinality(p_countries) = 0 OR a.country = ANY (p_countries))
        GROUP BY c.played_quarter
    )
    SELECT
        q.quarter_start,
        q.quarter_name,
        q.is_complete,
        CASE WHEN q.quarter_start = k.played_quarter THEN coalesce(p.unique_customers, 0) ELSE coalesce(c.unique_customers, 0) END
    FROM kpi.quarter AS q
    CROSS JOIN clock AS k
    LEFT JOIN customers AS c USING (quarter_start)
    LEFT JOIN played AS p USING (quarter_start)
    ORDER BY q.quarter_start
$customer_count_of$;
COMMENT ON FUNCTION kpi.customer_count_of(text[]) IS 'kpi.customer_count over the given countries; over all countries without any.';

CREATE OR REPLACE VIEW kpi.customer_count AS
SELECT * FROM kpi.customer_count_of();

COMMENT ON VIEW kpi.customer_count IS 'Different customers by quarter, without a gap up to the current one. Unit: customers. Source: dwh.fact_order.';
COMMENT ON COLUMN kpi.customer_count.quarter_start IS 'First day of the quarter, in the business time zone.';
COMMENT ON COLUMN kpi.customer_count.quarter_name IS 'Year and quarter, such as 2025 Q1.';
COMMENT ON COLUMN kpi.customer_count.is_complete IS 'Whether all days of the quarter are over and loaded.';
COMMENT ON COLUMN kpi.customer_count.unique_customers IS 'Different customers with at least one order in the quarter, lost ones included. Orders with an unknown customer do not count.';
