"""A warehouse with its operational system, ready to act on and to load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import RunningServer
from tests.warehouse.play import Play
from tests.warehouse.reused import Reused


@pytest.fixture(scope="session")
def reused(server: RunningServer) -> Iterator[Reused]:
    """The database that the tests of a session share, one after the other."""
    shared = Reused(server)
    yield shared
    shared.close()


@pytest.fixture
def play(reused: Reused, template: str) -> Iterator[Play]:
    """An empty shop, its warehouse not yet loaded."""
    yield Play.observed(reused.get(template).connect)
    reused.put_back()


@pytest.fixture
def trading(play: Play) -> Play:
    """A shop that trades (see `Play.open`), loaded once."""
    play.open()
    play.run()
    return play
