"""Another business beside OceanRecords: a lending library, made as docs/your-own-warehouse.md tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.library import Library
from tests.support.database import Database

STEPS = sorted(Path(__file__).with_name("library").glob("*.sql"))


@pytest.fixture
def library(database: Database) -> Library:
    """The library with its warehouse, nothing loaded."""
    connection = database.connect()
    for step in STEPS:
        connection.execute(step.read_bytes())
    return Library(connection)
