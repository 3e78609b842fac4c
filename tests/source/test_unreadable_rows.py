"""Rows that the source has and the warehouse cannot hold: they are set aside one by one, and everything else arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from base import resources
from tests.source.conftest import READER, Link
from tests.source.test_reconciliation import reconcile
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

CAFE = "E'Caf\\351'"  # LATIN1 in a database that does not care
ENTRY = "SELECT * FROM etl.quarantine WHERE object = 'customers'"


OPERATIONAL = resources.migrations() / "oceanrecords" / "0001.operational-system.sql"


def make_empty(server: RunningServer, name: str, encoding: str) -> None:
    """Make an empty database of an encoding, to be copied."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )


def _utf8(dsn: str) -> str:
    return conninfo.make_conninfo(dsn, client_encoding="utf8")


@pytest.fixture(scope="session")
def careless_template(source_server: RunningServer) -> str:
    """A shop whose database takes any bytes for text."""
    make_empty(source_server, "careless", "SQL_ASCII")
    with psycopg.connect(_utf8(source_server.dsn("careless")), autocommit=True) as connection:
        connection.execute(OPERATIONAL.read_bytes())
    return "careless"


@pytest.fixture
def careless(
    database: Database,
    source_server: RunningServer,
    careless_template: str,
    make_link: Callable[[Database, Database], Link],
) -> Iterator[Link]:
    """A warehouse connected to such a shop, open but not loaded yet."""
    with temporary_database(source_server, careless_template) as shop:
        encoded = Database(shop.server, shop.name, _utf8(shop.dsn))
        for row in database.rows("SELECT * FROM etl.source_grants(%s) AS statement", READER):
            encoded.execute(row["statement"])
        link = make_link(database, encoded)
        link.connect()
        link.play.open()
        link.play.tolerate_quarantine()
        yield link
        encoded.close()


def spoil(link: Link, customer: int, name: str = CAFE, *, silently: bool = False) -> None:
    """Give a customer a first name in bytes; silently, as if the row had not changed."""
    with link.source.connect() as connection:
        if silently:
            connection.execute("ALTER TABLE oceanrecords.customers DISABLE TRIGGER USER")
        connection.execute(
            f"UPDATE oceanrecords.customers SET first_name = {name} WHERE customer_id = {customer}".encode()
        )
        if silently:
            connection.execute(
                "ALTER TABLE oceanrecords.customers ENABLE ALWAYS TRIGGER touch,"
                " ENABLE ALWAYS TRIGGER own_row_xid"
            )


def mirrored(link: Link) -> list[Any]:
    rows = link.play.rows(
        "SELECT customer_id, first_name, deleted_at FROM stage.customers ORDER BY 1"
    )
    return [row[:2] if row[2] is None else (row[0], "deleted") for row in rows]


def test_a_text_of_another_encoding_is_set_aside_by_the_first_load(careless: Link) -> None:
    play = careless.play
    careless.customers(2000)
    spoil(careless, 700)
    spoil(careless, 1400)

    play.run()

    assert play.value("SELECT count(*) FROM stage.customers") == 2001 - 2
    assert play.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_id IN (700, 1400)") == 0
    entry = play.row(ENTRY + " AND row_key = '{\"customer_id\": 700}'")
    assert entry["sqlstate"] == "22021"
    assert entry["reason"].startswith(
        'first_name cannot be read: invalid byte sequence for encoding "UTF8"'
    )
    # What can be read of the row, and the bytes of what cannot.
    assert entry["original_row"]["last_name"] == "x" * 100
    assert entry["original_row"]["first_name"] == "Caf\\351"
    assert play.value("SELECT row_count FROM etl.quarantine_status WHERE object = 'customers'") == 2
    assert (
        play.value("SELECT rows_quarantined FROM etl.task_status WHERE task = 'extract:customers'")
        == 2
    )


def test_a_row_that_becomes_unreadable_stays_as_it_was_until_it_is_corrected(
    careless: Link,
) -> None:
    play = careless.play
    play.run()
    spoil(careless, play.customer)
    other = play.shop.customer("Grace")
    order = play.shop.order(play.customer, play.address, {play.product: 1})

    play.run()
    assert mirrored(careless) == [(play.customer, "Ada"), (other, "Grace")]
    assert play.value("SELECT count(*) FROM dwh.fact_order WHERE order_id = %s", order) == 1
    # Nobody asks for it again while it does not change.
    play.run()
    assert play.value("SELECT attempts FROM etl.quarantine") == 1

    spoil(careless, play.customer, "'Adele'")
    play.run()
    assert play.rows(ENTRY) == []
    careless.assert_mirrored()
    play.run()
    assert (
        play.value("SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind = 'extract'")
        == 0
    )


