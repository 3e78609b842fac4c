"""What is to be reached at a million orders, as ratios of one run."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Results, ratio


@dataclass(frozen=True)
class Target:
    """Upper bounds of a case; None where there is none.

    Attributes:
        dbt_whole: the whole command by dbt's whole command.
        dbt_work: time in SQL by dbt's command without its start-up.
        hand: time in SQL by that of the hand-written SQL.
        sql_seconds: time in SQL, in seconds.
    """

    dbt_whole: float | None
    dbt_work: float | None
    hand: float | None
    sql_seconds: float | None = None


TARGETS = {
    "initial": Target(1.0, 1.2, 1.6),
    "batch-0.1": Target(0.1, 0.3, 2.0),
    "batch-1": Target(0.3, 0.7, 1.6),
    "batch-10": Target(0.9, 1.1, 1.3),
    "nothing": Target(0.02, 0.05, None, 0.05),
}


@dataclass(frozen=True)
class Ratios:
    """What one peer of ours reached in a case; None where there was nothing to compare with."""

    dbt_whole: float | None
    dbt_work: float | None
    hand: float | None


def ratios(results: Results, case: str, peer: str) -> Ratios:
    """Return the ratios of a case for one of our peers, to peers that build the same."""
    found = results.cases[case]
    suffix = "" if peer in ("stars", "stars_psql") else "_everything"
    hand, dbt = f"hand{suffix}", f"dbt{suffix}"
    return Ratios(
        ratio(found.median(peer, "wall_seconds"), found.median(dbt, "wall_seconds")),
        ratio(found.median(peer, "sql_seconds"), found.median(dbt, "sql_seconds")),
        ratio(found.median(peer, "sql_seconds"), found.median(hand, "sql_seconds")),
    )
