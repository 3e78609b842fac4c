"""`oceanrecords trace` against queries that know nothing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from driver.trace import Section, trace
from simulator.seed import seed
from tests.conftest import Finished
from tests.engine.conftest import STEPS
from tests.support.database import Database

EVIL = [
    'x"; drop table y; --',
    "x'; drop table y; --",
    "1; DROP TABLE y",
    "1) OR true --",
    "$1",
    "%I",
    "",
    "orders; DROP TABLE y",
]


def found(sections: list[Section], relation: str, title: str = "") -> list[dict[str, Any]]:
    """Return the rows of the section of a relation."""
    (section,) = [
        one for one in sections if one.relation == relation and title in one.title
    ]  # fmt: skip
    return section.rows


def json_rows(database: Database, query: str, *parameters: Any) -> list[Any]:
    """Return rows as JSON has them, from a query of the test's own."""
    rows = database.rows(f"SELECT row_to_json(q) AS entry FROM ({query}) AS q", *parameters)
    return [row["entry"] for row in rows]


@pytest.fixture
def asking(warehouse: Database) -> psycopg.Connection[Any]:
    return warehouse.connect()


def test_a_product_with_its_versions_and_the_facts_that_point_at_each(
    warehouse: Database, asking: psycopg.Connection[Any]
) -> None:
    sections = trace(asking, "product", ["1"])
    assert found(sections, "source.products") == json_rows(
        warehouse, "SELECT * FROM source.products WHERE product_id = 1"
    )
    assert found(sections, "stage.products") == json_rows(
        warehouse, "SELECT * FROM stage.products WHERE product_id = 1"
    )
    assert found(sections, "stage.product_prices") == json_rows(
        warehouse, "SELECT * FROM stage.product_prices WHERE product_id = 1 ORDER BY valid_from"
    )
    versions = found(sections, "dwh.dim_product")
    assert len(versions) >= 3
    assert [
        {key: value for key, value in one.items() if key != "facts"} for one in versions
    ] == json_rows(
        warehouse, "SELECT * FROM dwh.dim_product WHERE product_id = 1 ORDER BY valid_from"
    )
    assert [one["facts"] for one in versions] == [
        {
            "fact_order_line.product_key": warehouse.value(
                "SELECT count(*) FROM dwh.fact_order_line WHERE product_key = %s",
                one["product_key"],
            )
        }
        for one in versions
    ]


def test_an_order_with_its_lines_and_the_versions_that_it_points_at(
    warehouse: Database, asking: psycopg.Connection[Any]
) -> None:
    sections = trace(asking, "order", ["2"])
    assert found(sections, "dwh.fact_order", "rows") == json_rows(
        warehouse, "SELECT * FROM dwh.fact_order WHERE order_id = 2"
    )
    assert found(sections, "dwh.fact_order_line", "rows") == json_rows(
        warehouse, "SELECT * FROM dwh.fact_order_line WHERE order_id = 2 ORDER BY line_number"
    )
    assert found(sections, "stage.order_lines") == json_rows(
        warehouse, "SELECT * FROM stage.order_lines WHERE order_id = 2 ORDER BY line_number"
    )
    members = {
        one["key_column"]: one for one in found(sections, "dwh.fact_order", "points at")
    }  # fmt: skip
    customer = warehouse.rows(
        "SELECT c.customer_key, c.customer_id, c.is_current FROM dwh.fact_order AS f JOIN dwh.dim_customer AS c USING (customer_key)"
        " WHERE f.order_id = 2"
    )[0]
    assert members["customer_key"]["key"] == customer["customer_key"]
    assert members["customer_key"]["member"] == {"customer_id": customer["customer_id"]}
    assert members["customer_key"]["is_current"] == customer["is_current"]


def test_a_composite_key(warehouse: Database, asking: psycopg.Connection[Any]) -> None:
    sections = trace(asking, "order_line", ["2", "1"])
    assert found(sections, "dwh.fact_order_line", "rows") == json_rows(
        warehouse, "SELECT * FROM dwh.fact_order_line WHERE order_id = 2 AND line_number = 1"
    )


@pytest.mark.parametrize("kind", ["status", "dim_status", "order_status", "order_statuses"])
def test_an_object_has_several_names(asking: psycopg.Connection[Any], kind: str) -> None:
    sections = trace(asking, kind, ["1"])
    assert found(sections, "source.order_statuses")[0]["code"] == "placed"
    assert found(sections, "dwh.dim_status")[0]["status_code"] == "placed"