def test_a_retry_fetches_the_row_by_its_key(careless: Link) -> None:
    play = careless.play
    careless.customers(5000)
    spoil(careless, 3000)
    play.run()
    play.value("SELECT etl.retry_quarantine('customers')")
    received = careless.proxy.received
    play.run()
    assert play.value("SELECT attempts FROM etl.quarantine") == 2
    assert careless.proxy.received - received < 60_000

    spoil(careless, 3000, "'Corrected'", silently=True)
    play.run()
    assert play.value("SELECT count(*) FROM etl.quarantine") == 1
    play.value("SELECT etl.retry_quarantine()")
    play.run()
    assert play.rows(ENTRY) == []
    careless.assert_mirrored()


def test_an_unreadable_row_is_not_taken_for_a_deleted_one(careless: Link) -> None:
    play = careless.play
    play.run()
    spoil(careless, play.customer)
    play.run(full_refresh=["customers"])
    assert mirrored(careless) == [(play.customer, "Ada")]

    play.shop.delete("orders", order_id=play.orders[0])
    play.shop.delete("customers", customer_id=play.customer)
    play.run()
    assert mirrored(careless) == [(play.customer, "deleted")]
    assert play.rows(ENTRY) == []


def test_a_full_refresh_lets_go_of_unreadable_rows_that_are_gone(careless: Link) -> None:
    play = careless.play
    gone = play.shop.customer("Grace")
    spoil(careless, gone)
    play.run()
    assert play.value("SELECT count(*) FROM etl.quarantine") == 1
    careless.source.execute(
        "ALTER TABLE oceanrecords.customers DISABLE TRIGGER USER;"
        f"DELETE FROM oceanrecords.customers WHERE customer_id = {gone}"
    )
    play.run(full_refresh=["customers"])
    assert play.rows(ENTRY) == []


def test_everything_else_is_reconciled(careless: Link) -> None:
    play = careless.play
    careless.customers(50)
    play.run()
    spoil(careless, 20)
    play.run()
    assert reconcile(careless) == []
    careless.warehouse.execute(
        "UPDATE stage.customers SET segment = 'business' WHERE customer_id = 30"
    )
    found = reconcile(careless)
    assert [(one["row_key"], one["columns"]) for one in found] == [
        ({"customer_id": 30}, ["segment"])
    ]
    careless.warehouse.execute("SELECT etl.repair()")
    play.run()
    assert reconcile(careless) == []


def test_very_many_unreadable_rows_stop_their_table_alone(careless: Link) -> None:
    play = careless.play
    play.run()
    play.loader.execute("UPDATE etl.setting SET value = '3' WHERE name = 'quarantine_limit'")
    careless.customers(20)
    careless.source.execute(f"UPDATE oceanrecords.customers SET first_name = {CAFE}")
    supplier = play.shop.supplier()

    play.run(expect="partial")

    task = play.row("SELECT * FROM etl.task_status WHERE task = 'extract:customers'")
    assert (task["status"], task["sqlstate"]) == ("failed", "ET008")
    assert play.value("SELECT count(*) FROM stage.suppliers WHERE supplier_id = %s", supplier) == 1
    play.loader.execute("UPDATE etl.setting SET value = '1000' WHERE name = 'quarantine_limit'")
    play.run(expect="partial")
    task = play.row("SELECT * FROM etl.task_status WHERE task = 'extract:customers'")
    assert (task["status"], task["sqlstate"]) == ("failed", "ET008")
    play.loader.execute(
        "UPDATE etl.setting SET value = '100' WHERE name = 'quarantine_share_limit'"
    )
    play.run()
    assert play.value("SELECT count(*) FROM etl.quarantine WHERE object = 'customers'") == 21


def test_a_source_can_be_connected_whose_first_row_cannot_be_read(careless: Link) -> None:
    spoil(careless, careless.play.customer)
    careless.connect()
    careless.play.run()
    assert careless.play.value("SELECT count(*) FROM etl.quarantine") == 1


@pytest.fixture
def western(
    database: Database,
    source_server: RunningServer,
    make_link: Callable[[Database, Database], Link],
) -> Iterator[Link]:
    """A warehouse connected to a shop in WIN1252, which knows 251 characters and takes 256."""
    make_empty(source_server, "western", "WIN1252")
    with temporary_database(source_server, "western") as shop:
        encoded = Database(shop.server, shop.name, _utf8(shop.dsn))
        encoded.execute(OPERATIONAL.read_text(encoding="utf-8"))
        for row in database.rows("SELECT * FROM etl.source_grants(%s) AS statement", READER):
            encoded.execute(row["statement"])
        link = make_link(database, encoded)
        link.connect()
        link.play.tolerate_quarantine()
        yield link
        encoded.close()


def test_a_character_that_the_warehouse_has_not_is_set_aside(western: Link) -> None:
    play = western.play
    play.open()
    play.run()
    strange = play.shop.customer("Strange")
    french = play.shop.customer("Hélène")
    spoil(western, strange, "E'\\201'")
    play.run()
    assert mirrored(western) == [(play.customer, "Ada"), (french, "Hélène")]
    entry = play.row(ENTRY)
    assert entry["row_key"] == {"customer_id": strange}
    assert entry["sqlstate"] == "22P05"
    assert entry["reason"].startswith(
        "first_name cannot be read: character with byte sequence 0x81"
    )
    assert entry["original_row"]["first_name"] == "\\201"
