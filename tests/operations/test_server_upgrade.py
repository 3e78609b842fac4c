"""A warehouse whose server was upgraded by pg_upgrade, from PostgreSQL 15 to 18, goes on and is exact."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import psycopg
import pytest

from base.connection import Target
from driver.migrate import Migrator
from simulator.seed import seed
from tests.operations.test_backup import Answer, load
from tests.support.database import Database
from tests.support.servers import DEBIAN_BINARIES, RunningServer, Servers, why_not_debian

pytestmark = [
    pytest.mark.server("embedded"),
    pytest.mark.slow,
    pytest.mark.skipif(why_not_debian() is not None, reason=why_not_debian() or ""),
]


def upgrade(old: RunningServer, new: RunningServer, folder: Path) -> None:
    """Stop both servers, move all databases of the old one into the new one, and start that."""
    for name in ("postgres", "template1", "warehouse"):
        # Some builds of 15 give columns an option of their own, which pg_upgrade would hand to 18.
        with psycopg.connect(old.dsn(name), autocommit=True) as connection:
            connection.execute("SET allow_system_table_mods = on")
            connection.execute(
                "UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text ~ 'pg_attver'"
            )
    old.stop()
    new.stop()
    old.cluster.run("pg_checksums", ["--enable", f"--pgdata={old.cluster.data}"])
    if new.cluster.user:
        # One account must own both data directories.
        account = pwd.getpwnam(new.cluster.user)
        for path in (folder, old.cluster.data, *old.cluster.data.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    new.cluster.run(
        "pg_upgrade",
        [
            f"--old-bindir={DEBIAN_BINARIES}", f"--new-bindir={new.cluster.binaries}",
            f"--old-datadir={old.cluster.data}", f"--new-datadir={new.cluster.data}",
            f"--username={new.user}", f"--socketdir={folder}",
        ],
        timeout=600,
        folder=folder,
    )  # fmt: skip
    new.start()


def test_a_warehouse_goes_on_after_pg_upgrade(servers: Servers, json_of: Answer) -> None:
    old, new = servers.create("debian"), servers.create("embedded")
    with psycopg.connect(old.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE warehouse")
    Migrator(Target(old.dsn("warehouse"), "tests")).apply()
    database = Database(old, "warehouse", old.dsn("warehouse"))
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        seed(connection, orders=150, months=4, seed=5)
    load(database)
    before = contents(database)
    folder = new.cluster.data.parent / "upgrade"
    folder.mkdir()
    try:
        upgrade(old, new, folder)
        go_on(Database(new, "warehouse", new.dsn("warehouse")), before, json_of)
    finally:
        new.stop("immediate")


def contents(database: Database) -> dict[str, Any]:
    """Checksums of the stars and aggregates."""
    return {
        row["name"]: database.value(
            f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {row['name']} AS t"
        )
        for row in database.rows(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'dwh'"
        )
    }


def go_on(database: Database, before: dict[str, Any], json_of: Answer) -> None:
    assert database.value("SELECT current_setting('server_version_num')::integer / 10000") == 18
    assert contents(database) == before
    status, answer = json_of(database, "migrate")
    assert (status, answer["applied"]) == (0, [])
    for segment in ("business", "consumer"):
        database.execute(
            f"UPDATE oceanrecords.customers SET segment = '{segment}' WHERE customer_id < 9"
        )
        database.execute("DELETE FROM oceanrecords.order_lines WHERE (order_id, line_number) = "
                         "(SELECT order_id, line_number FROM oceanrecords.order_lines ORDER BY 1 LIMIT 1)")  # fmt: skip
        load(database)
        status, answer = json_of(database, "reconcile")
        assert (status, answer["status"]) == (0, "equal"), answer
    assert database.value("SELECT compared_because IS NOT NULL FROM etl.batch WHERE batch_id = 2")
    assert database.value("SELECT compared_because IS NULL FROM etl.batch WHERE batch_id = 3")
