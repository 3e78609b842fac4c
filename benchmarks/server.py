"""The benchmark's own PostgreSQL server, and the databases on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString, cast

import psutil
import psycopg
from psycopg import sql

from base.server import EmbeddedServer

_FOLDER = Path(__file__).parent / "sql"

# Beside what the embedded server sets by itself: nothing that comes and goes by the clock may
# disturb a measurement. Statistics are brought up to date, and checkpoints made, in between.
# Shared buffers are the quarter of the memory that PostgreSQL's manual begins with. Files of the
# write-ahead log stay: to make new ones, and fill them with zeros, took a quarter of the time of
# inserting three million rows, and whether there are some left depends on what ran before.
SETTINGS = {
    "shared_buffers": f"{psutil.virtual_memory().total // 4 // 2**20}MB",
    "shared_preload_libraries": "pg_stat_statements",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "min_wal_size": "8GB",
    "max_wal_size": "8GB",
    "track_activity_query_size": "4kB",
}

# What the report states of the server.
STATED = (
    "server_version",
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
    "random_page_cost",
    "jit",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "data_checksums",
    "autovacuum",
    "checkpoint_timeout",
    "min_wal_size",
    "max_wal_size",
)


def statement(name: str) -> LiteralString:
    """Return a statement of the folder `sql`, named without its suffix."""
    text: Any = (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    return cast(LiteralString, text)


class Server:
    """An embedded server that no one else uses.

    Parameters:
        home: the folder that holds it.
    """

    def __init__(self, home: Path) -> None:
        self.embedded = EmbeddedServer(home)

    def start(self) -> None:
        """Set the server up if need be, and start it with the benchmark's settings."""
        self.embedded.start()
        self.embedded.cluster.configure("benchmarks.conf", SETTINGS)
        self.embedded.stop()
        self.embedded.start()
        with self.connect("postgres") as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def stop(self) -> None:
        """Stop the server."""
        self.embedded.stop()

    def dsn(self, database: str) -> str:
        """Return the connection string of a database."""
        return self.embedded.conninfo(database)

    @contextmanager
    def connect(
        self, database: str, *, autocommit: bool = True
    ) -> Iterator[psycopg.Connection[Any]]:
        """Open a session, and close it at the end."""
        connection = psycopg.connect(
            self.dsn(database), autocommit=autocommit, application_name="benchmark"
        )
        try:
            yield connection
        finally:
            connection.close()

    def exists(self, database: str) -> bool:
        """Tell whether there is a database of that name."""
        with self.connect("postgres") as connection:
            found = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [database]
            ).fetchone()
        return found is not None

    def databases(self, beginning: str) -> list[str]:
        """Return the databases whose names begin so."""
        with self.connect("postgres") as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [beginning]
            ).fetchall()
        return [name for (name,) in rows]

    def drop(self, database: str) -> None:
        """Drop a database if it is there, whoever uses it."""
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
            )

    def copy(self, template: str, database: str) -> None:
        """Make a database that equals another one, file by file."""
        self.drop(database)
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(database), sql.Identifier(template)
                )
            )

    def rename(self, database: str, name: str) -> None:
        """Give a database another name; it tells that the database is complete."""
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(database), sql.Identifier(name)
                )
            )

    def settle(self, database: str) -> None:
        """Do what autovacuum does in time: statistics, visibility, hint bits."""
        with self.connect(database) as connection:
            connection.execute("VACUUM (ANALYZE)")

    def settings(self) -> dict[str, str]:
        """Return the settings that the report states."""
        with self.connect("postgres") as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)",
                [list(STATED)],
            ).fetchall()
        found = dict(rows)
        return {name: found[name] for name in STATED if name in found}
