"""An aggregate of a business of one's own: its table is made, its sums follow the fact, and what could not be taken back is refused."""

from __future__ import annotations

import psycopg
import pytest

from tests.engine.test_define import Lab
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

SALES = """
CREATE SCHEMA lab;
CREATE TABLE lab.sales (sale_id bigint PRIMARY KEY, shop text, amount numeric, pieces integer);
CREATE VIEW source.sales AS SELECT * FROM lab.sales;
SELECT etl.define_source('sales');
CALL etl.build();
CREATE VIEW work.fact_sale AS SELECT sale_id, shop, amount, pieces, deleted_at FROM stage.sales;
SELECT etl.define_fact('fact_sale', '{sale_id}', '{amount,pieces}', '{}');
"""
CONTRIBUTIONS = "CREATE VIEW work.agg_shop AS SELECT sale_id, coalesce(shop, '-') AS shop, amount, pieces FROM dwh.fact_sale WHERE NOT is_deleted"
DECLARATION = "SELECT etl.define_aggregate('agg_shop', '{shop}', '{amount,pieces}', '{sale_id}', ARRAY[etl.fed_by('fact_sale')])"
GROUPS = "SELECT shop, amount, pieces FROM dwh.agg_shop ORDER BY shop"


@pytest.fixture
def lab(database: Database) -> Lab:
    """Sales without any dimension, and no aggregate yet."""
    lab = Lab(database.connect())
    lab.execute(SALES)
    return lab


@pytest.fixture
def aggregate(lab: Lab) -> Lab:
    """The same with an aggregate by shop, and three sales that are not loaded yet."""
    lab.execute(CONTRIBUTIONS)
    lab.execute(DECLARATION)
    lab.execute("CALL etl.build()")
    lab.execute("INSERT INTO lab.sales VALUES (1, 'a', 1.5, 1), (2, 'a', 2, 2), (3, NULL, 4, 1)")
    return lab


def test_the_table_is_made_in_the_shape_of_the_contributions(aggregate: Lab) -> None:
    assert aggregate.rows(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'dwh.agg_shop'::regclass AND attnum > 0 ORDER BY attnum"
    ) == [
        ("shop", "text", True),
        ("amount", "numeric", True),
        ("pieces", "bigint", True),
        ("run_id", "bigint", True),
    ]


def test_all_columns_of_the_fact_are_watched_by_default(aggregate: Lab) -> None:
    """Changes, deletions and a group that empties arrive in the next run."""
    assert aggregate.run() == "succeeded"
    assert aggregate.rows(GROUPS) == [("-", 4, 1), ("a", 3.5, 3)]
    aggregate.execute("UPDATE lab.sales SET pieces = 5 WHERE sale_id = 1")
    aggregate.execute("UPDATE lab.sales SET shop = 'b' WHERE sale_id = 2")
    aggregate.execute("DELETE FROM lab.sales WHERE sale_id = 3")
    assert aggregate.run() == "succeeded"
    assert aggregate.rows(GROUPS) == [("a", 1.5, 5), ("b", 2, 2)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_could_not_be_taken_back_is_quarantined(aggregate: Lab, value: str) -> None:
    """The row stays out until it is corrected; the sums of the others are right throughout."""
    aggregate.run()
    aggregate.execute(f"UPDATE lab.sales SET amount = '{value}' WHERE sale_id = 1")
    aggregate.execute("UPDATE lab.sales SET amount = 3 WHERE sale_id = 2")
    assert aggregate.run() == "partial"
    assert aggregate.rows("SELECT object, row_key, sqlstate FROM etl.quarantine") == [
        ("fact_sale", {"sale_id": 1}, "22003")
    ]
    assert aggregate.rows(GROUPS) == [("-", 4, 1), ("a", 4.5, 3)]
    aggregate.execute("UPDATE lab.sales SET amount = 2 WHERE sale_id = 1")
    assert aggregate.run() == "succeeded"
    assert aggregate.rows(GROUPS) == [("-", 4, 1), ("a", 5, 3)]


def test_an_initial_load_with_such_a_number_fails_and_recovers(aggregate: Lab) -> None:
    aggregate.execute("UPDATE lab.sales SET amount = 'NaN' WHERE sale_id = 1")
    assert aggregate.run() == "partial"
    assert aggregate.rows(
        "SELECT task, message FROM etl.task_run WHERE status = 'failed'"
    ) == [("aggregate:agg_shop", 'measure "amount" of aggregate "agg_shop" is not finite')]  # fmt: skip
    aggregate.execute("UPDATE lab.sales SET amount = 2 WHERE sale_id = 1")
    assert aggregate.run() == "succeeded"
    assert aggregate.rows(GROUPS) == [("-", 4, 1), ("a", 4, 3)]


@pytest.mark.parametrize("type_name", ["real", "double precision"])
def test_an_approximate_measure_is_refused(lab: Lab, type_name: str) -> None:
    lab.execute(CONTRIBUTIONS.replace("amount,", f"amount::{type_name} AS amount,"))
    lab.execute(DECLARATION)
    with pytest.raises(
        psycopg.Error, match=rf'measure "amount" of work\.agg_shop is {type_name}'
    ) as refused:
        lab.execute("CALL etl.build()")
    assert refused.value.sqlstate == "ET003"
    assert refused.value.diag.message_hint is not None
    assert "numeric" in refused.value.diag.message_hint


def test_a_group_that_may_be_null_is_refused(lab: Lab) -> None:
    """NULL equals nothing: each run would open such a group once more."""
    lab.execute(CONTRIBUTIONS)
    lab.execute(
        "CREATE TABLE dwh.agg_shop (shop text UNIQUE, amount numeric, pieces bigint, run_id bigint)"
    )
    lab.execute(DECLARATION)
    with pytest.raises(
        psycopg.Error, match=r'column "shop" of dwh\.agg_shop may be NULL'
    ) as refused:
        lab.execute("CALL etl.build()")
    assert refused.value.sqlstate == "ET003"
