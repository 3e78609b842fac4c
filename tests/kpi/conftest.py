"""A shop with its warehouse, for the tests of the key figures."""

from __future__ import annotations

import pytest

from tests.support.database import Database
from tests.warehouse.play import Play


@pytest.fixture
def play(database: Database) -> Play:
    """An empty shop, its warehouse not yet loaded."""
    return Play.on(database.connect)


@pytest.fixture
def trading(play: Play) -> Play:
    """A shop with a customer, two products (at 10.00 and 25.50) and one order, not yet loaded."""
    play.open()
    return play