def test_every_kind_can_be_traced(warehouse: Database, asking: psycopg.Connection[Any]) -> None:
    """A key that is there, of everything that the catalog has."""
    for row in warehouse.rows(
        "SELECT k.kind, k.object, k.object_kind, k.key_columns FROM etl.trace_kind AS k"
    ):
        place = {"source table": "stage", "run": "etl"}.get(row["object_kind"], "dwh")
        columns = ", ".join(f'"{column}"::text' for column in row["key_columns"])
        key = warehouse.rows(
            f'SELECT ARRAY[{columns}] AS key FROM {place}."{row["object"]}"'
            f' WHERE "{row["key_columns"][0]}" IS NOT NULL LIMIT 1'
        )[0]["key"]
        for name in (row["kind"], row["object"]):
            assert any(section.rows for section in trace(asking, name, key)), (name, key)


def test_what_was_deleted_is_told(warehouse: Database, asking: psycopg.Connection[Any]) -> None:
    sections = trace(asking, "order_line", ["1", "1"])
    assert found(sections, "source.order_lines") == []
    (tombstone,) = found(sections, "source.tombstones")
    assert tombstone["row_key"] == {"order_id": 1, "line_number": 1}
    (stage,) = found(sections, "stage.order_lines")
    assert stage["deleted_at"] is not None
    (fact,) = found(sections, "dwh.fact_order_line", "rows")
    assert fact["is_deleted"] is True
    assert fact["quantity"] == 0


def test_the_runs_that_wrote_it(database: Database) -> None:
    """An order that is updated five times, a run after each."""
    connection = database.connect()
    seed(connection, orders=60, months=2, seed=1)
    connection.execute("CALL etl.run()")
    for number in range(5):
        connection.execute(
            "UPDATE oceanrecords.order_lines SET quantity = quantity + 1 WHERE order_id = 7"
            " AND line_number = (SELECT min(line_number) FROM oceanrecords.order_lines WHERE order_id = 7)"
        )
        connection.execute(
            "UPDATE oceanrecords.products SET price = price + 1 WHERE product_id = 1"
        )
        connection.execute("CALL etl.run()")
        sections = trace(connection, "order", ["7"])
        runs = {run["run_id"]: run["wrote"] for run in found(sections, "etl.run")}
        assert "dwh.fact_order" in runs[number + 2]
        assert found(sections, "delta.orders") == []
    versions = trace(connection, "product", ["1"])
    assert {run["run_id"] for run in found(versions, "etl.run")} >= {2, 3, 4, 5, 6}
    assert all(run["status"] == "succeeded" for run in found(versions, "etl.run"))


def test_what_waits_and_what_could_not_be_loaded(database: Database) -> None:
    connection = database.connect()
    seed(connection, orders=60, months=2, seed=1)
    connection.execute("CALL etl.run()")
    connection.execute(
        """
        ALTER TABLE dwh.dim_supplier ADD CONSTRAINT no_new_names CHECK (supplier_name <> 'Nobody') NOT VALID;
        INSERT INTO oceanrecords.suppliers (supplier_id, name, country_code) OVERRIDING SYSTEM VALUE
        VALUES (9000, 'Nobody', 'DE');
        UPDATE oceanrecords.products SET supplier_id = 9000 WHERE product_id = 1;
        """
    )
    connection.execute("CALL etl.run()")
    sections = trace(connection, "supplier", ["9000"])
    (entry,) = found(sections, "etl.quarantine", "dim_supplier")
    assert "no_new_names" in entry["reason"]
    assert found(sections, "dwh.dim_supplier") == []
    order = database.value(
        "INSERT INTO oceanrecords.orders (customer_id, address_id, order_status_id, payment_method_id, ordered_at)"
        " SELECT customer_id, address_id, 1, 1, clock_timestamp() FROM oceanrecords.customers_addresses LIMIT 1 RETURNING order_id"
    )
    connection.execute(
        "INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)"
        " VALUES (%s, 1, 1, 1, 1)",
        [order],
    )
    connection.execute("CALL etl.run()")
    (waiting,) = found(trace(connection, "supplier", ["9000"]), "etl.reprocessing_queue")
    assert waiting["fact_key"] == {"order_id": order, "line_number": 1}
    line = trace(connection, "order_line", [str(order), "1"])
    (same,) = found(line, "etl.reprocessing_queue", "fact_order_line")
    assert same["dimension_key"] == {"supplier_id": 9000}
    connection.execute(
        "UPDATE oceanrecords.suppliers SET name = 'Somebody' WHERE supplier_id = 9000"
    )
    pending = trace(connection, "supplier", ["9000"])
    assert found(pending, "source.suppliers")[0]["name"] == "Somebody"
    assert found(pending, "stage.suppliers")[0]["name"] == "Nobody"


