/*
Why sales moved: the members of a level with the largest gains and losses against the period before. The period is made of full months; the
period before has as many. Without a choice it is the last full month.

Parameters: p_level, 'country', 'product_subtype' or 'product'; p_from, p_to, days in the first and in the last month (a running month does not count; one end
            alone gives one month); p_countries, p_product_types, names (none for all); p_limit, number of gainers, and of losers.
Returns:    one row per member, the largest gain first and the largest loss last; none if there are no two such periods.
Errors:     22023 if the level is unknown.
Runs with the rights of its owner, so that a reader needs no more than schema kpi.
*/
CREATE OR REPLACE FUNCTION kpi.movement_of(
    p_level text,
    p_from date DEFAULT NULL,
    p_to date DEFAULT NULL,
    p_countries text[] DEFAULT '{}',
    p_product_types text[] DEFAULT '{}',
    p_limit integer DEFAULT 5
)
RETURNS TABLE (
    member text,
    sales numeric,
    sales_before numeric,
    change numeric,
    period text
)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
ROWS 10
SET search_path = pg_catalog, pg_temp
AS $movement_of$
DECLARE
    r_clock record;
    v_last date;
    v_first date;
    v_before date;
    v_months integer;
    v_words text;
BEGIN
    IF p_level NOT IN ('country', 'product_subtype', 'product') THEN
        RAISE EXCEPTION 'level "%" does not exist', p_level
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use country, product_subtype or product.';
    END IF;
    SELECT c.first_day, date_trunc('month', c.whole_until::timestamp)::date AS running
    INTO STRICT r_clock
    FROM work.kpi_clock AS c;
    v_last := least(date_trunc('month', coalesce(p_to, p_from, 'infinity')::timestamp)::date, (r_clock.running - interval '1 month')::date);
    v_first := least(date_trunc('month', coalesce(p_from, p_to, v_last)::timestamp)::date, v_last);
    v_months := 1 + 12 * (extract(year FROM v_last) - extract(year FROM v_first)) + extract(month FROM v_last) - extract(month FROM v_first);
    v_before := v_first - make_interval(months => v_months);
    -- Before business began there is nothing to compare with, and a part of a month is not like a whole one.
    IF v_before < r_clock.first_day OR coalesce(p_from, v_first) > v_last + 31 THEN
        RETURN;
    END IF;
    v_words := CASE v_months
        WHEN 1 THEN to_char(v_first, 'Mon YYYY') || ' against ' || to_char(v_before, 'Mon YYYY')
        ELSE format(
            '%s to %s against the %s months before', to_char(v_first, 'Mon YYYY'), to_char(v_last, 'Mon YYYY'), v_months
        )
    END;
    RETURN QUERY EXECUTE format(
        $sql$WITH moved AS (
    SELECT
        %1$s AS member,
        coalesce(sum(a.sales) FILTER (WHERE a.month_start >= $1), 0) AS sales,
        coalesce(sum(a.sales) FILTER (WHERE a.month_start < $1), 0) AS sales_before
    FROM %2$s AS a
    WHERE a.month_start BETWEEN $2 AND $3
        AND (cardinality($4) = 0 OR a.country = ANY ($4))
        AND (cardinality($5) = 0 OR a.product_type = ANY ($5))
    GROUP BY 1
),
ranked AS (
    SELECT
        m.*,
        m.sales - m.sales_before AS change,
        row_number() OVER (ORDER BY m.sales - m.sales_before DESC, m.member) AS gain,
        row_number() OVER (ORDER BY m.sales - m.sales_before, m.member) AS loss
    FROM moved AS m
    WHERE m.sales <> m.sales_before
)
SELECT %3$s, r.sales, r.sales_before, r.change, $7
FROM ranked AS r
WHERE (r.gain <= $6 AND r.change > 0)
    OR (r.loss <= $6 AND r.change < 0)
ORDER BY r.change DESC, r.member$sql$,
        CASE p_level WHEN 'country' THEN 'a.country' WHEN 'product_subtype' THEN 'a.product_subtype' ELSE 'a.product_id' END,
        CASE
            WHEN p_level <> 'product' THEN 'dwh.agg_subtype_monthly'
            WHEN cardinality(p_countries) > 0 THEN 'dwh.agg_product_monthly'
            ELSE '(SELECT t.*, NULL::text AS country FROM dwh.agg_product_total_monthly AS t)'
        END,
        CASE p_level
            WHEN 'product' THEN $sql$coalesce((SELECT k.product_name FROM kpi.product AS k WHERE k.product_id = r.member), 'Unknown')$sql$
            ELSE 'r.member'
        END
    )
    USING v_first, v_before, v_last, p_countries, p_product_types, p_limit, v_words;
END
$movement_of$;
COMMENT ON FUNCTION kpi.movement_of(text, date, date, text[], text[], integer) IS 'The largest gainers and losers of a level against the period before, of the chosen months, countries and product types. Unit: business currency. Source: dwh.fact_order_line.';
