"""Cost follows the change: a batch reads the rows that it touches, not the tables that they are in."""

from __future__ import annotations

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