def test_limit_leaves_rows_out_and_says_so(asking: psycopg.Connection[Any]) -> None:
    sections = trace(asking, "status", ["4"], limit=3)
    (section,) = [
        one for one in sections if one.relation == "dwh.fact_order" and one.title == "rows"
    ]
    assert len(section.rows) == 3
    assert section.has_more
    assert not any(one.has_more for one in trace(asking, "order", ["2"], limit=1000))


def test_a_run_task_by_task(warehouse: Database, asking: psycopg.Connection[Any]) -> None:
    sections = trace(asking, "run", ["2"])
    tasks = found(sections, "etl.task_run")
    assert [
        (one["task"], one["status"], one["rows_read"], one["rows_inserted"]) for one in tasks
    ] == [
        (one["task"], one["status"], one["rows_read"], one["rows_inserted"])
        for one in warehouse.rows("SELECT * FROM etl.task_run WHERE run_id = 2 ORDER BY position")
    ]
    extracted = {one["source_table"]: one["rows_extracted"] for one in found(sections, "etl.batch")}
    assert extracted["products"] == 3


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def ask(oceanrecords: Callable[..., Finished], warehouse: Database) -> Callable[..., Finished]:
    """Runs the program on the warehouse."""
    return lambda *words, **env: oceanrecords(*words, env={"OCEANRECORDS_DSN": warehouse.dsn} | env)


def test_answers_to_people_and_to_programs(ask: Callable[..., Finished]) -> None:
    shown = ask("trace", "product", "1")
    assert shown.returncode == 0, shown.stderr
    for word in ("Operational system", "Stage", "Stars", "dwh.dim_product", "Runs that wrote this"):
        assert word in shown.stdout
    assert "fact_order_line.product_key" in shown.stdout
    answer = json.loads(ask("trace", "product", "1", "--json").stdout)
    assert answer["kind"] == "product"
    assert {one["layer"] for one in answer["sections"]} == {
        "source", "delta", "stage", "work", "dwh", "etl"
    }  # fmt: skip
    # A name and its value stay on one line.
    narrow = ask("trace", "order", "1", COLUMNS="80").stdout
    assert not re.search(r"\n {6,10}\S+\n", narrow), narrow
    run = ask("trace", "run", "2")
    assert "run 2" in run.stdout
    assert "fact_order_line" in run.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["odder", "1"], "ET045", "Kinds are: address, customer"),
        (["order"], None, "Missing argument"),
        (["order", "1", "2"], "ET046", "Give order_id"),
        (["order_line", "1"], "ET046", "order_id, then line_number"),
        (["order", "seventeen"], "ET046", "order_id (bigint)"),
        (["order", "99999999999999999999999"], "ET046", "no key"),
        (["order", "999999"], "ET047", "there is no order with the key 999999"),
        (["run", "999999"], "ET047", "there is no run 999999"),
        (["run", "yesterday"], "ET046", "not the number of a run"),
    ],
)
def test_what_cannot_be_traced_is_told_in_a_sentence(
    ask: Callable[..., Finished], words: list[str], code: str | None, told: str
) -> None:
    finished = ask("trace", *words)
    assert finished.returncode == (1 if code else 2)
    assert told in finished.stderr
    assert code is None or code in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize("evil", EVIL)
def test_words_are_words_and_nothing_else(database: Database, evil: str) -> None:
    connection = database.connect()
    connection.execute("CREATE TABLE y (a integer); INSERT INTO y VALUES (1)")
    for kind, key in (
        (evil, ["1"]),
        ("order", [evil]),
        ("order_line", ["1", evil]),
        ("run", [evil]),
    ):
        with pytest.raises(psycopg.Error) as refused:
            trace(connection, kind, key)
        assert str(refused.value.sqlstate).startswith("ET04"), (kind, key)
    assert connection.execute("SELECT a FROM y").fetchall() == [(1,)]


def test_a_second_business_can_be_traced(database: Database) -> None:
    """Its tables, its composite and textual keys: nothing in the engine knows them."""
    connection = database.connect()
    for step in STEPS:
        connection.execute(step.read_bytes())
    # The new objects are handed to the warehouse's owner, which may read the new business.
    connection.execute(
        "GRANT USAGE ON SCHEMA library TO oceanrecords_etl;"
        " GRANT SELECT ON ALL TABLES IN SCHEMA library TO oceanrecords_etl"
    )
    connection.execute("CALL etl.apply_permissions()")
    connection.execute(
        "INSERT INTO library.books (isbn, title, genre) VALUES ('978-1', 'A book', 'novel')"
    )
    connection.execute("CALL etl.run()")
    sections = trace(connection, "book", ["978-1"])
    assert found(sections, "dwh.dim_book")[0]["title"] == "A book"
    assert found(sections, "stage.books")[0]["title"] == "A book"
