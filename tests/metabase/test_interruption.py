"""A run that dies at any request is mended by the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from base.errors import UserError
from metabase.analysis import Analysts
from metabase.provisioner import Provisioner
from tests.metabase.standin import Standin, State

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_request_in_turn(
    when: Literal["before", "after"],
    provisioner: Callable[..., Provisioner],
    analysts: Analysts,
) -> None:
    """Each request in turn takes effect, or does not, and is not answered any more.

    The run ends there, as if it had been killed. Between two writes the server does not change, so
    cutting at a read before which the last run was cut already shows nothing new: of each row of
    reads, the first is cut and the others are passed over.
    """
    # A few columns stand for all: what describes them is written one after the other.
    few = replace(analysts, catalog=analysts.catalog[:12])
    options = {"analysts": few, "recipients": ("boss@example.com",)}
    with Standin(State(sync_seconds=0)) as server:
        provisioner(to=server, **options).provision()
        expected = server.state.essence()
        requests = list(server.requests)
    points = [
        number
        for number, request in enumerate(requests)
        if request.writes or number == 0 or requests[number - 1].writes
    ]
    assert len([number for number in points if requests[number].writes]) > 15
    for number in points:
        with Standin(State(sync_seconds=0)) as server:
            server.cut, server.cut_when = {number}, when
            with pytest.raises(UserError, match="cannot be reached"):
                provisioner(to=server, **options).provision()
            assert len(server.requests) == number + 1
            provisioner(to=server, **options).provision()
            place = f"cut {when} request {number}, {requests[number]}"
            assert server.state.essence() == expected, place
            assert provisioner(to=server, **options).plan().changes == [], place


def test_killed_again_and_again(provisioner: Callable[..., Provisioner]) -> None:
    """A run that dies after each single write gets there all the same, a step at a time."""
    with Standin(State(sync_seconds=0)) as server:
        provisioner(to=server).provision()
        expected = server.state.essence()
    with Standin(State(sync_seconds=0)) as server:
        for _ in range(100):
            written = len(server.writes)
            server.answer_with = _cut_after_one_write(server, written)
            try:
                provisioner(to=server).provision()
            except UserError:
                assert len(server.writes) > written, "each run gets somewhere"
            else:
                break
        server.answer_with = None
        assert server.state.essence() == expected
        assert provisioner(to=server).plan().changes == []


def _cut_after_one_write(
    server: Standin, written: int
) -> Callable[[str, str], tuple[int, str, dict[str, str]] | None]:
    def answer(method: str, path: str) -> tuple[int, str, dict[str, str]] | None:
        return (502, "Bad gateway", {}) if len(server.writes) > written else None

    return answer
