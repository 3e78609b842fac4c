"""Reading: look-ups as of a moment, the dashboard's questions, the reconciliation."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import psycopg

import metabase
from benchmarks.bench import Bench
from benchmarks.measure import BenchmarkError, Measurement, measured
from benchmarks.results import median
from benchmarks.server import statement
from benchmarks.world import UNTIL, oceanrecords

_VERSIONS = (1, 4, 50)
_LOOK_UPS = {
    "range": "all events, by range, as the engine joins",
    "lateral": "all events, by the latest version before",
    "range_few": "1,000 events, by range, as the engine joins",
    "lateral_few": "1,000 events, by the latest version before",
    "contains_few": "1,000 events, by a range type and GiST",
}


def lookup(bench: Bench) -> None:
    """Look surrogate keys up as of an event, with more and more versions a member.

    The table is shaped and indexed like a dimension; the statements are those of the engine and
    the ways that it might have taken.
    """
    database = "case_lookup"
    with bench.case("lookup", "as-of look-up of 200,000 events among 5,000 members") as case:
        bench.server.copy("template0", database)
        rows = []
        with bench.server.connect(database) as connection:
            connection.execute(statement("cases/lookup_tables"))
            for versions in _VERSIONS:
                with psycopg.ClientCursor(connection) as cursor:
                    cursor.execute(statement("cases/lookup_fill"), {"versions": versions})
                connection.execute("VACUUM (ANALYZE)")
                row: dict[str, Any] = {"versions a member": versions}
                answers = {}
                for name, title in _LOOK_UPS.items():
                    text = statement(f"cases/lookup_{name}")
                    connection.execute(text)
                    taken = []
                    for _ in range(bench.repeat):
                        started = time.perf_counter()
                        answers[name] = connection.execute(text).fetchone()
                        taken.append(time.perf_counter() - started)
                    row[f"{title}, ms"] = 1000 * (median(taken) or 0.0)
                _agree({name: one for name, one in answers.items() if name.endswith("few")})
                _agree({name: one for name, one in answers.items() if not name.endswith("few")})
                rows.append(row)
        case.facts["look-ups"] = rows
        bench.server.drop(database)


def _agree(answers: dict[str, Any]) -> None:
    """Refuse ways of looking up that come to different answers."""
    if len(set(answers.values())) != 1:
        raise BenchmarkError(f"The ways of looking up disagree: {answers}.")


def dashboard(bench: Bench) -> None:
    """Answer each question of the dashboard, without filters."""
    bench.ensure_loaded()
    folder = Path(metabase.__file__).parent / "questions"
    with bench.case("dashboard", "the dashboard's questions") as case:
        rows = []
        with bench.server.connect(bench.ours.database) as connection:
            connection.execute(
                "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [UNTIL]
            )
            for file in sorted(folder.glob("*.sql")):
                # What stands in [[ ]] applies only when a filter is set.
                question: Any = re.sub(r"\[\[.*?\]\]", "", file.read_text(encoding="utf-8"))
                taken = []
                answer: list[Any] = []
                for _ in range(bench.repeat + 1):
                    started = time.perf_counter()
                    answer = connection.execute(question).fetchall()
                    taken.append(time.perf_counter() - started)
                rows.append(
                    {
                        "question": file.stem.replace("_", " "),
                        "rows": len(answer),
                        "first, ms": 1000 * taken[0],
                        "median, ms": 1000 * (median(taken[1:]) or 0.0),
                    }
                )
            connection.execute("UPDATE etl.setting SET value = '' WHERE name = 'business_date'")
        case.facts["questions"] = rows


def reconcile(bench: Bench) -> None:
    """Compare source, mirror and stars by `oceanrecords reconcile`."""
    bench.ensure_loaded()
    with bench.case("reconcile", "reconcile source, mirror and stars") as case:
        for _ in range(bench.repeat):
            bench.measure(case, bench.ours, lambda: _reconcile(bench))


def _reconcile(bench: Bench) -> Measurement:
    with measured(bench.server, bench.ours.database) as result:
        finished = oceanrecords(bench.server.dsn(bench.ours.database), "reconcile", "--json")
        result.wall_seconds = finished.seconds
    result.client_bytes = finished.peak_bytes
    result.sql_seconds = result.statement_seconds
    return result
