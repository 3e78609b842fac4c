"""The demonstration, as a new user sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

SMALL = ("demo", "--orders", "1500", "--months", "3")


@pytest.mark.server("embedded")
def test_it_needs_nothing_and_leaves_nothing_running(
    server: object, oceanrecords: Callable[..., Any], tmp_path: Path
) -> None:
    """From an empty folder to a proven warehouse, twice; the server is stopped in the end."""
    for _ in range(2):
        done = oceanrecords(*SMALL)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "broken on purpose by the demonstration" in done.stdout
        assert "with key -1 in the queue, until dim_product is loaded" in done.stdout
        assert "the queue is empty" in done.stdout
        assert "no difference" in done.stdout
        assert "Sales" in done.stdout
    assert (tmp_path / ".oceanrecords" / "dashboard.html").stat().st_size > 10_000
    assert oceanrecords("db", "status").stdout.startswith("○")


def test_it_plays_on_any_server_in_a_database_of_its_own(
    empty_database: Database, oceanrecords: Callable[..., Any]
) -> None:
    """The database that the connection string names is not touched."""
    done = oceanrecords("--dsn", empty_database.dsn, *SMALL)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "no difference" in done.stdout
    assert empty_database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'etl'") == 0
    with psycopg.connect(empty_database.server.dsn("oceanrecords_demo")) as connection:
        row = connection.execute("SELECT count(*) FROM dwh.fact_order").fetchone()
        assert row is not None
        assert row[0] > 1500
    empty_database.execute("DROP DATABASE oceanrecords_demo WITH (FORCE)")


def test_without_the_right_to_create_a_database_it_says_so(
    database: Database, oceanrecords: Callable[..., Any]
) -> None:
    """One sentence that names the role and the database, and the way out."""
    database.execute("CREATE ROLE demo_visitor LOGIN PASSWORD 'visitor'")
    try:
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user="demo_visitor", password="visitor")
        done = oceanrecords("--dsn", dsn, *SMALL)
    finally:
        database.execute("DROP ROLE demo_visitor")

    assert done.returncode == 1
    assert "demo_visitor may not create the database oceanrecords_demo" in done.stderr
    assert "CREATEDB" in done.stderr
    assert "visitor'" not in done.stderr
