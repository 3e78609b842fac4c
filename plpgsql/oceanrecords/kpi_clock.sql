-- The calendar of the business, and how far the aggregates are loaded. Business users have privileges on schema kpi alone. Views run with
-- their owner's privileges, functions in them do not; the view therefore reads settings from their table.

INSERT INTO etl.setting (name, value, value_type, description)
VALUES
    ('currency', 'EUR', 'currency', 'Currency of all amounts, ISO 4217.'),
    (
        'business_date', '', 'date',
        'Date that the KPIs use as today; empty for the date of the calendar. Events after it do not count.'
    )
ON CONFLICT (name) DO UPDATE
SET value_type = excluded.value_type,
    description = excluded.description
WHERE (etl.setting.value_type, etl.setting.description) IS DISTINCT FROM (excluded.value_type, excluded.description);

CREATE OR REPLACE VIEW work.kpi_clock AS
WITH setting AS (
    SELECT
        max(s.value) FILTER (WHERE s.name = 'time_zone') AS time_zone,
        max(s.value) FILTER (WHERE s.name = 'currency') AS currency,
        nullif(max(s.value) FILTER (WHERE s.name = 'business_date'), '')::date AS business_date,
        max(s.value) FILTER (WHERE s.name = 'stale_after')::interval AS stale_after
    FROM etl.setting AS s
),
loaded AS (
    -- NULL as long as one aggregate has never been loaded.
    SELECT CASE WHEN bool_and(b.read_at IS NOT NULL) THEN min(b.read_at) END AS complete_until
    FROM etl.aggregate AS a
    LEFT JOIN etl.load_state AS l ON l.object = a.aggregate
    LEFT JOIN etl.batch AS b ON b.batch_id = l.loaded_batch_id
),
resolved AS (
    SELECT
        s.time_zone,
        s.currency,
        s.stale_after,
        l.complete_until,
        coalesce(s.business_date, (now() AT TIME ZONE s.time_zone)::date) AS today,
        -- Events after a business date are not known on that date.
        coalesce(s.business_date, 'infinity') AS horizon,
        -- A business date does not depend on the time of the last load.
        CASE WHEN s.business_date IS NULL THEN (l.complete_until AT TIME ZONE s.time_zone)::date END AS loaded_on
    FROM setting AS s
    CROSS JOIN loaded AS l
)
SELECT
    m.time_zone,
    m.currency,
    m.stale_after,
    m.complete_until,
    m.today,
    least(m.today, m.loaded_on) AS whole_until,
    date_trunc('month', m.today)::date AS month_start,
    greatest(least(m.today, m.loaded_on) - date_trunc('month', m.today)::date, 0) AS whole_days,
    coalesce((SELECT min(a.day) FROM dwh.agg_order_daily AS a), m.today) AS first_day,
    least(greatest((SELECT max(a.day) FROM dwh.agg_order_daily AS a), m.today), m.horizon) AS last_day,
    m.horizon,
    coalesce(y.decimals, 2) AS currency_decimals
FROM resolved AS m
LEFT JOIN etl.currency AS y ON y.currency = m.currency;

COMMENT ON VIEW work.kpi_clock IS 'Today, and how far the KPIs are complete, in one row.';
COMMENT ON COLUMN work.kpi_clock.time_zone IS 'Time zone of the business: setting time_zone.';
COMMENT ON COLUMN work.kpi_clock.currency IS 'Currency of all amounts: setting currency.';
COMMENT ON COLUMN work.kpi_clock.stale_after IS 'Lag above which the warehouse is stale: setting stale_after.';
COMMENT ON COLUMN work.kpi_clock.complete_until IS 'Source time up to which all aggregates are complete.';
COMMENT ON COLUMN work.kpi_clock.today IS 'Today in the business time zone, or setting business_date.';
COMMENT ON COLUMN work.kpi_clock.whole_until IS 'First day that is not over, or not wholly loaded.';
COMMENT ON COLUMN work.kpi_clock.month_start IS 'First day of the current month.';
COMMENT ON COLUMN work.kpi_clock.whole_days IS 'Days of the current month that are over and loaded.';
COMMENT ON COLUMN work.kpi_clock.first_day IS 'First day with an order; today when there is none.';
COMMENT ON COLUMN work.kpi_clock.last_day IS 'Last day with an order, today at least; setting business_date if it is set.';
COMMENT ON COLUMN work.kpi_clock.horizon IS 'Last day on which events count: setting business_date, or infinity.';
COMMENT ON COLUMN work.kpi_clock.currency_decimals IS 'Decimals of amounts in that currency.';
