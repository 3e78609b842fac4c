"""One database for many tests: put back to its beginning after each, which takes a fraction of making a new one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg

from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer
from tests.warehouse import faults
from tests.warehouse.recomputation import observe

RESET = Path(__file__).with_name("reset.sql")


def prepare_reset(database: Database) -> None:
    """Note in a database, which has not been loaded yet, what it is to be put back to."""
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        observe(connection)
        faults.prepare(connection)
        connection.execute(RESET.read_bytes())
        connection.execute("SELECT pristine.note()")


class Reused:
    """Hands out a database again and again, and a new one after a test has changed its structure."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stack = ExitStack()
        self._database: Database | None = None
        self._structure = ""

    def get(self, template: str) -> Database:
        """Return a migrated database, observed and with nothing loaded."""
        if self._database is None:
            self._database = self._stack.enter_context(temporary_database(self._server, template))
            prepare_reset(self._database)
            self._structure = self._database.value("SELECT pristine.structure()")
        return self._database

    def put_back(self) -> None:
        """End a test: its sessions, its faults, its rows."""
        assert self._database is not None
        self._database.close()
        with psycopg.connect(self._database.dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            faults.mend_all(connection)
            same = connection.execute("SELECT pristine.structure()").fetchone() == (
                self._structure,
            )
            if same:
                connection.execute("SELECT pristine.restore()")
        if not same:
            self.close()

    def close(self) -> None:
        """Drop the database."""
        self._stack.close()
        self._stack = ExitStack()
        self._database = None
