-- What every warehouse has, whatever its business: which business is installed, the point of extraction, and the calendar.

CREATE TABLE etl.business (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    name text NOT NULL CHECK (name <> ''),
    settings jsonb NOT NULL DEFAULT '{}',
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE etl.business IS 'The business that this database holds: one row at most. A second business goes into a database of its own.';
COMMENT ON COLUMN etl.business.is_only IS 'Limits the table to one row.';
COMMENT ON COLUMN etl.business.name IS 'Name of the business, from its warehouse.toml.';
COMMENT ON COLUMN etl.business.settings IS 'Settings that its warehouse.toml gave at the last migration. Only a changed one replaces the value in etl.setting.';
COMMENT ON COLUMN etl.business.installed_at IS 'When it was first installed.';

CREATE VIEW source.extraction_point AS
SELECT
    pg_current_snapshot() AS snapshot,
    s.system_identifier,
    clock_timestamp() AS read_at,
    pg_is_in_recovery() AS is_standby,
    (
        SELECT d.oid::bigint
        FROM pg_database AS d
        WHERE d.datname = current_database()
    ) AS database_id,
    CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END AS timeline_id,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END AS wal_inserted_until,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END AS wal_flushed_until,
    -- Three times, and as much again for a disk that is busy.
    6 * current_setting('wal_writer_delay')::interval AS wal_flushed_within
FROM pg_control_system() AS s;
COMMENT ON VIEW source.extraction_point IS 'What a reader sees at this moment: read it in the transaction that reads the rows.';
COMMENT ON COLUMN source.extraction_point.snapshot IS 'Transactions whose rows are visible.';
COMMENT ON COLUMN source.extraction_point.system_identifier IS 'Database system that counts these transactions; another one counts anew.';
COMMENT ON COLUMN source.extraction_point.read_at IS 'Time of day of the reading.';
COMMENT ON COLUMN source.extraction_point.is_standby IS 'Whether the server is a hot standby, whose snapshots leave out the open transactions.';
COMMENT ON COLUMN source.extraction_point.database_id IS 'Oid of the database: another one when it was dropped and restored.';
COMMENT ON COLUMN source.extraction_point.timeline_id IS 'Timeline of the WAL: another one after a failover or a recovery to a point in time.';
COMMENT ON COLUMN source.extraction_point.wal_inserted_until IS 'End of the WAL that is written.';
COMMENT ON COLUMN source.extraction_point.wal_flushed_until IS 'End of the WAL that is flushed: a crash loses no transaction that ended before it.';
COMMENT ON COLUMN source.extraction_point.wal_flushed_within IS 'Time within which the WAL writer has flushed the WAL of a transaction that has ended.';

-- Calendar ------------------------------------------------------------------------------------------------------------

CREATE TABLE dwh.dim_date (
    date_key integer PRIMARY KEY,
    full_date date,
    day_of_month smallint,
    day_of_week smallint,
    day_name text NOT NULL,
    is_weekend boolean,
    iso_week smallint,
    month_number smallint,
    month_name text NOT NULL,
    month_start date,
    quarter_number smallint,
    quarter_start date,
    quarter_name text NOT NULL,
    year_number smallint,
    -- Includes the key, so that a lookup by date does not read the wide rows.
    CONSTRAINT dim_date_full_date_key UNIQUE (full_date) INCLUDE (date_key),
    CHECK ((full_date IS NULL) = (date_key < 0))
);
COMMENT ON TABLE dwh.dim_date IS 'Calendar in the business time zone, one row per day.';
COMMENT ON COLUMN dwh.dim_date.date_key IS 'Date as a number, yyyymmdd; -1 is Unknown, -2 is Not yet.';
COMMENT ON COLUMN dwh.dim_date.full_date IS 'Date.';
COMMENT ON COLUMN dwh.dim_date.day_of_month IS 'Day of the month, 1 to 31.';
COMMENT ON COLUMN dwh.dim_date.day_of_week IS 'Day of the week by ISO 8601, 1 is Monday.';
COMMENT ON COLUMN dwh.dim_date.day_name IS 'Name of the day.';
COMMENT ON COLUMN dwh.dim_date.is_weekend IS 'Whether it is a Saturday or Sunday.';
COMMENT ON COLUMN dwh.dim_date.iso_week IS 'Week by ISO 8601.';
COMMENT ON COLUMN dwh.dim_date.month_number IS 'Month, 1 to 12.';
COMMENT ON COLUMN dwh.dim_date.month_name IS 'Name of the month.';
COMMENT ON COLUMN dwh.dim_date.month_start IS 'First day of the month.';
COMMENT ON COLUMN dwh.dim_date.quarter_number IS 'Quarter, 1 to 4.';
COMMENT ON COLUMN dwh.dim_date.quarter_start IS 'First day of the quarter.';
COMMENT ON COLUMN dwh.dim_date.quarter_name IS 'Year and quarter, such as 2025 Q1.';
COMMENT ON COLUMN dwh.dim_date.year_number IS 'Year.';
INSERT INTO dwh.dim_date (
    date_key, full_date, day_of_month, day_of_week, day_name, is_weekend, iso_week, month_number, month_name,
    month_start, quarter_number, quarter_start, quarter_name, year_number
)
SELECT
    to_char(d, 'YYYYMMDD')::integer,
    d::date,
    extract(day FROM d),
    extract(isodow FROM d),
    trim(to_char(d, 'Day')),
    extract(isodow FROM d) >= 6,
    extract(week FROM d),
    extract(month FROM d),
    trim(to_char(d, 'Month')),
    date_trunc('month', d)::date,
    extract(quarter FROM d),
    date_trunc('quarter', d)::date,
    to_char(d, 'YYYY "Q"Q'),
    extract(year FROM d)
FROM generate_series(timestamp '2000-01-01', timestamp '2049-12-31', interval '1 day') AS d;
INSERT INTO dwh.dim_date (date_key, day_name, month_name, quarter_name)
VALUES
    (-1, 'Unknown', 'Unknown', 'Unknown'),
    (-2, 'Not yet', 'Not yet', 'Not yet');
