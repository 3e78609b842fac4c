"""A warehouse with a few thousand orders, loaded once a server and copied for each test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from simulator.seed import seed
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

ORDERS = 2500
RUNS = 2


@pytest.fixture(scope="session")
def loaded_template(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated, seeded and loaded database, which nobody changes."""
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, executor.template_dbname) as made:
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            seed(connection, orders=ORDERS, months=12, seed=7, until=date(2026, 1, 1))
            connection.execute("CALL etl.run()")
            # The heavy checks come when their interval has passed.
            connection.execute(
                "UPDATE etl.quality_check SET added_at = added_at - interval '8 days'"
            )
            connection.execute("CALL etl.run()")
            query = "SELECT count(*) FROM etl.run WHERE status = 'succeeded'"
            assert _value(connection, query) == RUNS
        yield made


@pytest.fixture
def loaded(server: RunningServer, loaded_template: Database) -> Iterator[Database]:
    """A copy of it for one test."""
    with temporary_database(server, loaded_template.name) as made:
        be_the_same_source(made)
        yield made


def be_the_same_source(copy: Database) -> None:
    """Let a copy of a database pass for it: another database would be extracted completely."""
    copy.execute(
        "UPDATE etl.watermark SET database_id = d.oid FROM pg_database AS d"
        " WHERE d.datname = current_database()"
    )


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def json_of(
    oceanrecords: Callable[..., Any],
) -> Callable[..., tuple[int, Any]]:
    """Runs the program with --json on a database; returns exit status and answer."""

    def run(database: Database, *arguments: str) -> tuple[int, Any]:
        done = oceanrecords(*arguments, "--json", env={"OCEANRECORDS_DSN": database.dsn})
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run
