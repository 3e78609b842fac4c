-- Names and types that need care: mixed case, blanks, quotes, reserved and very long names, names that the warehouse uses itself.
-- Made for these tests.
CREATE SCHEMA "My Shop";
SET search_path = "My Shop";
CREATE TYPE "My Shop"."Colour Kind" AS ENUM ('Red', 'o''clock');
CREATE TABLE "Columns" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "Name" text COLLATE "C", name text, "NAME " text, valid_from date, "is_current" bool, "a.b" int, "quote""d" text, "per%cent" numeric, "dollar$read$" text, kind "Colour Kind", gen int GENERATED ALWAYS AS (1 + 1) STORED, "row_hash" text);
CREATE TABLE "tombstones" (id bigint PRIMARY KEY, "columns id" uuid REFERENCES "Columns", happened_at timestamptz NOT NULL, amount money, "weiß" numeric, span tstzrange, loc point, "user" name, flags bit(3), net inet, oids oid, vec int[][], j jsonb, iv interval, t timetz, c "char");
CREATE TABLE "a very long table name that goes beyond fifty characters of all" (id int PRIMARY KEY, "a very long column name that goes beyond fifty characters too" text, "a very long column name that goes beyond fifty characters two" text, at timestamp NOT NULL, value float8);
CREATE TABLE extraction_point (id int PRIMARY KEY, x text);
CREATE TABLE "date" (d date PRIMARY KEY, holiday text);
CREATE TABLE sales (sale_id int PRIMARY KEY, d date NOT NULL REFERENCES "date", sold_on date NOT NULL, amount numeric, comment text);
CREATE TABLE nothing ();
CREATE TABLE parent (id int PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now(), v numeric) ; CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO "Columns" ("Name", name, "NAME ", kind, "per%cent") SELECT 'N' || g, 'n', 'x', 'o''clock', 1.5 FROM generate_series(1, 5) g;
INSERT INTO tombstones SELECT row_number() over (), "Id", now(), 5, 1, '[2024-01-01,2024-02-01)', '(1,2)', 'u', B'101', '10.0.0.1', 1, '{{1,2},{3,4}}', '{"a":1}', '1 month', '10:00+02', 'x' FROM "Columns";
INSERT INTO tombstones SELECT 99, NULL, 'infinity';
INSERT INTO "a very long table name that goes beyond fifty characters of all" SELECT g, 'a', 'b', now(), 'NaN' FROM generate_series(1, 3) g;
INSERT INTO "date" VALUES ('2024-01-01', 'New'), ('infinity', 'never'); INSERT INTO sales VALUES (1, '2024-01-01', '2024-01-02', 5, 'c'), (2, 'infinity', '1850-01-01', 5, 'c');
INSERT INTO parent VALUES (1, now(), 5); INSERT INTO child VALUES (2, now(), 6, 'e');
RESET search_path;
