"""Cost follows the change: a batch reads the rows that it touches, not the tables that they are in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg

from simulator.burst import burst
from simulator.seed import seed
from tests.support.database import Database

ORDERS = 60_000
# Rows that were read one after the other, in all tables that grow with the business.
SCANNED = """
SELECT s.schemaname || '.' || s.relname AS name, s.seq_tup_read AS rows
FROM pg_stat_user_tables AS s
JOIN pg_class AS c ON c.oid = s.relid
WHERE s.schemaname IN ('oceanrecords', 'stage', 'dwh')
    AND c.reltuples > 50000
    AND s.seq_tup_read > 10  -- whether a table is empty takes a row
"""


def scanned_by_a_run(database: Database) -> dict[str, int]:
    """Load once on a connection of its own; its statistics are complete when it has ended."""
    database.execute("SELECT pg_stat_reset()")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CALL etl.run()")
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert database.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "succeeded"
    return {row["name"]: row["rows"] for row in database.rows(SCANNED)}


def test_a_run_scans_no_large_table(database: Database) -> None:
    """Neither with nothing new, nor with a thousandth of new and changed orders, prices, and addresses."""
    with database.connect() as connection:
        seed(connection, orders=ORDERS, months=12, seed=3)
        connection.execute("CALL etl.run()")
        assert scanned_by_a_run(database) == {}
        burst(connection, fraction=0.001, seed=5)
        # What it has read itself must not be counted late, when its session has ended.
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert scanned_by_a_run(database) == {}
    written = "SELECT rows_written FROM etl.run_status ORDER BY run_id DESC LIMIT 1"
    assert database.value(written) > 100


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan, as EXPLAIN gives it in JSON."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def test_rows_that_agree_are_not_compared_with_each_other(database: Database) -> None:
    """Thousands of orders change in nothing that their lines read: whatever the planner expects of that."""
    with database.connect() as connection:
        seed(connection, orders=6_000, months=12, seed=3)
        connection.execute("CALL etl.run()")
        connection.execute(
            "UPDATE oceanrecords.orders SET updated_at = updated_at + interval '1 s'"
        )
        connection.execute("CALL etl.run()")
    batch = database.value("SELECT max(batch_id) FROM delta.orders")
    routine = database.value("SELECT prosrc FROM pg_proc WHERE proname = 'merge_orders'")
    found = re.search(r"-- Keys of fact_order_line .*?\n(.*?);", routine, re.DOTALL)
    assert found is not None
    statement = found[1].replace("this.batch_id", str(batch))
    explained = database.value(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    nodes = list(nodes_of(explained[0]["Plan"]))
    assert any(node["Actual Rows"] == 12_000 for node in nodes), "both images of each order"
    compared = sum(node.get("Rows Removed by Join Filter", 0) for node in nodes)
    assert compared < 100_000


def test_a_table_that_grew_has_statistics(database: Database) -> None:
    """The first load finds an empty source, so no bulk load analyzes what the second one writes. So has a queue that grew."""
    with database.connect() as connection:
        connection.execute("CALL etl.run()")
        seed(connection, orders=3_000, months=12, seed=3)
        connection.execute("CALL etl.run()")
        connection.execute(
            "INSERT INTO work.dim_customer_key SELECT customer_id FROM stage.customers"
        )
        connection.execute("UPDATE etl.task SET is_enabled = task <> 'dimension:dim_customer'")
        connection.execute(
            "UPDATE oceanrecords.orders SET payment_method_id = payment_method_id % 5 + 1"
        )
        connection.execute("CALL etl.run()")
    grown = ["stage.orders", "stage.order_lines", "dwh.fact_order", "dwh.fact_order_line"]
    known = "SELECT bool_and(reltuples >= 1000) FROM pg_class WHERE oid = ANY (%s::regclass[])"
    assert database.value(known, [*grown, "etl.reprocessing_queue"])


def calls_of_a_run(database: Database) -> dict[str, int]:
    """Load once on a connection of its own, and count the calls of the engine's routines."""
    database.execute("SELECT pg_stat_reset()")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("SET track_functions = 'all'")
        connection.execute("CALL etl.run()")
        connection.execute("SELECT pg_stat_force_next_flush()")
    rows = database.rows(
        "SELECT funcname AS name, calls FROM pg_stat_user_functions WHERE schemaname = 'etl'"
    )
    return {row["name"]: row["calls"] for row in rows}


def test_what_has_not_changed_is_looked_at_once(database: Database) -> None:
    """One question ends a run with nothing new; otherwise only what has changed is extracted and loaded."""
    with database.connect() as connection:
        seed(connection, orders=200, months=12, seed=3)
        connection.execute("CALL etl.run()")
        calls = calls_of_a_run(database)
        assert calls["_is_idle"] == 1
        assert calls["_is_source_unchanged"] == 1
        assert "_claim" not in calls
        connection.execute(
            "UPDATE oceanrecords.products SET name = name || '.' WHERE product_id = 1"
        )
        calls = calls_of_a_run(database)
    # products is extracted and staged, dim_product loaded, and the checks are done.
    assert calls["_extract_delta"] == 1
    assert calls["_perform"] == 4
    assert calls["_claim"] == 5
    assert sum(calls.values()) < 500
    tasks = database.rows("SELECT kind, object, status, ended_at FROM etl.task_status")
    assert len(tasks) > 40
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert all(task["ended_at"] for task in tasks)
    batches = "SELECT batch_id FROM etl.watermark_status UNION SELECT max(batch_id) FROM etl.batch"
    assert len(database.rows(batches)) == 1
    name = "SELECT product_name FROM dwh.dim_product WHERE product_id = 1 AND is_current"
    assert database.value(name).endswith(".")
