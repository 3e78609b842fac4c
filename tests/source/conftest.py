"""Two real servers: the warehouse on one, the operational system on the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from tests.conftest import Finished, migrate_database
from tests.source.proxy import Proxy
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer, Servers
from tests.warehouse.play import Play
from tests.warehouse.shop import Shop

READER = "warehouse_reader"
PASSWORD = 's3cret\'of\\the "sea"'
TEMPLATE = "shop_template"


def make_template(server: RunningServer) -> None:
    """Make a migrated database on a server, to be copied."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate_database(**psycopg.conninfo.conninfo_to_dict(server.dsn(TEMPLATE)))


def make_source(server: RunningServer) -> RunningServer:
    """Prepare a server for operational systems: a migrated template, and the role that the warehouse reads with."""
    make_template(server)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(READER), sql.Literal(PASSWORD)
            )
        )
    with psycopg.connect(server.dsn(TEMPLATE), autocommit=True) as connection:
        grants = connection.execute("SELECT * FROM etl.source_grants(%s)", [READER]).fetchall()
        for (statement,) in grants:
            connection.execute(statement)
    return server


@pytest.fixture(scope="session")
def source_server(server: RunningServer, servers: Servers) -> RunningServer:
    """A second server of the kind in use, for operational systems."""
    return make_source(servers.create(server.name))


@pytest.fixture
def shop_database(source_server: RunningServer) -> Iterator[Database]:
    """A fresh operational system on the second server."""
    with temporary_database(source_server, TEMPLATE) as made:
        yield made


@dataclass
class Link:
    """The warehouse, the operational system, and the way between them.

    Attributes:
        warehouse: database of the warehouse.
        source: database of the operational system.
        proxy: the network between them.
        play: acts on the operational system, runs the warehouse.
    """

    warehouse: Database
    source: Database
    proxy: Proxy
    play: Play = field(init=False)

    def __post_init__(self) -> None:
        self.play = Play(
            self.warehouse.connect, self.warehouse.connect(), Shop(self.source.connect())
        )

    def connect(
        self,
        connection: psycopg.Connection[Any] | None = None,
        password: str | None = PASSWORD,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Connect the source through the SQL routine; return its row."""
        arguments = {
            "p_host": "127.0.0.1",
            "p_port": self.proxy.port,
            "p_dbname": self.source.name,
            "p_user": READER,
            "p_sslmode": "disable",
        } | parameters
        connection = connection or self.play.loader
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            if password is not None:
                cursor.execute(
                    "CREATE TEMPORARY TABLE source_password (password text) ON COMMIT DROP"
                )
                with cursor.copy("COPY source_password FROM STDIN") as copy:
                    copy.write_row([password])
            named = sql.SQL(", ").join(
                sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
                for name in arguments
            )
            cursor.execute(sql.SQL("SELECT * FROM etl.connect_source({})").format(named), arguments)
            row = cursor.fetchone()
        assert row is not None
        return row

    def arguments(self, **changed: str | int) -> list[str]:
        """Return the options of `source connect`."""
        options = {
            "host": "127.0.0.1",
            "port": self.proxy.port,
            "dbname": self.source.name,
            "user": READER,
        } | changed
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def assert_mirrored(self) -> None:
        """The mirrors hold what the operational tables hold, row by row."""
        for table in self.tables():
            columns = _columns(self.warehouse, "stage", table)
            here = _rows(self.warehouse, "stage", table, columns, "WHERE deleted_at IS NULL")
            there = _rows(self.source, "oceanrecords", table, columns)
            assert here == there, f"{table}: {len(here)} rows mirrored, {len(there)} at the source"

    def tables(self) -> list[str]:
        return [row["source_table"] for row in self.warehouse.rows(
            "SELECT source_table FROM etl.source_table ORDER BY source_table"
        )]  # fmt: skip

    def customers(self, number: int) -> None:
        """Make customers in the operational system, all in one transaction."""
        self.source.execute(
            "INSERT INTO oceanrecords.customers (first_name, last_name, email)"
            " SELECT 'Customer', repeat('x', 100), format('%%s@example.org', n + (SELECT count(*) FROM oceanrecords.customers))"
            " FROM generate_series(1, %s) AS n",
            number,
        )


def _columns(database: Database, schema: str, table: str) -> list[str]:
    return [
        row["attname"]
        for row in database.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass"
            " AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('batch_id', 'deleted_at')",
            schema,
            table,
        )
    ]


def _rows(
    database: Database, schema: str, table: str, columns: list[str], condition: str = ""
) -> list[tuple[Any, ...]]:
    query = sql.SQL("SELECT {} FROM {} {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier(schema, table),
        sql.SQL(condition),
    )
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        return sorted(connection.execute(query).fetchall(), key=repr)


@pytest.fixture
def make_link() -> Iterator[Callable[[Database, Database], Link]]:
    """Makes a way between a warehouse and an operational system."""
    with contextlib.ExitStack() as stack:

        def make(warehouse: Database, source: Database) -> Link:
            proxy = Proxy(source.server.port)
            stack.callback(proxy.close)
            warehouse.execute(
                "UPDATE etl.setting SET value = '10 milliseconds' WHERE name = 'source_retry_pause'"
            )
            return Link(warehouse, source, proxy)

        yield make


@pytest.fixture
def link(
    database: Database, shop_database: Database, make_link: Callable[[Database, Database], Link]
) -> Link:
    """A warehouse and an operational system on two servers, not yet connected."""
    return make_link(database, shop_database)


@pytest.fixture
def connected(link: Link) -> Link:
    """The same, connected."""
    link.connect()
    return link


@pytest.fixture
def source_cli(oceanrecords: Callable[..., Finished], link: Link) -> Callable[..., Finished]:
    """Runs `oceanrecords source …` on the warehouse, with the password in the environment."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> Finished:
        settings = {
            "OCEANRECORDS_DSN": link.warehouse.dsn,
            "OCEANRECORDS_SOURCE_PASSWORD": PASSWORD,
        }
        return oceanrecords("source", *arguments, env=settings | (env or {}))

    return run
