"""The cases, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.cases import engine, loads, reads, repair, stream

CASES: dict[str, Callable[[Bench], None]] = {
    "seed": engine.seed,
    "initial": loads.initial,
    "batch-0.1": loads.batch(0.1),
    "batch-1": loads.batch(1),
    "batch-10": loads.batch(10),
    "nothing": loads.nothing,
    "lookup": reads.lookup,
    "dashboard": reads.dashboard,
    "reconcile": reads.reconcile,
    "reprocess": repair.reprocess,
    "stream": stream.stream,
    "workers": engine.workers,
    "refresh": loads.refresh,
    "growth": loads.growth,
}

# What runs when nothing is chosen: all that the table of targets needs, and what is quick.
DEFAULT = (
    "initial",
    "batch-0.1",
    "batch-1",
    "batch-10",
    "nothing",
    "dashboard",
    "growth",
)
