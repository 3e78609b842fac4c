"""The servers that the tests run on are what the suite believes them to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.database import Database
from tests.support.servers import RunningServer


def test_both_versions_are_as_named(database: Database, server: RunningServer) -> None:
    version = int(database.value("SHOW server_version_num")) // 10000
    assert version == {"embedded": 18, "debian": 15}[server.name]


def test_databases_do_not_share_anything(new_database: Callable[..., Database]) -> None:
    one, other = new_database(migrated=False), new_database(migrated=False)
    one.execute("CREATE TABLE only_here (a int)")
    assert other.value("SELECT to_regclass('only_here')") is None


@pytest.mark.server("debian")
@pytest.mark.parametrize("extension", ["pgtap", "plpgsql_check", "btree_gist"])
def test_debian_brings_its_extensions(empty_database: Database, extension: str) -> None:
    empty_database.execute(f"CREATE EXTENSION {extension}")
    assert (
        empty_database.value("SELECT count(*) FROM pg_extension WHERE extname = %s", extension) == 1
    )


@pytest.mark.server("debian")
def test_pg_cron_is_at_work(server: RunningServer) -> None:
    postgres = Database(server, "postgres", server.dsn())
    postgres.execute("CREATE EXTENSION IF NOT EXISTS pg_cron")
    assert (
        postgres.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_cron scheduler'"
        )
        == 1
    )


def test_a_server_of_ones_own_can_crash(own_server: Callable[..., RunningServer]) -> None:
    own = own_server(work_mem="7MB")
    postgres = Database(own, "postgres", own.dsn())
    postgres.execute("CREATE TABLE kept (a int)")
    own.stop("immediate")
    own.start()
    assert postgres.value("SHOW work_mem") == "7MB"
    assert postgres.value("SELECT count(*) FROM kept") == 0
