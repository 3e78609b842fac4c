"""Near real time: `oceanrecords run --every 1s` beside a stream of changes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.measure import BenchmarkError
from benchmarks.results import median, percentile
from benchmarks.server import Server, statement
from benchmarks.world import ROOT
from simulator.queries import statement as simulator_statement

_STEADY_RATE = 100
_STEADY_SECONDS = 60
_STEP_SECONDS = 20
_TICKS_PER_SECOND = 5
_PATIENCE_SECONDS = 30
_BOUND_SECONDS = 5.0


@dataclass
class _Commit:
    """A transaction of the stream: when it was committed, by the server's clock, and its orders."""

    at: float
    last_order: int


@dataclass
class _Played:
    """A stream at one rate.

    Attributes:
        star: lags of its transactions from commit to the star, in seconds.
        figures: the same, to the key figures.
        is_kept: whether the stream itself kept the rate.
        is_followed: whether all transactions arrived in time.
    """

    star: list[float]
    figures: list[float]
    is_kept: bool
    is_followed: bool

    @property
    def is_held(self) -> bool:
        """Whether the warehouse kept up: at the end of the stream the lag is bounded still."""
        last = self.star[-(len(self.star) // 3) :]
        return self.is_kept and self.is_followed and (median(last) or 0.0) <= _BOUND_SECONDS

    @property
    def verdict(self) -> str:
        """Whether the rate was held, and whose fault it was if not."""
        if not self.is_kept:
            return "the stream itself was slower"
        return "yes" if self.is_held else "no"


def stream(bench: Bench) -> None:
    """Measure the lag from commit to star and key figure, then the highest rate that is held."""
    bench.ensure_loaded()
    database = "case_stream"
    with bench.case("stream", "near real time: `run --every 1s` beside a stream") as case:
        bench.server.copy(bench.ours.database, database)
        with _running(bench, database):
            steady = _play(bench, database, _STEADY_RATE, _STEADY_SECONDS)
            if not steady.is_kept:
                raise BenchmarkError(
                    f"The stream itself was slower than {_STEADY_RATE} changes a second: "
                    "the machine is busy. Try again later."
                )
            if not steady.is_held:
                raise BenchmarkError(f"{_STEADY_RATE} changes a second could not be followed.")
            for name, values in (("star", steady.star), ("key figures", steady.figures)):
                case.facts[f"lag to the {name} at {_STEADY_RATE} changes a second"] = {
                    "median_s": median(values),
                    "99th_percentile_s": percentile(values, 0.99),
                    "most_s": max(values),
                }
            steps = []
            rate = 2 * _STEADY_RATE
            while True:
                step = _play(bench, database, rate, _STEP_SECONDS)
                steps.append(
                    {
                        "changes a second": rate,
                        "median lag, s": median(step.star),
                        "99th percentile, s": percentile(step.star, 0.99) if step.star else None,
                        "held": step.verdict,
                    }
                )
                if not step.is_held or rate >= 51_200:
                    break
                rate *= 2
            case.facts["highest rate held, changes a second"] = rate if step.is_held else rate // 2
            case.facts["rates"] = steps
        bench.server.drop(database)


@contextmanager
def _running(bench: Bench, database: str) -> Iterator[None]:
    """Run the warehouse again and again meanwhile."""
    home = bench.server.embedded.home
    with (home / "stream.log").open("wb") as log:
        command = [sys.executable, "-m", "driver", "--dsn", bench.server.dsn(database), "run"]
        process = subprocess.Popen(
            [*command, "--workers", "2", "--every", "1s"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            _await_run(bench.server, database, process)
            yield
            if process.poll() is not None:
                tail = Path(log.name).read_text(encoding="utf-8", errors="replace")[-500:]
                raise BenchmarkError(f"`run --every 1s` ended by itself: {tail}")
        finally:
            process.terminate()
            process.wait()


def _await_run(server: Server, database: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the program has done its first run: its start-up is no lag."""
    with server.connect(database) as connection:
        before = connection.execute(statement("cases/stream_runs")).fetchone()
        while connection.execute(statement("cases/stream_runs")).fetchone() == before:
            if process.poll() is not None:
                raise BenchmarkError("`run --every 1s` ended before its first run.")
            time.sleep(0.05)


def _play(bench: Bench, database: str, rate: int, seconds: float) -> _Played:
    """Make changes at a rate, and see when each transaction arrives."""
    commits: list[_Commit] = []
    over = threading.Event()
    too_slow = threading.Event()
    writer = threading.Thread(
        target=_write,
        args=(bench.server, database, rate, seconds, commits, over, too_slow),
        daemon=True,
    )
    writer.start()
    star: list[float] = []
    figures: list[float] = []
    with bench.server.connect(database) as connection:
        deadline = time.monotonic() + seconds + _PATIENCE_SECONDS
        while len(figures) < len(commits) or not over.is_set():
            if time.monotonic() > deadline:
                break
            row = connection.execute(statement("cases/stream_seen")).fetchone()
            assert row is not None
            now, last_order, complete_until = (float(value) for value in row)
            while len(star) < len(commits) and commits[len(star)].last_order <= last_order:
                star.append(now - commits[len(star)].at)
            while len(figures) < len(commits) and commits[len(figures)].at <= complete_until:
                figures.append(now - commits[len(figures)].at)
            time.sleep(0.02)
    writer.join()
    bench.say(
        f"{rate} a second: median lag {median(star) or 0:.2f} s, "
        f"{len(star)} of {len(commits)} transactions followed"
    )
    return _Played(star, figures, not too_slow.is_set(), len(figures) == len(commits))


def _write(
    server: Server,
    database: str,
    rate: int,
    seconds: float,
    commits: list[_Commit],
    over: threading.Event,
    too_slow: threading.Event,
) -> None:
    """Place orders and move others on, half of each, in steady transactions of some of both."""
    number = max(1, rate // _TICKS_PER_SECOND // 2)
    try:
        with server.connect(database) as connection, psycopg.ClientCursor(connection) as cursor:
            began = time.monotonic()
            ticks = int(seconds * _TICKS_PER_SECOND)
            for tick in range(ticks):
                time.sleep(max(0.0, began + tick / _TICKS_PER_SECOND - time.monotonic()))
                commits.append(_tick(connection, cursor, number, seed=rate * 1000 + tick))
            if time.monotonic() - began > 1.1 * seconds:
                too_slow.set()
    finally:
        over.set()


def _tick(
    connection: psycopg.Connection[Any],
    cursor: psycopg.ClientCursor[Any],
    number: int,
    seed: int,
) -> _Commit:
    with connection.transaction():
        cursor.execute(simulator_statement("seed/functions"), {"seed": seed})
        cursor.execute(simulator_statement("burst/move_orders"), {"number": number})
        cursor.execute(simulator_statement("burst/place_orders"), {"number": number})
        row = cursor.execute(statement("cases/stream_placed")).fetchone()
    assert row is not None
    now = cursor.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    assert now is not None
    return _Commit(float(now[0]), int(row[0]))
