-- An order system with awkward types and names: blanks in names, mixed case, reserved words, fixed-width and other odd columns, a
-- composite key, nullable foreign keys, an employee who reports to another. Made for these tests.
CREATE SCHEMA orders;
CREATE DOMAIN orders.email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE orders.mood AS ENUM ('good', 'bad');

CREATE TABLE orders.categories (
    category_id smallint PRIMARY KEY,
    category_name varchar(15) NOT NULL,
    description text,
    picture bytea
);
CREATE TABLE orders.suppliers (
    supplier_id smallint PRIMARY KEY,
    company_name varchar(40) NOT NULL,
    country varchar(15)
);
CREATE TABLE orders.products (
    product_id smallint PRIMARY KEY,
    product_name varchar(40) NOT NULL,
    supplier_id smallint REFERENCES orders.suppliers,
    category_id smallint REFERENCES orders.categories,
    unit_price money,
    discontinued boolean NOT NULL DEFAULT false,
    discontinued_on date,
    tags text[],
    spec xml,
    search tsvector,
    "order" integer
);
CREATE TABLE orders.customers (
    customer_id bpchar PRIMARY KEY,
    company_name varchar(40) NOT NULL,
    contact orders.email,
    feeling orders.mood,
    region char(3),
    preferences json,
    "user" text
);
CREATE TABLE orders.employees (
    employee_id smallint PRIMARY KEY,
    last_name varchar(20) NOT NULL,
    first_name varchar(10) NOT NULL,
    hire_date date,
    birth_date date,
    reports_to smallint REFERENCES orders.employees
);
CREATE TABLE orders."Orders" (
    "OrderID" integer PRIMARY KEY,
    "CustomerID" bpchar REFERENCES orders.customers,
    "EmployeeID" smallint REFERENCES orders.employees,
    "OrderDate" date,
    "ShippedDate" date,
    "Freight" real,
    "ShipName" varchar(40),
    "ShipPlace" point
);
CREATE TABLE orders."Order Details" (
    "OrderID" integer NOT NULL REFERENCES orders."Orders",
    "ProductID" smallint NOT NULL REFERENCES orders.products,
    "UnitPrice" money NOT NULL,
    "Quantity" smallint NOT NULL,
    "Discount" real NOT NULL,
    PRIMARY KEY ("OrderID", "ProductID")
);
CREATE TABLE orders.empty_notes (note_id integer PRIMARY KEY, note text);

INSERT INTO orders.categories SELECT g, 'Category ' || g, NULL, '\x00' FROM generate_series(1, 3) AS g;
INSERT INTO orders.suppliers SELECT g, 'Supplier ' || g, 'Land' FROM generate_series(1, 4) AS g;
INSERT INTO orders.products
SELECT g, 'Product ' || g, CASE WHEN g > 1 THEN 1 + g % 4 END, 1 + g % 3, g::numeric::money, false, NULL, '{a,b}', NULL, to_tsvector('simple', 'a'), g
FROM generate_series(1, 10) AS g;
INSERT INTO orders.customers
SELECT 'CUST' || g, 'Customer ' || g, 'c' || g || '@example.org', 'good', 'A', '{"a": 1}', 'u' FROM generate_series(1, 8) AS g;
INSERT INTO orders.employees SELECT g, 'Last ' || g, 'First', '2020-01-01', '1980-01-01', CASE WHEN g > 1 THEN 1 END FROM generate_series(1, 3) AS g;
INSERT INTO orders."Orders"
SELECT g, CASE WHEN g % 10 > 0 THEN 'CUST' || 1 + g % 8 END, 1 + g % 3, CASE WHEN g % 25 > 0 THEN date '2024-01-01' + g END, CASE WHEN g % 3 > 0 THEN date '2024-01-05' + g END,
    g * 1.5, 'Ship ' || g, point(1, 2)
FROM generate_series(1, 100) AS g;
INSERT INTO orders."Order Details"
SELECT o, 1 + (o + l) % 10, 10::money, l, 0 FROM generate_series(1, 100) AS o CROSS JOIN generate_series(1, 3) AS l;
