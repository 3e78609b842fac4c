-- The calendar: filled by its migration, looked up by date. A row with a date outside of it goes to quarantine. It is kept twenty years
-- ahead, and can be made longer at either end.

INSERT INTO etl.dimension (dimension, dimension_table, surrogate_key, business_key)
VALUES ('dim_date', 'dwh.dim_date', 'date_key', '{full_date}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

/*
Makes the calendar longer; it stays without gaps. Facts that were in quarantine for want of a date are tried again by the next run.
Parameters: p_first_day, p_last_day, what it is to cover at least.
Returns:    number of days added.
Writes:     dwh.dim_date, work.<fact>_key.
*/
CREATE OR REPLACE FUNCTION dwh.extend_calendar(p_first_day date, p_last_day date)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $extend_calendar$
DECLARE
    v_days bigint;
BEGIN
    INSERT INTO dwh.dim_date (
        date_key, full_date, day_of_month, day_of_week, day_name, is_weekend, iso_week, month_number, month_name,
        month_start, quarter_number, quarter_start, quarter_name, year_number
    )
    SELECT
        to_char(g.d, 'YYYYMMDD')::integer,
        g.d::date,
        extract(day FROM g.d),
        extract(isodow FROM g.d),
        trim(to_char(g.d, 'Day')),
        extract(isodow FROM g.d) >= 6,
        extract(week FROM g.d),
        extract(month FROM g.d),
        trim(to_char(g.d, 'Month')),
        date_trunc('month', g.d)::date,
        extract(quarter FROM g.d),
        date_trunc('quarter', g.d)::date,
        to_char(g.d, 'YYYY "Q"Q'),
        extract(year FROM g.d)
    FROM (
        SELECT least(min(c.full_date), p_first_day)::timestamp AS first_day, greatest(max(c.full_date), p_last_day)::timestamp AS last_day
        FROM dwh.dim_date AS c
    ) AS r
    CROSS JOIN LATERAL generate_series(r.first_day, r.last_day, interval '1 day') AS g (d)
    WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS c WHERE c.full_date = g.d::date);
    GET DIAGNOSTICS v_days = ROW_COUNT;
    IF v_days > 0 THEN
        PERFORM etl.retry_quarantine(f.fact)
        FROM etl.fact AS f
        WHERE EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = f.fact AND q.sqlstate = 'ET009');
    END IF;
    RETURN v_days;
END
$extend_calendar$;
COMMENT ON FUNCTION dwh.extend_calendar(date, date) IS 'Makes the calendar longer at either end; returns the number of days added.';

SELECT dwh.extend_calendar(current_date, (date_trunc('year', current_date) + interval '21 years - 1 day')::date);
