-- The calendar. Its migration fills it, up to twenty years ahead; it can be extended at either end. A row with a date outside the calendar goes
-- to quarantine.

CREATE OR REPLACE FUNCTION dwh.calendar_days(p_first_day date, p_last_day date)
RETURNS TABLE (
    date_key integer,
    full_date date,
    day_of_month smallint,
    day_of_week smallint,
    day_name text,
    is_weekend boolean,
    iso_week smallint,
    month_number smallint,
    month_name text,
    month_start date,
    quarter_number smallint,
    quarter_start date,
    quarter_name text,
    year_number smallint
)
LANGUAGE sql
STABLE
SET search_path = pg_catalog, pg_temp
AS $calendar_days$
    SELECT
        to_char(g.d, 'YYYYMMDD')::integer,
        g.d::date,
        extract(day FROM g.d)::smallint,
        extract(isodow FROM g.d)::smallint,
        trim(to_char(g.d, 'Day')),
        extract(isodow FROM g.d) >= 6,
        extract(week FROM g.d)::smallint,
        extract(month FROM g.d)::smallint,
        trim(to_char(g.d, 'Month')),
        date_trunc('month', g.d)::date,
        extract(quarter FROM g.d)::smallint,
        date_trunc('quarter', g.d)::date,
        to_char(g.d, 'YYYY "Q"Q'),
        extract(year FROM g.d)::smallint
    FROM generate_series(p_first_day::timestamp, p_last_day::timestamp, interval '1 day') AS g (d)
$calendar_days$;
COMMENT ON FUNCTION dwh.calendar_days(date, date) IS 'Rows of dwh.dim_date for a range of days: every column follows from the date. Columns that you add, such as a fiscal year, are not among them.';

CREATE OR REPLACE VIEW work.dim_date AS
SELECT c.*
FROM (SELECT min(d.full_date) AS first_day, max(d.full_date) AS last_day FROM dwh.dim_date AS d) AS r
CROSS JOIN LATERAL dwh.calendar_days(r.first_day, r.last_day) AS c;
COMMENT ON VIEW work.dim_date IS 'Expected calendar, from its first day to its last; a reconciliation compares it with dwh.dim_date.';
COMMENT ON COLUMN work.dim_date.date_key IS 'Date as a number, yyyymmdd; -1 is Unknown, -2 is Not yet.';
COMMENT ON COLUMN work.dim_date.full_date IS 'Date.';
COMMENT ON COLUMN work.dim_date.day_of_month IS 'Day of the month, 1 to 31.';
COMMENT ON COLUMN work.dim_date.day_of_week IS 'Day of the week by ISO 8601, 1 is Monday.';
COMMENT ON COLUMN work.dim_date.day_name IS 'Name of the day.';
COMMENT ON COLUMN work.dim_date.is_weekend IS 'Whether it is a Saturday or Sunday.';
COMMENT ON COLUMN work.dim_date.iso_week IS 'Week by ISO 8601.';
COMMENT ON COLUMN work.dim_date.month_number IS 'Month, 1 to 12.';
COMMENT ON COLUMN work.dim_date.month_name IS 'Name of the month.';
COMMENT ON COLUMN work.dim_date.month_start IS 'First day of the month.';
COMMENT ON COLUMN work.dim_date.quarter_number IS 'Quarter, 1 to 4.';
COMMENT ON COLUMN work.dim_date.quarter_start IS 'First day of the quarter.';
COMMENT ON COLUMN work.dim_date.quarter_name IS 'Year and quarter, such as 2025 Q1.';
COMMENT ON COLUMN work.dim_date.year_number IS 'Year.';

INSERT INTO etl.dimension (dimension, dimension_table, expected_view, surrogate_key, business_key)
VALUES ('dim_date', 'dwh.dim_date', 'work.dim_date', 'date_key', '{full_date}')
ON CONFLICT (dimension) DO UPDATE
SET dimension_table = excluded.dimension_table,
    expected_view = excluded.expected_view,
    surrogate_key = excluded.surrogate_key,
    business_key = excluded.business_key;

-- It has no gaps then. The next run retries facts that are in quarantine because their date was missing (work.<fact>_key). 22008: a day is infinite.
CREATE OR REPLACE FUNCTION dwh.extend_calendar(p_first_day date, p_last_day date)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $extend_calendar$
DECLARE
    v_days bigint;
BEGIN
    IF NOT isfinite(p_first_day) OR NOT isfinite(p_last_day) THEN
        RAISE EXCEPTION 'the calendar cannot be extended to infinity'
            USING ERRCODE = '22008', HINT = 'Give a first and a last day.';
    END IF;
    INSERT INTO dwh.dim_date
    SELECT g.*
    FROM (
        SELECT least(min(c.full_date), p_first_day) AS first_day, greatest(max(c.full_date), p_last_day) AS last_day
        FROM dwh.dim_date AS c
    ) AS r
    CROSS JOIN LATERAL dwh.calendar_days(r.first_day, r.last_day) AS g
    WHERE NOT EXISTS (SELECT FROM dwh.dim_date AS c WHERE c.full_date = g.full_date);
    GET DIAGNOSTICS v_days = ROW_COUNT;
    IF v_days > 0 THEN
        PERFORM etl.retry_quarantine(f.fact)
        FROM etl.fact AS f
        WHERE EXISTS (SELECT FROM etl.quarantine AS q WHERE q.object = f.fact AND q.sqlstate = 'ET009');
    END IF;
    RETURN v_days;
END
$extend_calendar$;
COMMENT ON FUNCTION dwh.extend_calendar(date, date) IS 'Extends the calendar at either end; returns the number of days added.';

SELECT dwh.extend_calendar(current_date, (date_trunc('year', current_date) + interval '21 years - 1 day')::date);
