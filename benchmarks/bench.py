"""One run of the benchmark: the peers, their databases, and what the cases share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from benchmarks.compare import assert_equal
from benchmarks.measure import BenchmarkError, Measurement
from benchmarks.peers import Ours, Peer
from benchmarks.results import Case, Results
from benchmarks.server import Server
from benchmarks.world import World

# Between the measurements, databases are prepared two at a time.
_HANDS = 2

console = Console(highlight=False, stderr=True)


@dataclass
class Bench:
    """What a case works with.

    Attributes:
        server: the server.
        world: the operational data that everything starts from.
        peers: who takes part.
        repeat: repetitions of each measurement.
        results: where the figures go.
        loaded: peers whose stars are loaded, and equal.
        changes: how many changes the copies have seen; all have seen the same.
    """

    server: Server
    world: World
    peers: list[Peer]
    repeat: int
    results: Results
    loaded: set[str] = field(default_factory=set)
    changes: int = 0

    @property
    def ours(self) -> Ours:
        """The warehouse itself, with everything."""
        return next(peer for peer in self.peers if type(peer) is Ours)

    def order(self, turn: int) -> list[Peer]:
        """Return the peers, another one first each turn."""
        first = turn % len(self.peers)
        return self.peers[first:] + self.peers[:first]

    def ensure_loaded(self) -> None:
        """Load the stars of each peer that has not yet, unmeasured, and prove them equal."""
        missing = [peer for peer in self.peers if peer.name not in self.loaded]
        for peer in missing:
            self.say(f"loading '{peer.title}'")
            peer.begin(self.world)
            peer.load()
            self.loaded.add(peer.name)
        if missing:
            self.settle()
            self.prove("initial load")

    def clear(self) -> None:
        """Drop the databases of all peers; what needs them loads them anew."""
        for peer in self.peers:
            self.server.drop(peer.database)
        self.loaded.clear()
        self.changes = 0

    def alone(self, peer: Peer, world: World) -> Bench:
        """Return a bench of one peer and some data, to be used after `clear`."""
        return replace(self, peers=[peer], world=world, loaded=set(), changes=0)

    def settle(self) -> None:
        """Do in every peer's database what autovacuum would have done in time."""
        with ThreadPoolExecutor(_HANDS) as pool:
            list(pool.map(lambda peer: self.server.settle(peer.database), self.peers))

    def change(self, percent: float) -> dict[str, Any]:
        """Make one more change, the same one in the copy of every peer.

        Raises:
            BenchmarkError: if it was not the same.
        """
        self.changes += 1
        number = self.changes
        with ThreadPoolExecutor(_HANDS) as pool:
            done = list(
                pool.map(lambda peer: self.world.change(peer.database, percent, number), self.peers)
            )
        if any(one != done[0] for one in done):
            raise BenchmarkError(f"The peers did not get the same changes: {done}.")
        return done[0]

    def prove(self, moment: str) -> dict[str, int]:
        """Prove that all peers have the same stars; return the sizes of the tables."""
        self.say(f"comparing the stars: {moment}")
        return assert_equal(self.peers, moment)

    def measure(
        self, case: Case, peer: Peer, work: Callable[[], Measurement], name: str | None = None
    ) -> Measurement:
        """Do a piece of work, keep its figures by the peer's name or another, and tell them."""
        result = work()
        case.add(name or peer.name, result)
        sql_time = f", {result.sql_seconds:.2f} s in SQL" if result.sql_seconds is not None else ""
        self.say(f"{peer.title}: {result.wall_seconds:.2f} s{sql_time}")
        return result

    def say(self, text: str) -> None:
        """Tell what goes on."""
        console.print(f"  [dim]{text}[/]")

    @contextmanager
    def case(self, name: str, title: str) -> Iterator[Case]:
        """Begin a case; its figures count only when it comes to its end."""
        console.print(f"[bold]{name}[/]  {title}")
        case = Case(name, title)
        yield case
        self.results.cases[name] = case
