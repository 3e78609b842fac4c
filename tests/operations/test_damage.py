"""Every kind of damage in damage.py: found, repaired where that is promised, and never made worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from simulator.seed import seed
from tests.operations import damage
from tests.operations.conftest import be_the_same_source
from tests.operations.damage import DAMAGES, Damage
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

Image = dict[tuple[str, str], str]
ROUNDS = 8

PREPARATION = [
    # Two versions of a customer and of a product, members that are gone, and one that came back.
    f"""
    UPDATE oceanrecords.customers SET segment = CASE segment WHEN 'business' THEN 'consumer' ELSE 'business' END
    WHERE customer_id = {damage.TWO_VERSIONS};
    UPDATE oceanrecords.products SET price = price + 1 WHERE product_id = 3;
    INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment)
    SELECT c.id, 'A', 'B', 'c' || c.id || '@example.org', '123', 'consumer'
    FROM (VALUES ({damage.GONE}), ({damage.GONE_WITH_TWO_VERSIONS}), ({damage.CAME_BACK})) AS c (id);
    DELETE FROM oceanrecords.order_lines WHERE order_id = {damage.WITH_DELETED_LINE} AND line_number = 1
    """,
    f"""
    UPDATE oceanrecords.customers SET segment = 'business' WHERE customer_id = {damage.GONE_WITH_TWO_VERSIONS};
    DELETE FROM oceanrecords.customers WHERE customer_id IN ({damage.GONE}, {damage.CAME_BACK})
    """,
    f"""
    DELETE FROM oceanrecords.customers WHERE customer_id = {damage.GONE_WITH_TWO_VERSIONS};
    INSERT INTO oceanrecords.customers (customer_id, first_name, last_name, email, phone, segment)
    VALUES ({damage.CAME_BACK}, 'A', 'B', 'back@example.org', '123', 'consumer')
    """,
    # One order without its customer, one outside the calendar.
    f"""
    ALTER TABLE oceanrecords.orders DROP CONSTRAINT orders_address_is_of_customer;
    UPDATE oceanrecords.orders SET customer_id = 999999 WHERE order_id = {damage.WITHOUT_CUSTOMER};
    UPDATE oceanrecords.orders SET ordered_at = '1990-01-01' WHERE order_id = {damage.OUTSIDE_CALENDAR}
    """,
]


@pytest.fixture(scope="module")
def prepared(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A small warehouse with rows of every kind, which agrees with its source."""
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, executor.template_dbname) as made:
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            seed(connection, orders=60, months=3, seed=5, until=date(2026, 1, 1))
            connection.execute("CALL etl.run()")
            for statements in PREPARATION:
                connection.execute(statements.encode())
                connection.execute("CALL etl.run()")
        yield made


@pytest.fixture(scope="module")
def right(prepared: Database) -> Image:
    """Its rows."""
    assert reconcile(prepared) == {"status": "equal", "differences": 0}
    assert prepared.value("SELECT count(*) FROM etl.reprocessing_queue") == 1
    assert prepared.value("SELECT count(*) FROM etl.quarantine") > 1
    return image(prepared)


def reconcile(database: Database) -> dict[str, Any]:
    with database.connect() as connection:
        connection.execute("CALL etl.reconcile()")
    return database.rows(
        "SELECT status, differences FROM etl.reconciliation ORDER BY reconciliation_id DESC LIMIT 1"
    )[0]


