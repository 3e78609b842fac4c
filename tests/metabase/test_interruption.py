"""A run that dies at any request is mended by the next one."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import pytest

from base.errors import UserError
from metabase.analysis import Analysts
from metabase.provisioner import Provisioner
from tests.metabase.standin import Standin, State
from tests.metabase.standin.server import Request

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")


OPTIONS = {"recipients": ("boss@example.com",)}


@dataclass(frozen=True)
class Course:
    """A run that nothing disturbed.

    Attributes:
        requests: what it asked, in order.
        states: the server's state before each request; behind the last, that of the end.
        options: of the run.
    """

    requests: list[Request]
    states: list[State]
    options: dict[str, Any]

    @property
    def points(self) -> list[int]:
        """Numbers of the requests before which the run may die.

        Reads change nothing, so the first request stands for all up to the first write, and what follows a write for
        all up to the next one. Of writes of one kind in a row (a card each), the first two and the last are taken.
        """
        writes = [number for number, request in enumerate(self.requests) if request.writes]
        points = [0]
        for _, row in groupby(writes, lambda number: self.kind(number)):
            points += [number + 1 for number in _ends(list(row))]
        return points

    def kind(self, number: int) -> str:
        """What a request asks for, whichever card or table it is."""
        request = self.requests[number]
        return f"{request.method} {re.sub(r'[0-9]+', 'N', request.path)}"


def _ends(row: list[int]) -> list[int]:
    return row if len(row) <= 3 else [*row[:2], row[-1]]


@pytest.fixture
def course(provisioner: Callable[..., Provisioner], analysts: Analysts) -> Course:
    # A few columns stand for all: what describes them is written one after the other.
    options = OPTIONS | {"analysts": replace(analysts, catalog=analysts.catalog[:12])}
    states: list[State] = []
    with Standin(State(sync_seconds=0)) as server:
        server.answer_with = lambda method, path: states.append(deepcopy(server.state))
        provisioner(to=server, **options).provision()
        return Course(list(server.requests), [*states, server.state], options)


@pytest.mark.slow
def test_killed_at_each_request_in_turn(
    course: Course, provisioner: Callable[..., Provisioner]
) -> None:
    """From each state in which a run may leave the server, the next one gets to the same end."""
    assert len(course.points) > 25
    expected = course.states[-1].essence()
    for number in course.points:
        with Standin(course.states[number]) as server:
            provisioner(to=server, **course.options).provision()
            place = f"killed before request {number}: {course.requests[number:][:1]}"
            assert server.state.essence() == expected, place
            assert provisioner(to=server, **course.options).plan().changes == [], place


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_connection_that_is_cut(
    when: Literal["before", "after"],
    where: float,
    course: Course,
    provisioner: Callable[..., Provisioner],
) -> None:
    """A request takes effect, or does not, and is not answered: the run says so and ends, and the next one mends it."""
    number = round(where * (len(course.requests) - 1))
    with Standin(State(sync_seconds=0)) as server:
        server.cut, server.cut_when = {number}, when
        with pytest.raises(UserError, match="cannot be reached"):
            provisioner(to=server, **course.options).provision()
        assert len(server.requests) == number + 1
        left = course.states[number if when == "before" else number + 1]
        assert server.state.essence() == left.essence()
        provisioner(to=server, **course.options).provision()
        assert server.state.essence() == course.states[-1].essence()


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
