"""Databases for tests of the engine: alone or beside OceanRecords, and with another business, a lending library.

`@pytest.mark.installed("engine")` leaves OceanRecords out: a build then compiles the objects of the test only, in a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.engine.library import Library
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

STEPS = sorted(Path(__file__).with_name("library").glob("*.sql"))


@pytest.fixture(scope="session")
def library_template(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of a database with the library beside OceanRecords."""
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, executor.template_dbname) as made:
        for step in STEPS:
            made.execute(step.read_text(encoding="utf-8"))
        yield made.name


@pytest.fixture
def template(server: RunningServer, request: pytest.FixtureRequest) -> str:
    """Name of what `database` is a copy of."""
    marker = request.node.get_closest_marker("installed")
    if "library" in request.fixturenames:
        name: str = request.getfixturevalue("library_template")
    elif marker is not None and marker.args == ("engine",):
        name = request.getfixturevalue("engine_template")
    else:
        name = request.getfixturevalue(f"{server.name}_template").template_dbname
    return name


@pytest.fixture
def library(database: Database) -> Library:
    """The library with its warehouse, nothing loaded."""
    return Library(database.connect())