def run(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CALL etl.run()")


def image(database: Database) -> Image:
    """All rows, by table and key; surrogate keys are translated, and values of deleted rows are left out."""
    found: Image = {}
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        for name, query in _queries(connection):
            for key, row in connection.execute(query.encode()):
                place = (name, json.dumps(key))
                while place in found:
                    place = (name, f"{place[1]} again")
                found[place] = json.dumps(row)
    return found


def _queries(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, str]]:
    def key_of(names: list[str], alias: str = "t") -> str:
        return f"jsonb_build_array({', '.join(f'{alias}.{name}' for name in names)})"

    for table, keys in connection.execute("SELECT source_table, key_columns FROM etl.source_table"):
        yield (
            f"stage.{table}",
            f"SELECT {key_of(keys)}, CASE WHEN deleted_at IS NULL THEN to_jsonb(t) - 'batch_id' END FROM stage.{table} AS t",
        )
    dimensions = connection.execute(
        "SELECT dimension, dimension_table::text, surrogate_key, business_key,"
        " etl._column_type(dimension_table, 'valid_from') IS NOT NULL FROM etl.dimension"
    ).fetchall()
    member = {}
    for dimension, table, surrogate, keys, has_history in dimensions:
        names = [*keys, "valid_from"] if has_history else keys
        member[dimension] = (table, surrogate, key_of(names, "d"))
        yield (
            table,
            f"SELECT CASE WHEN {surrogate} < 0 THEN to_jsonb({surrogate}) ELSE {key_of(names)} END,"
            f" to_jsonb(t) - '{{run_id,{surrogate}}}'::text[] FROM {table} AS t"
            # One year of the calendar is enough.
            + (
                ""
                if has_history
                else " WHERE full_date IS NULL OR full_date >= '2025-06-01' AND full_date < '2026-06-01'"
            ),
        )
        sequence, largest = f"pg_get_serial_sequence('{table}', '{surrogate}')", f"max({surrogate})"
        if connection.execute(f"SELECT {sequence}".encode()).fetchone() != (None,):
            yield (
                "sequence",
                f"SELECT jsonb_build_array('{dimension}'), to_jsonb(pg_sequence_last_value({sequence}::regclass) >= {largest}) FROM {table}",
            )
    for fact, table, keys, measures in connection.execute(
        "SELECT fact, fact_table::text, business_key, measures FROM etl.fact"
    ).fetchall():
        roles = connection.execute(
            "SELECT key_column, dimension FROM etl.fact_dimension WHERE fact = %s", [fact]
        ).fetchall()
        members = "".join(
            f" || jsonb_build_object('{column}', coalesce((SELECT {member[dimension][2]} FROM {member[dimension][0]} AS d"
            f" WHERE d.{member[dimension][1]} = t.{column} AND t.{column} > 0), to_jsonb(t.{column})))"
            for column, dimension in roles
        )
        kept = ", ".join(f"'{name}', t.{name}" for name in measures)
        yield (
            table,
            f"SELECT {key_of(keys)}, CASE WHEN is_deleted THEN jsonb_build_object('is_deleted', true, {kept})"
            f" ELSE to_jsonb(t) - 'run_id'{members} END FROM {table} AS t",
        )
    for table, keys in connection.execute(
        "SELECT aggregate_table::text, group_key FROM etl.aggregate"
    ).fetchall():
        yield table, f"SELECT {key_of(keys)}, to_jsonb(t) - 'run_id' FROM {table} AS t"
    yield (
        "etl.reprocessing_queue",
        "SELECT jsonb_build_array(fact, fact_key, key_column), jsonb_build_array(dimension, dimension_key) FROM etl.reprocessing_queue",
    )
    yield (
        "etl.quarantine",
        "SELECT jsonb_build_array(object, row_key), to_jsonb(sqlstate) FROM etl.quarantine",
    )


def injure(database: Database, one: Damage) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        if "oceanrecords." not in one.sql:
            # Constraints and triggers of the warehouse would refuse it.
            connection.execute("SET session_replication_role = replica")
        for statement in one.sql.split("; "):
            done = connection.execute(statement.encode())
            assert done.rowcount != 0, f"nothing was damaged: {statement}"


def is_gone(name: str, row: str) -> bool:
    """Whether a row no longer counts: deleted, or a closed version."""
    values = json.loads(row)
    if name.startswith("stage."):
        return values is None
    if ".dim_" in name:
        return not values["is_current"]
    return bool(isinstance(values, dict) and values.get("is_deleted"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A third of the kinds in every run, spread over all layers; all of them by --every-damage."""
    if "one" in metafunc.fixturenames:
        kinds = DAMAGES if metafunc.config.getoption("--every-damage") else DAMAGES[::3]
        metafunc.parametrize("one", kinds, ids=lambda one: f"{one.layer.split()[0]}: {one.what}")


def test_damage(server: RunningServer, prepared: Database, right: Image, one: Damage) -> None:
    with temporary_database(server, prepared.name) as database:
        be_the_same_source(database)
        injure(database, one)
        wrong = image(database)
        assert (
            wrong != right
            or not one.found
            or "incomplete" in one.note
            or "waits" in one.what
            or "past" in one.what
        )
        verdict = reconcile(database)
        assert (verdict["status"] != "equal") == one.found
        rounds = 0
        while verdict["differences"] and rounds < ROUNDS:
            rounds += 1
            if not database.value("SELECT etl.repair()"):
                break
            run(database)
            verdict = reconcile(database)
        if verdict["status"] == "incomplete" or not one.found:
            run(database)
            verdict = reconcile(database)
        after = image(database)
        if "past" in one.what:
            # The source was changed: its present rows are right.
            database.execute("SELECT etl._request_refresh('{all}')")
            run(database)
            assert after == image(database)
            assert verdict["status"] == "equal"
            return
        worse = {
            key: (row, after.get(key))
            for key, row in right.items()
            if wrong.get(key) == row
            and after.get(key) != row
            and not (key[0] == one.moved[0] and key[1].startswith(one.moved[1]))
        }
        assert worse == {}
        if one.repaired:
            assert verdict["status"] == "equal", database.rows(
                "SELECT object, status, differences, message FROM etl.reconciliation_status WHERE status <> 'equal'"
            )
            assert {key: row for key, row in after.items() if key in right} == right
            left = {key: row for key, row in after.items() if key not in right}
            assert {key: row for key, row in left.items() if not is_gone(key[0], row)} == {}


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = damage.DOCUMENT.read_text(encoding="utf-8")
    assert damage.document(text) == text, "python -m tests.operations.damage writes it"
