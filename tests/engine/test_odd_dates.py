"""Dates that are no dates, and logs with gaps: history is kept whatever a source says about it."""

from __future__ import annotations

import pytest

from tests.engine.test_define import Lab
from tests.support.database import Database

pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

ITEMS = """
CREATE SCHEMA lab;
CREATE TABLE lab.items (item_id bigint PRIMARY KEY, colour text, price numeric, changed_at timestamptz, removed_at timestamptz);
CREATE TABLE lab.prices (item_id bigint, valid_from timestamptz, price numeric, PRIMARY KEY (item_id, valid_from));
CREATE TABLE lab.sales (sale_id bigint PRIMARY KEY, item_id bigint, sold_at timestamptz, amount numeric);
CREATE VIEW source.items AS SELECT * FROM lab.items;
CREATE VIEW source.prices AS SELECT * FROM lab.prices;
CREATE VIEW source.sales AS SELECT * FROM lab.sales;
SELECT etl.define_source('items');
SELECT etl.define_source('prices');
SELECT etl.define_source('sales');
CALL etl.build();
CREATE VIEW work.dim_item AS
SELECT item_id, colour, changed_at AS effective_at, coalesce(removed_at, deleted_at) AS deleted_at FROM stage.items;
CREATE VIEW work.dim_priced AS
SELECT item_id, colour, price, changed_at AS effective_at, deleted_at FROM stage.items;
CREATE VIEW work.dim_priced_history AS SELECT item_id, valid_from, price FROM stage.prices WHERE deleted_at IS NULL;
SELECT etl.define_dimension('dim_item', '{item_id}', p_type_2 => '{colour}', p_depends_on => ARRAY[etl.depends_on('items')]);
SELECT etl.define_dimension(
    'dim_priced', '{item_id}', p_type_2 => '{colour,price}', p_history_view => 'work.dim_priced_history',
    p_depends_on => ARRAY[etl.depends_on('items'), etl.depends_on('prices')]
);
CREATE VIEW work.fact_sale AS SELECT sale_id, item_id, sold_at, amount, deleted_at FROM stage.sales;
SELECT etl.define_fact(
    'fact_sale', '{sale_id}', '{amount}', ARRAY[etl.fact_key('dim_item', p_as_of => 'sold_at')],
    p_depends_on => ARRAY[etl.depends_on('sales')]
);
CALL etl.build();
"""
VERSIONS = (
    "SELECT colour, valid_from = '-infinity', is_current, valid_from < valid_to FROM dwh.dim_item"
    " WHERE item_id = %s ORDER BY valid_from, valid_to"
)


@pytest.fixture
def lab(database: Database) -> Lab:
    lab = Lab(database.connect())
    lab.execute(ITEMS)
    return lab


def assert_agrees(lab: Lab) -> None:
    lab.execute("CALL etl.reconcile()")
    assert (
        lab.rows(
            "SELECT object, kind, row_key, columns, expected, actual FROM etl.reconciliation_difference"
            " WHERE reconciliation_id = (SELECT max(reconciliation_id) FROM etl.reconciliation)"
        )
        == []
    )


def test_a_change_without_a_usable_date_holds_from_the_batch_that_read_it(lab: Lab) -> None:
    """Minus infinity would replace the versions that there were; infinity would never hold."""
    dates = ["-infinity", "infinity", None]
    for number, date in enumerate(dates):
        lab.connection.execute("INSERT INTO lab.items VALUES (%s, 'red', 1, %s)", [number, date])
    assert lab.run() == "succeeded"
    lab.execute(
        "INSERT INTO lab.sales SELECT i, i, clock_timestamp(), 1 FROM generate_series(0, 2) AS i"
    )
    assert lab.run() == "succeeded"
    for colour in ("green", "blue"):
        lab.execute(f"UPDATE lab.items SET colour = '{colour}'")
        assert lab.run() == "succeeded"
    for number in range(len(dates)):
        assert lab.rows(VERSIONS, number) == [
            ("red", True, False, True),
            ("green", False, False, True),
            ("blue", False, True, True),
        ]
    sold = "SELECT DISTINCT colour FROM dwh.fact_sale JOIN dwh.dim_item USING (item_key)"
    assert lab.rows(sold) == [("red",)]
    assert_agrees(lab)
    for date in ("-infinity", "infinity"):
        lab.execute(f"UPDATE lab.items SET removed_at = '{date}' WHERE item_id = 1")
        assert lab.run() == "succeeded"
        assert lab.rows(VERSIONS, 1)[-1] == ("blue", False, False, True)
        assert lab.rows(sold) == [("red",)]
        lab.execute("UPDATE lab.items SET removed_at = NULL WHERE item_id = 1")
        assert lab.run() == "succeeded"
        assert lab.rows(VERSIONS, 1)[-1] == ("blue", False, True, True)
    assert_agrees(lab)


def test_an_event_without_a_usable_date_is_looked_up_in_the_first_or_last_version(lab: Lab) -> None:
    lab.execute("INSERT INTO lab.items VALUES (1, 'red', 1, '2025-01-01')")
    lab.execute(
        "INSERT INTO lab.sales VALUES (1, 1, '-infinity', 1), (2, 1, 'infinity', 1), (3, 1, NULL, 1)"
    )
    lab.run()
    lab.execute("UPDATE lab.items SET colour = 'blue', changed_at = '2025-02-01'")
    lab.execute("UPDATE lab.sales SET amount = 2")
    lab.run()
    found = lab.rows(
        "SELECT sale_id, item_key, colour FROM dwh.fact_sale JOIN dwh.dim_item USING (item_key) ORDER BY 1"
    )
    assert found[0][2] == "red", found
    # At infinity no version holds, and without a date none is known: both wait, and are counted.
    assert [(sale, key == -1) for sale, key, _ in found] == [(1, False), (2, True), (3, True)]
    assert lab.rows("SELECT fact_key ->> 'sale_id' FROM etl.reprocessing_queue ORDER BY 1") == [
        ("2",),
        ("3",),
    ]
    assert_agrees(lab)


def test_a_log_may_say_that_there_was_no_price(lab: Lab) -> None:
    """A NULL of the log is not filled with the present price."""
    lab.execute("INSERT INTO lab.items VALUES (1, 'red', 9, '2025-01-01')")
    lab.execute(
        "INSERT INTO lab.prices VALUES (1, '-infinity', 5), (1, '2025-02-01', NULL), (1, '2025-03-01', 9)"
    )
    assert lab.run() == "succeeded"
    prices = "SELECT price FROM dwh.dim_priced WHERE item_id = 1 ORDER BY valid_from"
    assert lab.rows(prices) == [(5,), (None,), (9,)]
    lab.execute("UPDATE lab.items SET colour = 'blue', changed_at = '2025-04-01'")
    assert lab.run() == "succeeded"
    assert lab.rows(prices) == [(5,), (None,), (9,), (9,)]
    lab.execute("INSERT INTO lab.prices VALUES (1, 'infinity', 10)")
    assert lab.run() == "partial"
    assert lab.rows("SELECT object, sqlstate FROM etl.quarantine") == [("dim_priced", "22008")]
    lab.execute("DELETE FROM lab.prices WHERE valid_from = 'infinity'")
    assert lab.run() == "succeeded"
    assert lab.rows(prices) == [(5,), (None,), (9,), (9,)]
    assert_agrees(lab)
