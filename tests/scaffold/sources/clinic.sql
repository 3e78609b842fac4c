-- A clinic over three schemas with uuid keys and two tables of one name. Made for these tests.
CREATE SCHEMA clinic_people;
CREATE SCHEMA clinic_sales;
CREATE SCHEMA clinic_stock;

CREATE TABLE clinic_people.person (
    person_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, kind text NOT NULL, born_on date, rowguid uuid NOT NULL DEFAULT gen_random_uuid(),
    "ModifiedDate" timestamp NOT NULL DEFAULT now()
);
CREATE TABLE clinic_stock.unit (unit_code char(3) PRIMARY KEY, name text NOT NULL);
CREATE TABLE clinic_stock.item (
    item_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, unit_code char(3) NOT NULL REFERENCES clinic_stock.unit, weight numeric(8, 2), dimensions box,
    valid daterange
);
CREATE TABLE clinic_sales.visit (
    visit_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), patient_id uuid REFERENCES clinic_people.person, doctor_id uuid REFERENCES clinic_people.person,
    visited_at timestamp NOT NULL, fee numeric(10, 2), state text NOT NULL DEFAULT 'open', "comment" text
);
CREATE TABLE clinic_sales.visit_item (
    visit_item_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, visit_id uuid NOT NULL REFERENCES clinic_sales.visit, item_id uuid NOT NULL REFERENCES clinic_stock.item,
    pieces integer NOT NULL, amount numeric(12, 2) NOT NULL
);
CREATE TABLE clinic_sales.unit (unit_id integer PRIMARY KEY, label text NOT NULL);

INSERT INTO clinic_people.person (person_id, name, kind) SELECT md5('p' || g)::uuid, 'Person ' || g, 'patient' FROM generate_series(1, 20) AS g;
INSERT INTO clinic_stock.unit VALUES ('kg', 'Kilogram'), ('pc', 'Piece');
INSERT INTO clinic_stock.item (item_id, name, unit_code, weight, dimensions, valid)
SELECT md5('i' || g)::uuid, 'Item ' || g, CASE g % 2 WHEN 0 THEN 'kg' ELSE 'pc' END, g, box(point(0, 0), point(1, g)), '[2024-01-01,2025-01-01)' FROM generate_series(1, 10) AS g;
INSERT INTO clinic_sales.visit (visit_id, patient_id, doctor_id, visited_at, fee)
SELECT md5('v' || g)::uuid, md5('p' || 1 + g % 20)::uuid, CASE WHEN g % 5 > 0 THEN md5('p' || 1 + g % 3)::uuid END, timestamp '2024-03-01 08:00' + g * interval '5 hours', g
FROM generate_series(1, 80) AS g;
INSERT INTO clinic_sales.visit_item (visit_id, item_id, pieces, amount) SELECT md5('v' || 1 + g % 80)::uuid, md5('i' || 1 + g % 10)::uuid, 1, g FROM generate_series(1, 160) AS g;
INSERT INTO clinic_sales.unit VALUES (1, 'Ward');
