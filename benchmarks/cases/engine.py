"""What the engine itself costs: workers, and bulk data for it."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.measure import measured
from benchmarks.peers import Ours, OursOneWorker
from benchmarks.results import ratio
from benchmarks.world import UNTIL, oceanrecords


def seed(bench: Bench) -> None:
    """Fill an empty operational system with the simulator, once: it is no rival of anything."""
    database = "case_seed"
    with bench.case("seed", f"`oceanrecords simulate seed --orders {bench.world.orders}`") as case:
        bench.server.copy("template0", database)
        dsn = bench.server.dsn(database)
        oceanrecords(dsn, "migrate")
        with measured(bench.server, database) as result:
            finished = oceanrecords(
                dsn, "simulate", "seed", "--orders", str(bench.world.orders), "--until", UNTIL
            )
            result.wall_seconds = finished.seconds
        result.client_bytes = finished.peak_bytes
        case.add("simulator", result)
        bench.say(f"{result.wall_seconds:.1f} s")
        bench.server.drop(database)


def workers(bench: Bench) -> None:
    """Load for the first time with one worker and with two."""
    peers = [Ours(bench.server, "case_workers"), OursOneWorker(bench.server, "case_workers")]
    with bench.case("workers", "initial load by two workers and by one") as case:
        for turn in range(bench.repeat):
            for peer in peers if turn % 2 == 0 else peers[::-1]:
                peer.begin(bench.world)
                bench.measure(case, peer, peer.load)
        case.facts["times as fast with two"] = ratio(
            case.median("one_worker", "sql_seconds"), case.median("ours", "sql_seconds")
        )
        bench.server.drop("case_workers")
