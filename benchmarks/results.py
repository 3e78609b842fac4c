"""What a run of the benchmark has found, and how it is kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement

# Fact of a case: what the very first batch took, by peer, in seconds.
FIRST_BATCH = "the very first batch, seconds in SQL"

_MEASURES = (
    "wall_seconds",
    "sql_seconds",
    "statement_seconds",
    "wal_bytes",
    "client_bytes",
    "backend_bytes",
    "pages_touched",
    "pages_read",
)


def median(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are known, None when none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def ratio(value: float | None, base: float | None) -> float | None:
    """Return how many times the base a value is, None when either is not known."""
    return value / base if value is not None and base else None


def at_a_tenth(peer: str) -> str:
    """Return the name by which the figures of a peer at a tenth of the orders are kept."""
    return f"{peer}_tenth"


@dataclass
class Case:
    """Figures of one case.

    Attributes:
        name: short name, as chosen on the command line.
        title: what was done.
        peers: measurements of each peer, by the peer's name.
        facts: single figures that are no measurement of a peer.
        rows: what the stars held when they were found equal; empty where nothing was compared.
    """

    name: str
    title: str
    peers: dict[str, list[Measurement]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, peer: str, measurement: Measurement) -> None:
        """Keep one more measurement of a peer."""
        self.peers.setdefault(peer, []).append(measurement)

    def median(self, peer: str, measure: str) -> float | None:
        """Return the median of a measure over a peer's repetitions."""
        return median([getattr(one, measure) for one in self.peers.get(peer, [])])

    def spread(self, peer: str, measure: str) -> tuple[float, float] | None:
        """Return the least and the greatest value of a measure."""
        known = [getattr(one, measure) for one in self.peers.get(peer, [])]
        known = [value for value in known if value is not None]
        return (min(known), max(known)) if known else None


@dataclass
class Results:
    """All that a run of the benchmark has found.

    Attributes:
        orders: orders that were seeded: the scale.
        machine: what it ran on.
        versions: of the programs.
        settings: of the server.
        sizes: rows of the operational tables.
        cases: figures, by the case's name.
    """

    orders: int
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write everything, with the medians beside the single figures, as JSON."""
        answer = asdict(self)
        for name, case in self.cases.items():
            answer["cases"][name]["medians"] = {
                peer: {measure: case.median(peer, measure) for measure in _MEASURES}
                for peer in case.peers
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(answer, indent=1, default=str) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` has written."""
        answer = json.loads(path.read_text(encoding="utf-8"))
        cases = {}
        for name, case in answer.pop("cases").items():
            case.pop("medians", None)
            case["peers"] = {
                peer: [Measurement(**one) for one in measurements]
                for peer, measurements in case["peers"].items()
            }
            cases[name] = Case(**case)
        return cls(**answer, cases=cases)
