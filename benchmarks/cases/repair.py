"""Making up for what could not be resolved: the reprocessing queue."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.measure import BenchmarkError
from benchmarks.peers import Ours
from benchmarks.results import median
from benchmarks.server import statement

_QUEUED = 100_000


def reprocess(bench: Bench) -> None:
    """Resolve 100,000 queued orders, whose customers were in doubt when they were loaded.

    The queue is filled by the engine itself: changes of all customers wait while their dimension
    is switched off, and a batch of orders is loaded meanwhile. Then the dimension is switched on.
    """
    bench.ensure_loaded()
    prepared, database = "case_reprocess_prepared", "case_reprocess"
    peer = Ours(bench.server, database)
    wanted = min(_QUEUED, bench.world.orders)
    with bench.case("reprocess", f"reprocessing of {wanted:,} queued rows") as case:
        bench.server.copy(bench.ours.database, prepared)
        with bench.server.connect(prepared) as connection:
            connection.execute(statement("cases/doubt_customers"))
        queued = 0
        for number in range(1, 5):
            percent = min(100.0, 100 * (wanted - queued) / bench.world.orders)
            bench.world.change(prepared, percent, bench.changes + number)
            Ours(bench.server, prepared).load()
            queued = _queued(bench, prepared)
            if queued >= 0.95 * wanted:
                break
        with bench.server.connect(prepared) as connection:
            connection.execute("UPDATE etl.task SET is_enabled = true")
        bench.server.settle(prepared)
        for _ in range(bench.repeat):
            bench.server.copy(prepared, database)
            bench.measure(case, peer, peer.load)
        if left := _queued(bench, database):
            raise BenchmarkError(f"{left} queued rows were not resolved.")
        in_fact = median([one.extra["tasks"].get("fact:fact_order") for one in case.peers["ours"]])
        case.facts["queued"] = queued
        case.facts["seconds of fact_order alone"] = in_fact
        if in_fact:
            case.facts["rows a second"] = queued / in_fact
        bench.server.drop(prepared)
        bench.server.drop(database)


def _queued(bench: Bench, database: str) -> int:
    """Count the rows in the queue, in a session that ends: a measurement waits for all others."""
    with bench.server.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM etl.reprocessing_queue").fetchone()
    return int(row[0]) if row else 0
