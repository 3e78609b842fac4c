"""A database of one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.support.servers import RunningServer


@dataclass
class Database:
    """A database on one of the real servers.

    Attributes:
        server: the server it is on.
        name: its name.
        dsn: the connection string, as the superuser.
    """

    server: RunningServer
    name: str
    dsn: str
    _connections: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    def connect(self, *, autocommit: bool = True, **settings: Any) -> psycopg.Connection[Any]:
        """Open a connection, which is closed with the test."""
        connection = psycopg.connect(self.dsn, autocommit=autocommit, **settings)
        self._connections.append(connection)
        return connection

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run a query on a connection of its own, and return its rows as dicts."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        """Run a query on a connection of its own, and return the first column of its only row."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(query.encode(), parameters or None).fetchall()
        assert len(found) == 1, f"{len(found)} rows instead of one: {query}"
        return found[0][0]

    def execute(self, query: str, *parameters: Any) -> None:
        """Run a statement (or several, without parameters) on a connection of its own."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(query.encode(), parameters or None)

    def close(self) -> None:
        """Close what `connect` opened; undo prepared transactions, which keep the database."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            prepared = connection.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            ).fetchall()
            for (gid,) in prepared:
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))


@contextmanager
def temporary_database(server: RunningServer, template: str | None) -> Iterator[Database]:
    """Make a database, by copying a template in milliseconds, and drop it afterwards.

    Parameters:
        server: where.
        template: name of the template, or None for an empty database.
    """
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        make = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            # File by file: half the time of a copy by way of the write-ahead log.
            make += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        admin.execute(make)
    database = Database(server, name, server.dsn(name))
    try:
        yield database
    finally:
        database.close()
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
