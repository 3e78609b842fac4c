-- A system without a single key, as files that were loaded into tables have it. Measurements repeat. Made for these tests.
CREATE SCHEMA keyless;
CREATE TABLE keyless.stations (station_no integer, name text, region text);
CREATE TABLE keyless.readings (station_no integer, read_on timestamptz NOT NULL, litres numeric, remark text);
CREATE TABLE keyless.fees (region text, fee numeric);

INSERT INTO keyless.stations SELECT g, 'Station ' || g, 'Region ' || g % 2 FROM generate_series(1, 5) AS g;
INSERT INTO keyless.readings SELECT 1 + g % 5, timestamptz '2024-06-01 00:00Z' + (g / 2) * interval '1 hour', 1.5, NULL FROM generate_series(1, 100) AS g;
INSERT INTO keyless.readings SELECT * FROM keyless.readings LIMIT 3;
INSERT INTO keyless.fees VALUES ('Region 0', 1), ('Region 1', 2);
