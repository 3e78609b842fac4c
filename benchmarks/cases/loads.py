"""Loads: the first one, batches, nothing new, full refresh."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.compare import Digest, differing_table, digests
from benchmarks.measure import BenchmarkError
from benchmarks.peers import BY_PSQL, Hand, Peer
from benchmarks.results import FIRST_BATCH, Case, at_a_tenth
from benchmarks.world import World

# After so many batches most pages that business touches are in the server's memory, of ten million
# orders too: after ten, a tenth of what a batch looked at still was not.
_FIRST_BATCHES = 30


def initial(bench: Bench) -> None:
    """Load empty stars from all of the operational data, each time into a new database."""
    with bench.case("initial", f"initial load of {bench.world.orders:,} orders") as case:
        for turn in range(bench.repeat):
            for peer in bench.order(turn):
                peer.begin(bench.world)
                bench.measure(case, peer, peer.load)
        bench.settle()
        bench.loaded = {peer.name for peer in bench.peers}
        case.rows = bench.prove("initial load")


def batch(percent: float) -> Callable[[Bench], None]:
    """Return the case in which a share of the operational data has changed, each time another."""

    def run(bench: Bench) -> None:
        bench.ensure_loaded()
        with bench.case(f"batch-{percent:g}", f"batch that changes {percent:g} %") as case:
            _load_batches(bench, case, percent, bench.repeat)
            case.rows = bench.prove(f"{percent:g} % changed")
            bench.settle()

    return run


def _load_batches(
    bench: Bench, case: Case, percent: float, times: int, name: str | None = None
) -> None:
    """Change a share of the operational data and let each peer load it, again and again."""
    for turn in range(times):
        case.facts["changed"] = bench.change(percent)
        for peer in bench.order(turn):
            bench.measure(case, peer, peer.load, name)


def nothing(bench: Bench) -> None:
    """Load although nothing has changed, by the program and by `CALL etl.run()` in psql."""
    bench.ensure_loaded()
    with bench.case("nothing", "nothing new") as case:
        for turn in range(bench.repeat):
            for peer in bench.order(turn):
                bench.measure(case, peer, peer.load)
                if peer.name in BY_PSQL:
                    by_psql = BY_PSQL[peer.name](bench.server, peer.database)
                    bench.measure(case, by_psql, by_psql.load)
        case.rows = bench.prove("nothing new")


def refresh(bench: Bench) -> None:
    """Build everything anew although it is there.

    The hand-written SQL keeps nothing to do it from: what the source does not log would be lost.
    """
    bench.ensure_loaded()
    with bench.case("refresh", "full refresh") as case:
        for turn in range(bench.repeat):
            for peer in bench.order(turn):
                if not isinstance(peer, Hand):
                    bench.measure(case, peer, peer.refresh)
        case.rows = bench.prove("full refresh")
        bench.settle()


def growth(bench: Bench) -> None:
    """Load as many changes at the full size as at a tenth of it: 1,000 orders, with the rest.

    The share is that of the size, so that both get as many changes of each kind. One database at
    a time, with the server to itself: at ten million orders, those of two peers would push each
    other out of the machine's memory, and it is the disk that would be measured. The tenth is
    measured before the full size and after it: a machine that gets slower meanwhile is no growth.
    The first batches do not count: they wait for pages that nothing has read since the load.
    """
    full = bench.world
    tenth = World(bench.server, full.orders // 10)
    tenth.ensure()
    stars: dict[World, tuple[Peer, dict[str, Digest]]] = {}
    with bench.case("growth", "1,000 changed orders") as case:
        first = Case("growth", "the first batches")
        for peer in bench.peers:
            for world in (tenth, full, tenth):
                name = peer.name if world is full else at_a_tenth(peer.name)
                percent = min(100.0, 100 * 1000 / world.orders)
                bench.say(f"{peer.title}: {world.orders:,} orders")
                bench.clear()
                alone = bench.alone(peer, world)
                alone.ensure_loaded()
                _load_batches(alone, first, percent, _FIRST_BATCHES, name)
                _load_batches(alone, case, percent, bench.repeat, name)
                found = digests(peer)
                other, expected = stars.setdefault(world, (peer, found))
                table = differing_table(expected, found)
                if table is not None:
                    raise BenchmarkError(
                        f"1,000 of {world.orders:,} orders changed: {table} of '{peer.title}' "
                        f"differs from that of '{other.title}'."
                    )
        bench.clear()
        case.facts[FIRST_BATCH] = {
            name: found[0].sql_seconds for name, found in first.peers.items()
        }
        case.rows = {table: digest.rows for table, digest in stars[full][1].items()}
