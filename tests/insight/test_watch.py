"""`oceanrecords status --watch` on a real terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from base.output import HouseConsole
from driver.commands import status
from driver.warehouse import Run, Task
from simulator.seed import seed
from tests.conftest import Finished
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

PROGRAM = str(Path(sys.executable).with_name("oceanrecords"))
PATIENCE = 60.0


class Terminal:
    """The program on a terminal of a size, and all that it has written there."""

    def __init__(self, database: Database, width: int, height: int) -> None:
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = {
            key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [PROGRAM, "--dsn", database.dsn, "status", "--watch"],
            stdin=side,
            stdout=side,
            stderr=side,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(side)
        self.written = ""

    def read_until(self, words: str, since: int = 0) -> str:
        """Read until words appear behind a place in what was written; return that."""
        deadline = time.monotonic() + PATIENCE
        while words not in plain(self.written[since:]):
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {words!r}: {plain(self.written[since:])[-2000:]}"
            self._read(left)
        return plain(self.written[since:])

    def _read(self, seconds: float) -> bool:
        if not select.select([self._main], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._main, 65536)
        except OSError:  # its other end is closed
            return False
        self.written += piece.decode(errors="replace")
        return bool(piece)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal, read the rest, and return the exit status."""
        self.process.send_signal(number)
        while self._read(PATIENCE):
            pass
        os.close(self._main)
        return self.process.wait(PATIENCE)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@contextmanager
def terminal(database: Database, width: int = 100, height: int = 40) -> Iterator[Terminal]:
    opened = Terminal(database, width, height)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaves_the_terminal_as_it_was(database: Database, number: int) -> None:
    with terminal(database) as shown:
        shown.read_until("Ctrl-C ends")
        assert "\x1b[?1049h" in shown.written
        assert shown.end(number) == 0
    assert shown.written.rindex("\x1b[?1049l") > shown.written.rindex("\x1b[?1049h")
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")
    assert "Traceback" not in shown.written


def test_shows_runs_that_come_while_it_watches(database: Database) -> None:
    """It starts before any run was made; the first appears by itself, then the next."""
    connection = database.connect()
    seed(connection, orders=60, months=2, seed=1)
    with terminal(database) as shown:
        shown.read_until("Nothing has been loaded yet.")
        for number in (1, 2):
            place = len(shown.written)
            connection.execute("CALL etl.run()")
            shown.read_until(f"run {number} succeeded", place)
        assert shown.end() == 0


def test_tells_what_waits(database: Database) -> None:
    connection = database.connect()
    seed(connection, orders=60, months=2, seed=1)
    connection.execute("CALL etl.run()")
    connection.execute(
        "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id)"
        """ VALUES ('dim_product', '{"product_id": 1}', '23514', 'too cheap', 1)"""
    )
    with terminal(database, width=140) as shown:
        text = shown.read_until("Ctrl-C ends")
        assert shown.end() == 0
    for word in ("freshness", "quarantine", "dim_product", "fact_order_line"):
        assert word in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 50), (60, 12)])
def test_fits_the_terminal(database: Database, width: int, height: int) -> None:
    database.execute("CALL etl.run()")
    with terminal(database, width, height) as shown:
        shown.read_until("Ctrl-C ends")
        assert shown.end() == 0
    screen = shown.written.split("\x1b[?1049h", 1)[1].split("\x1b[?1049l")[0]
    frame = plain(screen).split("Ctrl-C ends")[0].replace("\r", "").split("\n")
    assert len(frame) <= height
    assert max(map(len, frame)) <= width


def test_needs_a_terminal(cli: Callable[..., Finished]) -> None:
    finished = cli("status", "--watch")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "--watch needs a terminal" in finished.stderr
    finished = cli("status", "--watch", "--json")
    assert (finished.returncode, finished.stderr) == (2, "")
    assert "--watch needs a terminal" in json.loads(finished.stdout)["error"]["message"]


# -- the screen -------------------------------------------------------------------------------------


def task(kind: str, number: int, status: str, **more: Any) -> Task:
    values: dict[str, Any] = dict.fromkeys((field.name for field in fields(Task)), 0)
    values |= dict.fromkeys(("sqlstate", "message", "detail", "hint", "context", "waits_for"))
    values |= {"started_at": None, "ended_at": None, "seconds": 1.0, "kind": kind, "status": status}
    return Task(**(values | {"object": f"{kind}_{number}", "task": f"{kind}:{number}"} | more))


def drawn(tasks: list[Task], height: int, width: int = 80) -> list[str]:
    values: dict[str, Any] = dict.fromkeys((field.name for field in fields(Run)), 0)
    failed = sum(one.status == "failed" for one in tasks)
    values |= {"run_id": 7, "status": "running", "origin": "cli", "seconds": 1.0, "failed": failed}
    answer = {"runs": [Run(**values)], "tasks": tasks, "failing": [], "health": []}
    written = io.StringIO()
    console = HouseConsole(file=written, width=width, height=height, force_terminal=True)
    console.print(status._Screen(answer), end="")
    return plain(written.getvalue()).split("\n")


def test_what_failed_and_what_runs_comes_first() -> None:
    tasks = [task("stage", number, "succeeded", rows_inserted=1) for number in range(12)]
    tasks += [task("fact", number, "failed", message="it broke") for number in range(3)]
    tasks += [task("aggregate", number, "running") for number in range(4)]
    tasks += [task("check", 0, "pending")]
    for height in range(12, 45):
        lines = drawn(tasks, height)
        assert len(lines) <= height
        assert "15 of 20 tasks   3 failed" in lines[0]
        for number in range(3):
            assert any(f"fact_{number}: failed: it broke" in line for line in lines), height
        for number in range(4):
            assert any(f"aggregate_{number}" in line for line in lines), height
        assert any(line.strip().startswith("…") and "more line" in line for line in lines) == (
            not any("check_0" in line for line in lines)
        ), height
    # Even where failures do not fit, their number does, and there is a way to see all.
    lines = drawn(tasks, 5)
    assert "3 failed" in lines[0]
    assert "more lines: oceanrecords status" in lines[-2]


def test_a_long_reason_takes_one_line() -> None:
    lines = drawn([task("fact", 0, "failed", message="it broke " * 50)], 20)
    assert sum("it broke" in line for line in lines) == 1
