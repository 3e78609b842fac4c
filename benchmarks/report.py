"""Writes the report of a run: tables in Markdown, and a plot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vl_convert

from benchmarks.peers import BY_PSQL, PEERS, OursOneWorker, Peer
from benchmarks.results import FIRST_BATCH, Case, Results, at_a_tenth, ratio
from benchmarks.targets import TARGETS, ratios

_OURS = ("ours", "stars")
_BY_PSQL = tuple(peer.name for peer in BY_PSQL.values())
_DRIVER_BYTES = 100_000_000
_GROWTH = 1.2
_PEERS: tuple[type[Peer], ...] = (*PEERS.values(), *BY_PSQL.values(), OursOneWorker)
_TITLES = {peer.name: peer.title for peer in _PEERS} | {
    at_a_tenth(peer.name): f"{peer.title}, of a tenth" for peer in PEERS.values()
}
_COLOURS = {
    "ours": "#1f6f8b",
    "stars": "#5fb0c9",
    "hand": "#8a8a8a",
    "hand_everything": "#5a5a5a",
    "dbt": "#e07b39",
    "dbt_everything": "#b8561a",
    "one_worker": "#c2d6dc",
}


def write(results: Results, folder: Path) -> None:
    """Write <orders>.md and <orders>.svg into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = str(results.orders)
    timed = [case for case in results.cases.values() if case.peers]
    compared = [case for case in timed if sum(peer in PEERS for peer in case.peers) > 1]
    page = "\n".join(_page(results, timed))
    (folder / f"{name}.md").write_text(page + "\n", encoding="utf-8")
    if compared:
        svg = vl_convert.vegalite_to_svg(_plot(results, compared))
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


def _page(results: Results, timed: list[Case]) -> Iterable[str]:
    yield f"# {results.orders:,} orders"
    yield ""
    sizes = ", ".join(
        f"{number:,} {table.replace('_', ' ')}" for table, number in results.sizes.items()
    )
    yield f"{sizes}. The figures are medians; the peers took turns on one server."
    yield "What each figure means: [performance](../../docs/performance.md)."
    yield ""
    if any(len(case.peers) > 1 for case in timed):
        yield f"![Whole command by case and peer]({results.orders}.svg)"
        yield ""
    reached = [case for case in timed if case.name in TARGETS]
    if reached:
        yield from _ratios(results, reached)
    if "growth" in results.cases:
        yield from _growth(results.orders, results.cases["growth"])
    yield from _memory(timed)
    for case in timed:
        yield from _case(case)
    for case in results.cases.values():
        if not case.peers:
            yield from _facts(case)
    yield "## Machine, versions, settings"
    yield ""
    yield from _table(("", ""), (results.machine | results.versions | results.settings).items())


def _ratios(results: Results, cases: list[Case]) -> Iterable[str]:
    yield "## Ratios"
    yield ""
    yield "Whole command by whole command; time in SQL by dbt's command without its start-up; time"
    yield "in SQL by hand-written SQL that builds the same. In"
    yield "brackets what is to be reached at a million orders; ✓"
    yield "and ✗ tell whether it is."
    yield ""
    rows = []
    for case in cases:
        target = TARGETS[case.name]
        for peer in (*_OURS, *_BY_PSQL):
            if peer in case.peers:
                found = ratios(results, case.name, peer)
                in_sql = case.median(peer, "sql_seconds")
                rows.append(
                    (
                        case.title,
                        _TITLES[peer],
                        _verdict(found.dbt_whole, target.dbt_whole),
                        _verdict(found.dbt_work, target.dbt_work),
                        _verdict(found.hand, target.hand),
                        _verdict(in_sql, target.sql_seconds, " s"),
                    )
                )
    yield from _table(
        ("case", "peer", "dbt, whole command", "dbt without start-up", "by hand", "in SQL"), rows
    )


