"""A warehouse with its operational system, ready to act on and to load."""

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
    """A shop that trades (see `Play.open`), loaded once."""
    play.open()
    play.run()
    return play
