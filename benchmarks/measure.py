"""What is measured of a piece of work: time, WAL, memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.server import Server

_SAMPLE_SECONDS = 0.05


class BenchmarkError(Exception):
    """Something that makes the figures worthless; its message says what."""


@dataclass
class Measurement:
    """Figures of one piece of work.

    Attributes:
        wall_seconds: the whole command, from its start to its end.
        sql_seconds: time in the database: by the peer's own record, or the command without its
            start-up.
        statement_seconds: execution time of all top-level statements, by pg_stat_statements; more
            than the wall time where sessions work side by side.
        wal_bytes: write-ahead log written by the whole server meanwhile.
        pages_touched: pages of the database that its backends looked at, each time counted.
        pages_read: those that were not in shared_buffers: from the kernel's cache, or the disk.
        client_bytes: peak memory of the client's process; None where it has none of its own.
        backend_bytes: peak of the private memory of one backend, sampled; None where it ended
            between two samples.
        extra: what else the case wants to keep.
    """

    wall_seconds: float
    sql_seconds: float | None = None
    statement_seconds: float | None = None
    wal_bytes: int | None = None
    client_bytes: int | None = None
    backend_bytes: int | None = None
    pages_touched: int | None = None
    pages_read: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class _BackendMemory(threading.Thread):
    """Samples the private memory of a server's backends in one database."""

    def __init__(self, server: Server, database: str) -> None:
        super().__init__(daemon=True)
        self.peak: int | None = None
        self._mark = f" {database} "
        self._postmaster = server.embedded.cluster.postmaster()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            for pid in _children(self._postmaster.pid) if self._postmaster else []:
                private = self._private_bytes(pid)
                if private is not None:
                    self.peak = max(self.peak or 0, private)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _private_bytes(self, pid: int) -> int | None:
        try:
            title = (Path("/proc") / str(pid) / "cmdline").read_text(errors="replace")
        except OSError:
            return None
        if self._mark not in f" {title} " and "parallel worker" not in title:
            return None
        return _memory(pid, "RssAnon")


class _ProcessMemory(threading.Thread):
    """Watches the high-water mark of a process.

    The kernel's account of an ended child would be easier to ask, but it begins with the size of
    the parent that forked it.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak: int | None = None
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS / 2):
            self.peak = _memory(self._pid, "VmHWM") or self.peak

    def stop(self) -> None:
        self._over.set()
        self.join()


def _children(pid: int) -> list[int]:
    """Return the children of a process.

    The kernel keeps a list. To go through all processes for them, many times a second, took a
    twentieth of both cores from those who were measured.
    """
    listed = Path("/proc") / str(pid) / "task" / str(pid) / "children"
    try:
        return [int(child) for child in listed.read_text(encoding="ascii").split()]
    except OSError:
        return [child.pid for child in psutil.Process(pid).children()]


def _memory(pid: int, measure: str) -> int | None:
    """Return a figure of /proc/<pid>/status in bytes; None where there is none (any more)."""
    try:
        text = (Path("/proc") / str(pid) / "status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{measure}:"):
            return int(line.split()[1]) * 1024
    return None


@contextmanager
def measured(server: Server, database: str) -> Iterator[Measurement]:
    """Measure the block; what it knows better it writes into the measurement itself."""
    result = Measurement(wall_seconds=0.0)
    with server.connect("postgres") as connection:
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_stat_statements_reset()")
        before = _wal(connection)
        touched, read = _pages(connection, database)
        memory = _BackendMemory(server, database)
        memory.start()
        started = time.perf_counter()
        try:
            yield result
        finally:
            elapsed = time.perf_counter() - started
            memory.stop()
        result.wall_seconds = result.wall_seconds or elapsed
        result.wal_bytes = _wal(connection) - before
        result.backend_bytes = memory.peak
        after = _pages(connection, database)
        result.pages_touched, result.pages_read = after[0] - touched, after[1] - read
        row = connection.execute(
            "SELECT sum(s.total_exec_time) / 1000 FROM pg_stat_statements AS s "
            "JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = %s AND s.toplevel",
            [database],
        ).fetchone()
        result.statement_seconds = float(row[0]) if row and row[0] is not None else None


def _pages(connection: Any, database: str) -> tuple[int, int]:
    """Return how many pages of a database were looked at, and read, by backends that have ended."""
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state IS NOT NULL"
    while connection.execute(at_work, [database]).fetchone() != (0,):
        time.sleep(_SAMPLE_SECONDS / 10)
    row = connection.execute(
        "SELECT blks_hit + blks_read, blks_read FROM pg_stat_database WHERE datname = %s",
        [database],
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _wal(connection: Any) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(row[0])


@dataclass(frozen=True)
class Finished:
    """A program that came to its end.

    Attributes:
        output: what it wrote on standard output.
        seconds: from its start to its end.
        peak_bytes: the most memory that its process held; None if it was over at once.
    """

    output: str
    seconds: float
    peak_bytes: int | None


# Both programs keep what Python compiles, as they do for anybody who runs them twice.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def run_program(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    accept: Callable[[int], bool] = lambda status: status == 0,
) -> Finished:
    """Run a program to its end.

    Raises:
        BenchmarkError: if its exit status is not accepted, with the end of what it wrote.
    """
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_ENVIRONMENT | dict(environment or {}),
            cwd=folder,
        ) as process,
    ):
        assert process.stdout is not None
        memory = _ProcessMemory(process.pid)
        memory.start()
        output = process.stdout.read().decode(errors="replace")
        process.wait()
        seconds = time.perf_counter() - started
        memory.stop()
        complaints.seek(0)
        told = complaints.read().decode(errors="replace")
    if not accept(process.returncode):
        tail = "\n".join((output + told).splitlines()[-25:])
        raise BenchmarkError(
            f"{' '.join(arguments[:6])} ended with status {process.returncode}:\n{tail}"
        )
    return Finished(output, seconds, memory.peak)
