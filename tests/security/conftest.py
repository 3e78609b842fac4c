"""A loaded warehouse with customers in two countries, and a real login for each level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pytest_postgresql.executors import NoopExecutor

from tests.operations.conftest import be_the_same_source
from tests.source.conftest import (  # noqa: F401  (a warehouse with its source elsewhere)
    connected,
    link,
    make_link,
    shop_database,
    source_server,
)
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.play import Play
from tests.warehouse.shop import Shop

DENIED = "42501"
LEVELS = ("analyst", "application", "auditor", "business", "etl", "steward")
Connection = psycopg.Connection[Any]
# What a level may read, column by column; information_schema shows nothing else.
READABLE = """
    SELECT c.table_schema, c.table_name, array_agg(c.column_name::text ORDER BY c.ordinal_position)
    FROM information_schema.columns AS c
    WHERE c.table_schema NOT IN ('pg_catalog', 'information_schema')
        AND has_schema_privilege(c.table_schema, 'USAGE')
    GROUP BY c.table_schema, c.table_name
"""


@dataclass
class People:
    """Logins of one database, by what they are called in the test.

    Attributes:
        database: where they work.
        logins: name of the login, by the name that the test uses.
    """

    database: Database
    logins: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, *levels: str, countries: tuple[str, ...] = ()) -> str:
        """Add a user with levels; return the login, which no other test has."""
        login = f"{name}_{uuid4().hex[:8]}"
        service = any(level in ("application", "etl") for level in levels)
        self.database.execute(
            "CALL etl.add_user(%s, %s, p_is_service => %s)", login, list(levels), service
        )
        if countries:
            self.database.execute("CALL etl.set_user_rows(%s, %s)", login, list(countries))
        self.logins[name] = login
        return login

    def connect(self, name: str) -> Connection:
        """Log in."""
        return self.database.connect(user=self.logins[name])

    def try_as(self, name: str, statement: str) -> str | None:
        """Log in and execute a statement, undone in the end; return the SQLSTATE of its error."""
        with self.connect(name) as connection:
            return attempt(connection, statement)

    def remove(self) -> None:
        """Remove those who are still there."""
        for login in self.logins.values():
            if self.database.value(
                "SELECT EXISTS (SELECT FROM etl.user_account WHERE login = %s)", login
            ):
                self.database.execute("CALL etl.remove_user(%s, true)", login)


def attempt(connection: Connection, statement: str) -> str | None:
    """Execute a statement and undo it; return the SQLSTATE of its error."""
    with connection.transaction(force_rollback=True):
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.Error as error:
            if error.sqlstate is None:  # the server did not refuse it: the connection is lost
                raise
            return error.sqlstate
    return None


def read_all(connection: Connection) -> dict[str, str]:
    """Read every row and column that a login may read, by relation."""
    texts = {}
    for schema, table, columns in connection.execute(READABLE).fetchall():
        query = sql.SQL("SELECT r::text FROM (SELECT {} FROM {}) AS r").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(schema, table)
        )
        texts[f"{schema}.{table}"] = "\n".join(row for (row,) in connection.execute(query))
    return texts


@dataclass(frozen=True)
class Loaded:
    """A database with a shop that sells to Germany and France, loaded.

    Attributes:
        name: of the database, to be copied.
        play: what there is in the shop; its connections are closed.
    """

    name: str
    play: Play


@pytest.fixture(scope="session")
def loaded(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Loaded]:
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, executor.template_dbname) as made:
        made.execute("CALL etl.apply_permissions()")
        play = Play.observed(made.connect)
        play.open()
        shop = play.shop
        marie = shop.customer("Marie", email="marie.curie@example.org", phone="+33 1 2345")
        paris = shop.address(
            marie, city="Paris", street="Rue Cuvier 12", postal_code="75005", country_code="FR"
        )
        shop.order(marie, paris, {play.product: 1, play.other_product: 4})
        play.run()
        made.close()
        yield Loaded(made.name, play)


@pytest.fixture
def template(server: RunningServer, request: pytest.FixtureRequest) -> str:
    """Name of what `database` is a copy of: loaded for the tests that take `play`."""
    if "play" in request.fixturenames:
        loaded: Loaded = request.getfixturevalue("loaded")
        return loaded.name
    executor: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    return executor.template_dbname


# What CREATE DATABASE … TEMPLATE leaves behind: the permissions of the database itself.
OF_THE_TEMPLATE = """
    SELECT format('REVOKE ALL ON DATABASE %%1$I FROM PUBLIC', current_database())
    UNION ALL
    SELECT format('GRANT %%s ON DATABASE %%I TO %%I', g.privilege_type, current_database(), r.rolname)
    FROM pg_database AS d
    CROSS JOIN LATERAL aclexplode(d.datacl) AS g
    JOIN pg_roles AS r ON r.oid = g.grantee
    WHERE d.datname = %s
"""


@pytest.fixture
def database(database: Database, template: str) -> Database:
    """A copy of the template with the permissions of the template."""
    for row in database.rows(OF_THE_TEMPLATE, template):
        database.execute(row["format"])
    return database


@pytest.fixture
def play(database: Database, loaded: Loaded) -> Play:
    """A shop that sells to Germany and France, loaded."""
    be_the_same_source(database)
    shop = Shop(database.connect(), loaded.play.shop.now)
    return replace(
        loaded.play,
        connect=database.connect,
        loader=database.connect(),
        shop=shop,
        orders=list(loaded.play.orders),
    )


@pytest.fixture
def people(database: Database, play: Play) -> Iterator[People]:
    """Nobody yet; `people.add("ana", "analyst")`."""
    made = People(database)
    yield made
    database.close()
    made.remove()
