"""A change of the source's structure is reported by name before anything is loaded, and taken in by one documented way."""

from __future__ import annotations

import pytest

from tests.support.database import Database
from tests.warehouse.play import Play
from tests.warehouse.shop import Shop


@pytest.fixture
def trading(database: Database) -> Play:
    """A shop that trades, loaded once; nobody observes it, as its structure will change."""
    play = Play(database.connect, database.connect(), Shop(database.connect()))
    play.open()
    play.run()
    return play


def drift(play: Play) -> list[tuple[object, ...]]:
    return play.rows(
        "SELECT source_table, column_name, drift, expected_type, found_type FROM etl.schema_drift"
    )


def test_an_added_column_is_reported_and_stops_nothing(trading: Play) -> None:
    trading.loader.execute("ALTER TABLE oceanrecords.customers ADD COLUMN nickname text")
    customer = trading.shop.customer("Grace")

    trading.run()

    assert drift(trading) == [("customers", "nickname", "added", None, "text")]
    assert (
        trading.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_id = %s", customer) == 1
    )


def test_an_added_column_is_taken_in_by_the_contract_and_build(trading: Play) -> None:
    """After the contract names the column and etl.build() ran, the next run fills it for every row."""
    trading.loader.execute(
        "ALTER TABLE oceanrecords.customers ADD COLUMN nickname text DEFAULT 'Ace'"
    )
    trading.loader.execute(
        "CREATE OR REPLACE VIEW source.customers AS SELECT customer_id, first_name, last_name, email, phone,"
        " segment, created_at, updated_at, row_xid, nickname FROM oceanrecords.customers"
    )
    trading.loader.execute("CALL etl.build()")

    trading.run()

    assert drift(trading) == []
    assert trading.rows("SELECT DISTINCT nickname FROM stage.customers") == [("Ace",)]
    trading.shop.customer("Grace", nickname="Amazing")
    trading.run()
    assert (
        trading.value("SELECT nickname FROM stage.customers WHERE first_name = 'Grace'")
        == "Amazing"
    )


def test_a_dropped_column_stops_its_table_by_name(trading: Play) -> None:
    """Nothing of the table is loaded, what does not depend on it is, and the message names the column."""
    trading.loader.execute("ALTER TABLE oceanrecords.customers DROP COLUMN phone CASCADE")
    trading.shop.supplier(name="New label")

    trading.run(expect="partial")

    failure = trading.row("SELECT * FROM etl.task_status WHERE task = 'extract:customers'")
    assert failure["sqlstate"] == "ET007"
    assert failure["message"] == (
        'source table "customers" has changed: column "phone" (text) is gone'
    )
    assert "etl.build" in failure["hint"]
    assert (
        trading.value("SELECT count(*) FROM dwh.dim_supplier WHERE supplier_name = 'New label'")
        == 1
    )


def test_a_retyped_column_stops_its_table_by_name(trading: Play) -> None:
    trading.loader.execute(
        "DROP VIEW source.product_prices; ALTER TABLE oceanrecords.product_prices ALTER price TYPE numeric(20, 4);"
        "CREATE VIEW source.product_prices AS SELECT * FROM oceanrecords.product_prices"
    )
    trading.shop.change_price(trading.product, "11.00")

    trading.run(expect="partial")

    failure = trading.row("SELECT * FROM etl.task_status WHERE task = 'extract:product_prices'")
    assert failure["sqlstate"] == "ET007"
    assert failure["message"] == (
        'source table "product_prices" has changed: column "price" is numeric(20,4) instead of numeric(12,2)'
    )


def test_drift_that_is_undone_is_forgotten(trading: Play) -> None:
    trading.loader.execute("ALTER TABLE oceanrecords.customers ADD COLUMN nickname text")
    trading.run()
    trading.loader.execute("ALTER TABLE oceanrecords.customers DROP COLUMN nickname")
    trading.run()
    assert drift(trading) == []
