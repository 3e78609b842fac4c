"""The first draft of a business runs as it is, and follows its source."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from metabase import definition
from tests.conftest import Finished
from tests.scaffold.conftest import SOURCES, Draft
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

Make = Callable[[str], Draft]

STARS = {
    "orders": {"dim_customer", "dim_employee", "dim_product", "fact_order", "fact_order_detail"},
    "rental": {"dim_customer", "dim_inventory", "fact_payment", "fact_rental"},
    "clinic": {"dim_item", "dim_person", "fact_visit", "fact_visit_item"},
    "keyless": {"dim_station", "fact_reading"},
}


@pytest.mark.parametrize("name", STARS)
def test_it_builds_loads_and_reconciles(draft: Make, name: str) -> None:
    made = draft(name)
    stars = made.rows(
        "SELECT dimension FROM etl.dimension WHERE dimension <> 'dim_date' UNION SELECT fact FROM etl.fact"
    )
    assert {star for (star,) in stars} == STARS[name]
    for (star,) in stars:
        assert made.value(f"SELECT count(*) > 1 FROM dwh.{star}")
    assert made.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    assert made.value("SELECT count(*) FROM etl.quarantine") == 0
    assert (
        made.rows(
            "SELECT * FROM etl.permission_gap WHERE schema_name IN ('dwh', 'kpi', 'source', 'work', 'analysis') AND object_kind <> 'schema'"
        )
        == []
    )


@pytest.mark.parametrize("name", STARS)
def test_its_dashboard_shows_figures(draft: Make, name: str, tmp_path: Path) -> None:
    made = draft(name)
    page = tmp_path / "page.html"
    assert "4 tiles" in made.call("dashboard", "preview", "--out", str(page))
    assert page.stat().st_size > 10_000
    assert "Counts:" in made.call("kpi", "--define")
    figures = made.call("kpi")
    assert figures.index("_monthly") < figures.index("definition") < figures.index("freshness")
    with made.database.connect() as connection:
        connection.execute("SET ROLE oceanrecords_business")
        row = connection.execute("SELECT complete_until, currency FROM kpi.freshness").fetchone()
    assert row is not None
    assert (row[0] is not None, row[1]) == (True, "EUR")
    dashboard = definition.load(made.folder / "dashboard")
    assert len(dashboard.questions) == 4
    for question in (made.folder / "dashboard" / "questions").glob("*.sql"):
        assert made.rows(question.read_text(encoding="utf-8")), question.name


def test_another_business_is_refused(draft: Make, oceanrecords: Callable[..., Finished]) -> None:
    made = draft("keyless")
    for project, message in (
        ((), "holds the business 'keyless', whose folder is unknown"),
        (("--project", "oceanrecords"), "holds the business 'keyless', not 'oceanrecords'"),
    ):
        refused = oceanrecords(*project, "--dsn", made.database.dsn, "dashboard", "preview")
        assert refused.returncode == 1
        assert message in refused.stderr
    for project, message in (
        ("oceanrecords", "holds the business 'keyless', not 'oceanrecords'"),
        (str(made.folder.parent), "is not the folder of a business"),
    ):
        refused = oceanrecords("--project", project, "--dsn", made.database.dsn, "run")
        assert message in refused.stderr


def test_every_table_and_column_of_a_star_has_a_comment(draft: Make) -> None:
    made = draft("orders")
    assert (
        made.rows(
            "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid "
            "WHERE c.relnamespace::regnamespace::text IN ('dwh', 'kpi', 'source') AND c.relkind IN ('r', 'v') "
            "AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL "
            "AND c.relname <> 'tombstones'"
        )
        == []
    )


def test_odd_columns_arrive_or_are_left_out_with_a_reason(draft: Make) -> None:
    made = draft("orders")
    contract = (made.folder / "plpgsql" / "contract.sql").read_text(encoding="utf-8")
    assert "-- picture is left out: binary data." in contract
    assert "-- search is left out: a search index." in contract
    assert made.rows(
        'SELECT unit_price, feeling, region, preferences, "user" FROM stage.products, stage.customers'
        " WHERE product_id = 1 AND customer_id = 'CUST1'"
    ) == [(1, "good", "A", '{"a": 1}', "u")]
    assert made.rows(
        'SELECT supplier_company_name, category_name, "order" FROM dwh.dim_product WHERE product_id = 2'
    ) == [("Supplier 3", "Category 3", 2)]
    # An order without a customer, and one without a date.
    assert made.rows(
        "SELECT customer_key, order_date_key FROM dwh.fact_order WHERE order_id IN (10, 25) ORDER BY order_id"
    ) == [
        (-1, 20240111),
        (made.value("SELECT customer_key FROM dwh.fact_order WHERE order_id = 1"), -1),
    ]


def test_names_and_types_that_need_care_arrive(draft: Make) -> None:
    made = draft("names")
    assert made.rows(
        "SELECT a_b, quote_d, per_cent, dollar_read, source_is_current, gen FROM stage.my_shop_columns LIMIT 1"
    ) == [(None, None, 1.5, None, None, 2)]
    assert made.value("SELECT count(*) FROM dwh.fact_my_shop_tombstone") == 5
    assert made.rows("SELECT object FROM etl.quarantine ORDER BY 1") == [
        ("fact_my_shop_tombstone",),
        ("fact_sale",),
    ]
    assert "agree" in made.call("reconcile")


def test_it_follows_updates_deletes_and_late_members(draft: Make) -> None:
    made = draft("orders")
    made.execute(
        "UPDATE orders.customers SET region = 'B', company_name = 'New' WHERE customer_id = 'CUST2'"
    )
    made.execute("UPDATE orders.categories SET category_name = 'Renamed' WHERE category_id = 1")
    made.execute('DELETE FROM orders."Order Details" WHERE "OrderID" = 1')
    made.execute('DELETE FROM orders."Orders" WHERE "OrderID" = 1')
    made.load()
    assert made.rows(
        "SELECT region, company_name, is_current FROM dwh.dim_customer WHERE customer_id = 'CUST2' ORDER BY valid_from"
    ) == [("A", "New", False), ("B", "New", True)]
    assert made.value("SELECT count(*) FROM dwh.dim_product WHERE category_name = 'Renamed'") > 0
    assert made.rows("SELECT is_deleted, order_count FROM dwh.fact_order WHERE order_id = 1") == [
        (True, 0)
    ]
    # A member whose load fails: the fact waits, and finds it when it comes.
    made.execute(
        "CREATE FUNCTION dwh.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON dwh.dim_customer FOR EACH ROW EXECUTE FUNCTION dwh.refuse()"
    )
    made.execute(
        "INSERT INTO orders.customers (customer_id, company_name) VALUES ('LATE', 'Late');"
        """INSERT INTO orders."Orders" ("OrderID", "CustomerID", "OrderDate") VALUES (900, 'LATE', '2024-05-01')"""
    )
    made.call("run", expect=3)
    assert made.value("SELECT customer_key FROM dwh.fact_order WHERE order_id = 900") == -1
    made.execute("DROP TRIGGER refuse ON dwh.dim_customer")
    made.load()
    assert made.value("SELECT customer_key FROM dwh.fact_order WHERE order_id = 900") > 0


@pytest.mark.parametrize("name", ["rental", "clinic", "keyless"])
def test_the_others_follow_updates_and_deletes(draft: Make, name: str) -> None:
    made = draft(name)
    made.execute(
        {
            "rental": "UPDATE rental.city SET city = 'Elsewhere'; DELETE FROM rental.payment WHERE payment_id < 10;"
            "UPDATE rental.payment SET amount = 1 WHERE payment_id = 50;"
            "UPDATE rental.payment SET payment_date = payment_date + interval '1 month' WHERE payment_id = 60",
            "clinic": "UPDATE clinic_stock.unit SET name = 'Other'; DELETE FROM clinic_sales.visit_item WHERE visit_item_id < 9;"
            "UPDATE clinic_sales.visit SET fee = 0, visited_at = visited_at + interval '1 day'",
            "keyless": "UPDATE keyless.readings SET litres = 9 WHERE station_no = 1; DELETE FROM keyless.stations WHERE station_no = 5;"
            "INSERT INTO keyless.readings SELECT * FROM keyless.readings LIMIT 2",
        }[name]
    )  # fmt: skip
    made.load()
    if name == "rental":
        assert made.value("SELECT sum(amount) FROM dwh.fact_payment") == made.value(
            "SELECT sum(amount) FROM rental.payment"
        )
        assert (
            made.value(
                "SELECT count(*) FROM dwh.dim_customer WHERE city = 'Elsewhere' AND is_current"
            )
            == 12
        )
    if name == "keyless":
        assert made.value("SELECT sum(litres) FROM dwh.fact_reading") == made.value(
            "SELECT sum(litres) FROM keyless.readings"
        )


def test_the_application_alters_its_tables_at_will(draft: Make) -> None:
    """The warehouse reports the change by table and column, loads the rest, and follows by a patch."""
    made = draft("orders")
    made.execute("ALTER TABLE orders.products DROP COLUMN discontinued")
    made.call("run", expect=3)
    assert made.rows("SELECT source_table, column_name, drift FROM etl.schema_drift") == [
        ("products", "discontinued", "dropped")
    ]
    message = made.value(
        "SELECT message FROM etl.task_run WHERE status = 'failed' AND kind = 'extract'"
    )
    assert 'source table "products" has changed: column "discontinued" (boolean) is gone' in message
    patch = made.follow()
    assert "+-- discontinued is no longer filled; it keeps what it holds." in patch
    assert made.rows("SELECT * FROM etl.schema_drift") == []


def test_a_dropped_column_of_a_fact_leaves_its_table(draft: Make) -> None:
    made = draft("orders")
    made.execute(
        'ALTER TABLE orders."Order Details" DROP COLUMN "Quantity";'
        'ALTER TABLE orders."Orders" DROP COLUMN "EmployeeID", DROP COLUMN "ShippedDate"'
    )
    made.call("run", expect=3)
    patch = made.follow()
    assert "+-- REVIEW: the values of quantity are lost" in patch
    assert "+ALTER TABLE dwh.fact_order DROP COLUMN employee_key;" in patch
    assert made.value("SELECT count(*) FROM dwh.fact_order") == 100
    # Without a measure, the figures are those of another fact; a view on its table is named.
    made.execute("CREATE VIEW kpi.own AS SELECT sum(f.unit_price) FROM dwh.fact_order_detail AS f")
    made.execute(
        'ALTER TABLE orders."Order Details" DROP COLUMN "UnitPrice", DROP COLUMN "Discount"'
    )
    with pytest.raises(AssertionError, match=r"kpi.own depends on[^$]*drop these views first"):
        made.follow()
    made.execute("DROP VIEW kpi.own")
    made.call("migrate")
    made.load()
    assert made.value("SELECT to_regclass('kpi.order_detail_monthly')") is None


def test_an_added_column_is_filled_for_all_rows(draft: Make) -> None:
    made = draft("orders")
    made.execute("ALTER TABLE orders.customers ADD COLUMN city text")
    made.execute("UPDATE orders.customers SET city = 'Town ' || customer_id")
    made.load()
    assert made.rows("SELECT column_name, drift FROM etl.schema_drift") == [("city", "added")]
    made.follow()
    assert (
        made.value("SELECT count(*) FROM dwh.dim_customer WHERE is_current AND city LIKE 'Town %'")
        == 8
    )


def test_a_renamed_column_keeps_its_name_in_the_contract(draft: Make) -> None:
    made = draft("orders")
    before = made.rows("SELECT customer_key, region FROM dwh.dim_customer ORDER BY 1")
    made.execute("ALTER TABLE orders.customers RENAME COLUMN region TO area")
    made.call("run", expect=3)
    patch = made.follow()
    assert "+        t.area::text," in patch
    assert "migrations/" not in patch, "the stars stay as they are"
    assert made.rows("SELECT customer_key, region FROM dwh.dim_customer ORDER BY 1") == before


def test_a_retyped_column_is_retyped_down_to_the_figures(draft: Make) -> None:
    made = draft("orders")
    made.execute(
        "CREATE ROLE reader_of_figures; GRANT SELECT ON kpi.order_detail_monthly TO reader_of_figures"
    )
    try:
        made.execute(
            'ALTER TABLE orders."Order Details" ALTER COLUMN "Quantity" TYPE numeric(8, 2)'
        )
        made.execute('UPDATE orders."Order Details" SET "Quantity" = 1.5')
        made.call("run", expect=3)
        made.follow()
        assert (
            made.value("SELECT pg_typeof(quantity)::text FROM dwh.fact_order_detail LIMIT 1")
            == "numeric"
        )
        assert made.value("SELECT sum(quantity) FROM kpi.order_detail_monthly") == 432
        assert made.value(
            "SELECT has_table_privilege('reader_of_figures', 'kpi.order_detail_monthly', 'SELECT')"
        )
    finally:
        made.execute("DROP OWNED BY reader_of_figures; DROP ROLE reader_of_figures")


def test_a_retyped_key_is_retyped(draft: Make) -> None:
    made = draft("orders")
    made.execute(
        'ALTER TABLE orders."Order Details" ALTER COLUMN "ProductID" TYPE bigint;'
        "ALTER TABLE orders.products ALTER COLUMN product_id TYPE bigint"
    )
    made.follow()
    made.execute(
        "INSERT INTO orders.products (product_id, product_name) VALUES (3000000000, 'Far')"
    )
    made.load()
    assert made.value("SELECT count(*) FROM dwh.dim_product WHERE product_id = 3000000000") == 1


@pytest.mark.parametrize("name", ["orders", "clinic"])
def test_a_changed_key_loads_its_star_again(draft: Make, name: str) -> None:
    """Of a fact in the one, of a dimension in the other, to which facts refer."""
    made = draft(name)
    if name == "orders":
        made.execute(
            'ALTER TABLE orders."Order Details" ADD COLUMN "LineNo" integer;'
            'UPDATE orders."Order Details" SET "LineNo" = "ProductID";'
            'ALTER TABLE orders."Order Details" DROP CONSTRAINT "Order Details_pkey", ADD PRIMARY KEY ("OrderID", "LineNo")'
        )
        assert "+-- REVIEW: the key of fact_order_detail has changed" in made.follow()
        made.execute('INSERT INTO orders."Order Details" VALUES (1, 3, 10::money, 1, 0, 99)')
        made.load()
        assert made.value("SELECT count(*) FROM dwh.fact_order_detail WHERE order_id = 1") == 4
        return
    before = made.rows(
        "SELECT visit_id, name FROM dwh.fact_visit JOIN dwh.dim_person ON person_key = patient_key ORDER BY 1"
    )
    made.execute(
        "ALTER TABLE clinic_people.person ADD COLUMN number integer GENERATED ALWAYS AS IDENTITY;"
        "ALTER TABLE clinic_sales.visit ADD COLUMN patient_number integer;"
        "UPDATE clinic_sales.visit AS v SET patient_number = p.number FROM clinic_people.person AS p WHERE p.person_id = v.patient_id;"
        "ALTER TABLE clinic_sales.visit DROP CONSTRAINT visit_patient_id_fkey;"
        "ALTER TABLE clinic_people.person DROP CONSTRAINT person_pkey CASCADE, ADD PRIMARY KEY (number);"
        "ALTER TABLE clinic_sales.visit ADD FOREIGN KEY (patient_number) REFERENCES clinic_people.person"
    )
    assert "+-- REVIEW: the key of dim_person has changed" in made.follow()
    key = made.value(
        "SELECT key_column FROM etl.fact_dimension WHERE fact = 'fact_visit' AND dimension = 'dim_person' LIMIT 1"
    )
    assert before == made.rows(
        f"SELECT visit_id, name FROM dwh.fact_visit JOIN dwh.dim_person ON person_key = {key} ORDER BY 1"
    )


def test_a_swapped_and_reordered_table_and_a_new_enum_value_need_no_patch(draft: Make) -> None:
    made = draft("orders")
    made.execute("ALTER TYPE orders.mood ADD VALUE 'odd'")
    made.execute("UPDATE orders.customers SET feeling = 'odd'")
    made.execute(
        "ALTER TABLE orders.suppliers RENAME TO suppliers_old;"
        "CREATE TABLE orders.suppliers (country varchar(15), company_name varchar(40) NOT NULL, supplier_id smallint PRIMARY KEY);"
        "INSERT INTO orders.suppliers SELECT country, company_name, supplier_id FROM orders.suppliers_old;"
        "ALTER TABLE orders.products DROP CONSTRAINT products_supplier_id_fkey"
    )
    made.execute("UPDATE orders.suppliers SET company_name = 'Swapped'")
    # A new table has no grants: the installation gives them.
    made.call("migrate")
    made.load()
    assert made.value("SELECT count(*) FROM dwh.dim_customer WHERE feeling = 'odd'") == 8
    assert (
        made.value("SELECT count(*) FROM dwh.dim_product WHERE supplier_company_name = 'Swapped'")
        == 9
    )


def test_a_dropped_table_leaves_the_stars_and_a_new_one_joins_them(draft: Make) -> None:
    made = draft("clinic")
    made.execute("DROP TABLE clinic_sales.visit_item")
    made.execute(
        "CREATE TABLE clinic_sales.bill (bill_id bigint PRIMARY KEY, patient_id uuid NOT NULL REFERENCES clinic_people.person,"
        " billed_at timestamptz NOT NULL, total numeric NOT NULL)"
    )
    made.execute(
        "INSERT INTO clinic_sales.bill SELECT 1, person_id, now(), 7 FROM clinic_people.person LIMIT 1"
    )
    made.follow()
    assert made.rows("SELECT total FROM dwh.fact_bill") == [(7,)]
    assert made.value("SELECT count(*) FROM etl.fact WHERE fact = 'fact_visit_item'") == 0


def test_a_person_is_forgotten_as_the_draft_declares(draft: Make) -> None:
    made = draft("orders")
    told = made.call("forget", "employee", "2", "--yes")
    assert "Not erased: 1 row of the operational system, read as source.employees" in told
    last_name = "SELECT last_name FROM dwh.dim_employee WHERE employee_id = 2"
    assert made.value(last_name) == "forgotten"
    made.execute("UPDATE orders.employees SET first_name = 'Again' WHERE employee_id = 2")
    made.call("run")
    assert made.rows("SELECT first_name, last_name FROM stage.employees WHERE employee_id = 2") == [
        ("forgotten", "forgotten")
    ]
    assert made.value(last_name) == "forgotten"
    assert made.value("SELECT last_name FROM dwh.dim_employee WHERE employee_id = 3") == "Last 3"


def test_analysts_see_the_stars_without_personal_data(draft: Make) -> None:
    made = draft("orders")
    with made.database.connect() as connection:
        connection.execute("SET ROLE oceanrecords_analyst")
        assert connection.execute("SELECT count(*) FROM analysis.fact_order_detail").fetchone() == (
            300,
        )
        assert connection.execute(
            "SELECT DISTINCT last_name FROM analysis.dim_employee WHERE employee_id > 0"
        ).fetchall() == [("masked",)]


def test_what_was_edited_stays(draft: Make) -> None:
    """The patch changes what the source has changed, and no more."""
    made = draft("orders")
    view = made.folder / "plpgsql" / "dim_customer.sql"
    edited = view.read_text(encoding="utf-8").replace(
        "t.company_name,", "upper(t.company_name) AS company_name,"
    )
    view.write_text(edited, encoding="utf-8")
    made.call("migrate")
    made.call("run", "--full-refresh", "dim_customer")
    made.execute("ALTER TABLE orders.customers ADD COLUMN city text")
    made.follow()
    assert "upper(t.company_name) AS company_name," in view.read_text(encoding="utf-8")
    assert (
        made.value("SELECT count(*) FROM dwh.dim_customer WHERE company_name = 'CUSTOMER 1'") == 1
    )


@pytest.mark.parametrize("name", ["orders", "rental"])
def test_marks_make_the_extraction_exact(draft: Make, name: str, tmp_path: Path) -> None:
    made = draft(name)
    file = tmp_path / "marks.sql"
    made.call("source", "marks", "--write", str(file))
    made.execute("BEGIN;" + file.read_text(encoding="utf-8") + "COMMIT")
    patch = made.follow()
    assert "+-- " in patch
    assert made.rows(
        "SELECT DISTINCT change_detection, delete_detection FROM etl.source_table"
    ) == [("snapshot", "tombstone")]
    if name == "orders":
        made.execute("UPDATE orders.products SET product_id = 99 WHERE product_id = 1 AND NOT EXISTS "
                     '(SELECT FROM orders."Order Details" WHERE "ProductID" = 1)')  # fmt: skip
        made.execute(
            'SET session_replication_role = replica; DELETE FROM orders."Order Details" WHERE "OrderID" < 5'
        )
        made.execute('TRUNCATE orders."Order Details"')
        made.load()
        assert made.value("SELECT count(*) FROM dwh.fact_order_detail WHERE NOT is_deleted") == 0
    else:
        made.execute("TRUNCATE rental.payment_2024_01")
        made.execute("DELETE FROM rental.payment WHERE payment_id = 120")
        made.load()
        assert made.value(
            "SELECT count(*) FROM dwh.fact_payment WHERE NOT is_deleted"
        ) == made.value("SELECT count(*) FROM rental.payment")


def test_a_role_that_reads_some_tables_is_enough(
    empty_database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    empty_database.execute((SOURCES / "orders.sql").read_text(encoding="utf-8"))
    empty_database.execute(
        f"CREATE ROLE looks_only LOGIN; GRANT CONNECT ON DATABASE {empty_database.name} TO looks_only;"
        "GRANT USAGE ON SCHEMA orders TO looks_only; GRANT SELECT ON ALL TABLES IN SCHEMA orders TO looks_only;"
        "REVOKE SELECT ON orders.employees FROM looks_only"
    )
    try:
        dsn = psycopg.conninfo.make_conninfo(empty_database.dsn, user="looks_only")
        finished = oceanrecords("new", str(tmp_path / "shop"), "--dsn", dsn, "--schema", "orders")
        assert finished.returncode == 0, finished.stderr
        contract = (tmp_path / "shop" / "plpgsql" / "contract.sql").read_text(encoding="utf-8")
        assert "-- REVIEW: orders.employees is left out: the role may not read it." in contract
    finally:
        empty_database.execute("DROP OWNED BY looks_only; DROP ROLE looks_only")


def test_a_draft_reads_a_source_on_another_server(
    new_database: Callable[..., Database], oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    """The draft is made there, its contract installed there; the warehouse has none of the tables."""
    source, warehouse = new_database(migrated=False), new_database(migrated=False)
    source.execute((SOURCES / "rental.sql").read_text(encoding="utf-8"))
    source.execute("CREATE ROLE far_reader LOGIN PASSWORD 'x'")

    def call(*arguments: str) -> str:
        done = oceanrecords(
            "--project", str(tmp_path / "rental"), "--dsn", warehouse.dsn, *arguments
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        there = oceanrecords("new", "rental", "--dsn", source.dsn, "--schema", "rental")
        assert there.returncode == 0, there.stderr
        call("migrate")
        source.execute(call("source", "contract", "--user", "far_reader"))
        connect = (
            "source", "connect", "--host", source.server.host, "--port", str(source.server.port),
            "--dbname", source.name, "--user", "far_reader", "--schema", "source", "--no-password",
        )  # fmt: skip
        call(*connect)
        call("run")
        assert warehouse.value("SELECT sum(amount) FROM dwh.fact_payment") == source.value(
            "SELECT sum(amount) FROM rental.payment"
        )
        source.execute(
            "UPDATE rental.city SET city = 'Far'; DELETE FROM rental.payment WHERE payment_id < 9"
        )
        call("run")
        assert warehouse.value(
            "SELECT bool_and(city = 'Far') FROM dwh.dim_customer WHERE is_current AND customer_key > 0"
        )
        assert json.loads(call("reconcile", "--json"))["status"] == "equal"
        call("migrate")
        # The source changes: the warehouse reports it, and goes on when the contract has followed.
        source.execute("ALTER TABLE rental.customer RENAME COLUMN email TO mail")
        source.execute("ALTER TABLE rental.customer ADD COLUMN phone text DEFAULT '1'")
        assert oceanrecords("--dsn", warehouse.dsn, "run").returncode == 3
        patch = oceanrecords("new", "rental", "--dsn", source.dsn).stdout
        subprocess.run(
            ["patch", "-p1", "-s"], cwd=tmp_path / "rental", input=patch, text=True, check=True
        )
        refused = oceanrecords("--project", "rental", "--dsn", warehouse.dsn, "migrate")
        assert "source disconnect --even-if-empty" in refused.stderr
        call("source", "disconnect", "--even-if-empty")
        call("migrate")
        source.execute(call("source", "contract", "--user", "far_reader"))
        call(*connect)
        call("run")
        assert (
            warehouse.value(
                "SELECT count(DISTINCT phone) FROM dwh.dim_customer WHERE is_current AND customer_key > 0"
            )
            == 1
        )
        assert json.loads(call("reconcile", "--json"))["status"] == "equal"
    finally:
        source.execute("DROP OWNED BY far_reader; DROP ROLE far_reader")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("shop",), 2, "Which schema"),
        (("shop", "--schema", "order"), 1, "Did you mean orders"),
        (
            ("shop", "--schema", "orders", "--tables", "nothing"),
            1,
            'Table "nothing" does not exist',
        ),
        (("shop", "--schema", "orders", "--name", "Big Shop"), 2, "is no name for a business"),
        (("filled", "--schema", "orders"), 2, "is not empty"),
        (("/proc/shop", "--schema", "orders"), 1, "/proc/shop cannot be used"),
    ],
)
def test_what_cannot_be_drafted_is_told(
    empty_database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path,
    arguments: tuple[str, ...], status: int, message: str,
) -> None:  # fmt: skip
    empty_database.execute((SOURCES / "orders.sql").read_text(encoding="utf-8"))
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "notes.txt").write_text("mine")
    finished = oceanrecords("--dsn", empty_database.dsn, "new", *arguments, cwd=tmp_path)
    assert finished.returncode == status
    assert message in finished.stderr
    assert not (tmp_path / "shop").exists()


def test_a_fact_may_have_no_time_but_that_of_its_creation(
    empty_database: Database, oceanrecords: Callable[..., Finished], tmp_path: Path
) -> None:
    empty_database.execute(
        "CREATE SCHEMA shop; CREATE TABLE shop.item (item_id int PRIMARY KEY, name text);"
        "CREATE TABLE shop.sale (sale_id int PRIMARY KEY, item_id int REFERENCES shop.item, "
        "amount numeric NOT NULL, created_at timestamptz NOT NULL);"
        "INSERT INTO shop.item VALUES (1, 'Lamp');"
        "INSERT INTO shop.sale VALUES (1, 1, 9.5, '2026-03-04 12:00+00')"
    )
    for arguments in (
        ("new", "draft", "--schema", "shop"),
        ("--project", "draft", "migrate"),
        ("run",),
    ):
        finished = oceanrecords("--dsn", empty_database.dsn, *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    assert empty_database.value("SELECT created_date_key FROM dwh.fact_sale") == 20260304


def test_no_option_is_ignored_where_a_draft_exists(
    oceanrecords: Callable[..., Finished], empty_database: Database, tmp_path: Path
) -> None:
    empty_database.execute(
        "CREATE SCHEMA shop; CREATE TABLE shop.items (item_id bigint PRIMARY KEY, name text);"
        "CREATE TABLE shop.sales (sale_id bigint PRIMARY KEY, item_id bigint REFERENCES shop.items,"
        " sold_at timestamptz NOT NULL, amount numeric NOT NULL)"
    )

    def call(*arguments: str) -> Finished:
        return oceanrecords("--dsn", empty_database.dsn, "new", "draft", *arguments, cwd=tmp_path)

    assert call("--schema", "shop", "--tables", "items").returncode == 0
    assert 'Table "nope" does not exist.' in call("--tables", "nope").stderr
    renamed = call("--name", "other")
    assert renamed.returncode == 2
    assert "has a name" in renamed.stderr
    assert "+++ b/plpgsql/fact_sale.sql" in call("--tables", "items,sales").stdout
