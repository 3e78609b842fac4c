"""Names and values that would be statements if they were not quoted, in everything `source connect` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Finished
from tests.source.conftest import PASSWORD, TEMPLATE, Link
from tests.source.test_connection import contract
from tests.support.database import Database
from tests.support.servers import RunningServer

Run = Callable[..., Finished]

EVIL = 'x"; drop table y; --'
VALUES = (EVIL, "x'; drop table y; --", "x'); drop table y; --", "x\\'; drop table y; --")


def has_table(database: Database) -> bool:
    return bool(database.value("SELECT to_regclass('public.y') IS NOT NULL"))


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("host", "ET021"),
        ("dbname", "ET023"),
        ("user", "ET022"),
        ("schema", "ET024"),
        ("sslmode", "ET002"),
    ],
)
def test_a_hostile_option_is_one_that_does_not_exist(
    link: Link, source_cli: Run, option: str, code: str
) -> None:
    for database in (link.warehouse, link.source):
        database.execute("CREATE TABLE public.y (a integer)")
    before = contract(link)
    for value in VALUES:
        finished = source_cli("connect", *link.arguments(**{option: value}))
        assert finished.returncode == 1
        assert code in finished.stderr, finished.stderr
        assert "hint" in finished.stderr
        assert "Traceback" not in finished.stderr
        assert PASSWORD not in finished.stderr
        assert has_table(link.warehouse)
        assert has_table(link.source)
    assert contract(link) == before
    assert link.warehouse.value("SELECT count(*) FROM pg_foreign_server") == 0


def test_hostile_further_options(link: Link, source_cli: Run) -> None:
    link.warehouse.execute("CREATE TABLE public.y (a integer)")
    before = contract(link)
    for value in VALUES:
        unknown = source_cli("connect", *link.arguments(), "--option", f"{value}=1")
        assert unknown.returncode == 1
        assert "invalid option" in unknown.stderr, unknown.stderr
        assert "Traceback" not in unknown.stderr
    assert contract(link) == before
    for value in VALUES:
        named = source_cli("connect", *link.arguments(), "--option", f"application_name={value}")
        assert named.returncode == 0, named.stderr
        assert link.warehouse.value(
            "SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions)"
            " WHERE option_name = 'application_name'"
        ) == value  # fmt: skip
    assert has_table(link.warehouse)


def test_a_database_s_name_is_no_connection_string(link: Link, source_cli: Run) -> None:
    """libpq would take host and user from it, if it were asked to expand it."""
    name = f"dbname={link.source.name} user=postgres"
    finished = source_cli("connect", *link.arguments(dbname=name))
    assert finished.returncode == 1
    assert "ET023" in finished.stderr, finished.stderr


@pytest.fixture
def evil_source(source_server: RunningServer) -> Iterator[Database]:
    """An operational system whose database, schema and reading role bear a hostile name."""
    name = sql.Identifier(EVIL)
    with psycopg.connect(source_server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            name, sql.Identifier(TEMPLATE)
        ))  # fmt: skip
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
            name, sql.Literal(PASSWORD)
        ))  # fmt: skip
        source = Database(source_server, EVIL, source_server.dsn(EVIL))
        try:
            yield source
        finally:
            source.close()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            admin.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_source_that_really_has_such_names_is_read(
    database: Database, evil_source: Database, make_link: Callable[[Database, Database], Link],
    oceanrecords: Run,
) -> None:  # fmt: skip
    link = make_link(database, evil_source)
    for one in (database, evil_source):
        one.execute("CREATE TABLE public.y (a integer)")
    link.play.open()
    evil_source.execute(
        f'ALTER SCHEMA oceanrecords RENAME TO "{EVIL.replace(chr(34), chr(34) * 2)}"'
    )
    with evil_source.connect() as owner:
        # The statements that `source grants` prints, executed on the source server.
        for row in database.rows("SELECT * FROM etl.source_grants(%s, %s)", EVIL, EVIL):
            owner.execute(row["source_grants"].encode())
    connected = oceanrecords(
        "source", "connect", *link.arguments(user=EVIL, schema=EVIL),
        env={"OCEANRECORDS_DSN": database.dsn, "OCEANRECORDS_SOURCE_PASSWORD": PASSWORD},
    )  # fmt: skip
    assert connected.returncode == 0, connected.stderr
    link.play.run()
    assert link.play.value("SELECT count(*) FROM dwh.fact_order") == 1
    assert database.value("SELECT user_name FROM etl.source_connection") == EVIL
    assert has_table(database)
    assert has_table(evil_source)