def _growth(orders: int, case: Case) -> Iterable[str]:
    """Compare the same changes at the full size with those at a tenth of it."""
    yield "## The same 1,000 changed orders at a tenth of the size"
    yield ""
    first = case.facts.get(FIRST_BATCH, {})
    rows = []
    for peer in (one for one in PEERS if one in case.peers):
        least = case.median(at_a_tenth(peer), "sql_seconds")
        for size, name in ((orders // 10, at_a_tenth(peer)), (orders, peer)):
            times = ratio(case.median(name, "sql_seconds"), least)
            bound = _GROWTH if name in _OURS else None
            rows.append(
                (
                    f"{size:,}",
                    _TITLES[peer],
                    _seconds(case.median(name, "wall_seconds")),
                    _seconds(first.get(name)),
                    _seconds(case.median(name, "sql_seconds")),
                    _bytes(case.median(name, "wal_bytes")),
                    _count(case.median(name, "pages_touched")),
                    _count(case.median(name, "pages_read")),
                    _verdict(times, bound),
                )
            )
    yield from _table(
        (
            "orders",
            "peer",
            "whole command",
            "in SQL, the very first",
            "in SQL",
            "WAL",
            "pages looked at",
            "of them not in shared buffers",
            "times the tenth",
        ),
        rows,
    )


def _memory(cases: list[Case]) -> Iterable[str]:
    """Tell the most memory that the program held in any case."""
    most = [
        one.client_bytes
        for case in cases
        for peer, measurements in case.peers.items()
        if peer in (*_OURS, OursOneWorker.name)
        for one in measurements
        if one.client_bytes is not None
    ]
    if most:
        told = "✓" if max(most) <= _DRIVER_BYTES else "✗"
        yield "## Memory of the program"
        yield ""
        yield f"At most {_bytes(max(most))} in any case {told} (≤ {_bytes(_DRIVER_BYTES)})."
        yield ""


def _verdict(value: float | None, bound: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    told = f"{value:.3f}{unit}" if value < 0.1 else f"{value:.2f}{unit}"
    if bound is None:
        return told
    return f"{told} {'✓' if value <= bound else '✗'} (≤ {bound:g}{unit})"


def _case(case: Case) -> Iterable[str]:
    yield f"## {case.title[:1].upper()}{case.title[1:]}"
    yield ""
    rows = []
    for peer in case.peers:
        spread = case.spread(peer, "wall_seconds")
        rows.append(
            (
                _TITLES.get(peer, peer),
                _seconds(case.median(peer, "wall_seconds")),
                f"{_seconds(spread[0])} to {_seconds(spread[1])}" if spread else "-",
                _seconds(case.median(peer, "sql_seconds")),
                _seconds(case.median(peer, "statement_seconds")),
                _bytes(case.median(peer, "wal_bytes")),
                _bytes(case.median(peer, "client_bytes")),
                _bytes(case.median(peer, "backend_bytes")),
            )
        )
    yield from _table(
        (
            "peer",
            "whole command",
            "least to most",
            "in SQL",
            "statements, summed up",
            "WAL",
            "client's memory",
            "a backend's memory",
        ),
        rows,
    )
    number = max(len(measurements) for measurements in case.peers.values())
    yield "Measured once." if number == 1 else f"Medians of {number}."
    yield ""
    yield from _told_facts(case)
    if case.rows:
        yield "Found equal: " + ", ".join(f"{table} {n:,}" for table, n in case.rows.items()) + "."
        yield ""


def _facts(case: Case) -> Iterable[str]:
    yield f"## {case.title[:1].upper()}{case.title[1:]}"
    yield ""
    yield from _told_facts(case)


def _told_facts(case: Case) -> Iterable[str]:
    single = {name: value for name, value in case.facts.items() if not isinstance(value, list)}
    for name, value in single.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key.replace('_', ' ')} {_told(one)}" for key, one in value.items())
        yield f"- {name.replace('_', ' ')}: {_told(value)}"
    if single:
        yield ""
    for name, value in case.facts.items():
        if isinstance(value, list) and value:
            yield f"{name.replace('_', ' ')}:"
            yield ""
            yield from _table(
                [key.replace("_", " ") for key in value[0]],
                [[_told(cell) for cell in row.values()] for row in value],
            )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterable[str]:
    head = list(head)
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _told(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.1f} s"
        if value >= 10
        else f"{value:.2f} s"
        if value >= 1
        else f"{1000 * value:.0f} ms"
    )


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value / 1e9:.2f} GB"
        if value >= 1e9
        else f"{value / 1e6:.1f} MB"
        if value >= 1e5
        else f"{value / 1e3:.0f} kB"
    )


def _plot(results: Results, cases: list[Case]) -> dict[str, Any]:
    """Return the plot as a Vega-Lite description: whole command and, darker, its time in SQL."""
    order = [peer for peer in PEERS if any(peer in case.peers for case in cases)]
    values = [
        {
            "case": case.title,
            "peer": _TITLES[peer],
            "whole": case.median(peer, "wall_seconds"),
            "sql": case.median(peer, "sql_seconds"),
        }
        for case in cases
        for peer in order
        if peer in case.peers
    ]
    longest = max(case.median(peer, "wall_seconds") or 0 for case in cases for peer in case.peers)
    least, most = 0.01, 1.5 * longest
    scale = {"type": "log", "domain": [least, most], "nice": False}
    peers = [_TITLES[peer] for peer in order]
    y = {"field": "peer", "type": "nominal", "sort": peers, "title": None}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"{results.orders:,} orders: whole command (bar) and time in SQL (tick), seconds",
        "background": "white",
        # A browser's letters may be wider than those that the layout was made with.
        "padding": {"left": 30, "right": 30, "top": 5, "bottom": 5},
        "data": {"values": values},
        "facet": {
            "row": {
                "field": "case",
                "sort": [case.title for case in cases],
                "title": None,
                "header": {"labelOrient": "top", "labelAnchor": "start", "labelFontWeight": "bold"},
            }
        },
        "spec": {
            "width": 520,
            "height": 20 * len(order),
            "layer": [
                {
                    "mark": "bar",
                    "encoding": {
                        "y": y,
                        "x": {
                            "field": "whole",
                            "type": "quantitative",
                            "scale": scale,
                            "title": "seconds, logarithmic",
                            "stack": None,
                        },
                        "x2": {"datum": least},
                        "color": {
                            "field": "peer",
                            "scale": {"domain": peers, "range": [_COLOURS[peer] for peer in order]},
                            "legend": None,
                        },
                    },
                },
                {
                    "mark": {"type": "tick", "color": "black", "thickness": 2},
                    "encoding": {
                        "y": y,
                        "x": {"field": "sql", "type": "quantitative", "scale": scale},
                    },
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 10},
                    "encoding": {
                        "y": y,
                        "x": {"field": "whole", "type": "quantitative", "scale": scale},
                        "text": {"field": "whole", "type": "quantitative", "format": ".2~f"},
                    },
                },
            ],
        },
    }
