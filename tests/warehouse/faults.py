"""Injecting faults at a chosen point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.waiting import PATIENCE, wait_for
from tests.warehouse.play import Play

FAULTS = Path(__file__).with_name("faults.sql")
FOR_EVER = 2**62
DIE = "die"


def wait_until_blocked(watcher: psycopg.Connection[Any], blocked: psycopg.Connection[Any]) -> None:
    """Wait until a connection waits for a lock."""
    pid = blocked.info.backend_pid

    def is_blocked() -> bool:
        row = watcher.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
            [pid],
        ).fetchone()
        return row is not None and row[0] == 1

    wait_for(is_blocked, f"backend {pid} to wait for a lock")


class Background:
    """A call in a thread of its own; `error` is what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> BaseException | None:
        """Wait for the end; return what was raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"did not end within {PATIENCE:.0f} seconds"
        return self.error


@contextmanager
def background(call: Callable[[], Any]) -> Iterator[Background]:
    """Run a call beside the block; after the block it must end, and must not have raised."""
    work = Background(call)
    yield work
    error = work.join()
    if error is not None:
        raise error


@contextmanager
def held(play: Play, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold a lock on a table against all writers, until the block ends (or the connection is given a COMMIT)."""
    with play.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(
            sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(*table.split(".")))
        )
        yield connection


@dataclass
class Blocked:
    """A run that waits for a lock at a chosen point."""

    runner: psycopg.Connection[Any]
    work: Background

    @property
    def pid(self) -> int:
        return self.runner.info.backend_pid


@contextmanager
def blocked_run(play: Play, table: str, call: str = "CALL etl.run()") -> Iterator[Blocked]:
    """A run that has come to where it writes a table, and waits there until the block ends."""
    runner = play.connect()
    with held(play, table):
        work = Background(lambda: runner.execute(call.encode()))
        wait_until_blocked(play.loader, runner)
        yield Blocked(runner, work)
    work.join()


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Put the means for faults into a database."""
    connection.execute(FAULTS.read_bytes())


def break_table(
    connection: psycopg.Connection[Any], table: str, how: str = "P0001", times: int = FOR_EVER
) -> None:
    """Make writes to a table fail.

    Parameters:
        connection: to the database, which `prepare` has prepared.
        table: `schema.name`.
        how: SQLSTATE to raise, or DIE to end the writing backend.
        times: how many writes fail.
    """
    connection.execute("ALTER SEQUENCE fault.strikes RESTART")
    connection.execute(
        sql.SQL(
            "CREATE OR REPLACE TRIGGER fault BEFORE INSERT OR UPDATE ON {}"
            " FOR EACH STATEMENT EXECUTE FUNCTION fault.strike({}, {})"
        ).format(sql.Identifier(*table.split(".")), sql.Literal(how), sql.Literal(str(times)))
    )


def mend_table(connection: psycopg.Connection[Any], table: str) -> None:
    """Take back what `break_table` did."""
    connection.execute(
        sql.SQL("DROP TRIGGER IF EXISTS fault ON {}").format(sql.Identifier(*table.split(".")))
    )


def mend_all(connection: psycopg.Connection[Any]) -> None:
    """Take back what `break_table` did to any table."""
    broken = connection.execute(
        "SELECT format('%I.%I', c.relnamespace::regnamespace, c.relname) FROM pg_trigger AS t"
        " JOIN pg_class AS c ON c.oid = t.tgrelid WHERE t.tgname = 'fault'"
    ).fetchall()
    for (table,) in broken:
        mend_table(connection, table)
