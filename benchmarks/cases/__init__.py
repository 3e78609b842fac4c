"""The cases, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.cases import loads

CASES: dict[str, Callable[[Bench], None]] = {
    "initial": loads.initial,
    "batch-0.1": loads.batch(0.1),
    "batch-1": loads.batch(1),
    "batch-10": loads.batch(10),
    "nothing": loads.nothing,
    "refresh": loads.refresh,
}

# What runs when nothing is chosen: all that the table of targets needs.
DEFAULT = ("initial", "batch-0.1", "batch-1", "batch-10", "nothing")
