"""The source is no longer what it was: restored elsewhere, crashed, promoted, written by replicas. No row is missed or dropped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Finished
from tests.source.conftest import TEMPLATE, Link, make_source
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.play import Play

READ = "SELECT coalesce(sum(rows_read), 0) FROM etl.task_run WHERE kind = 'extract' AND run_id = (SELECT max(run_id) FROM etl.run)"
BECAUSE = "SELECT compared_because FROM etl.batch ORDER BY batch_id DESC LIMIT 1"
LINE = "order_id = %s AND line_number = 1"


@pytest.fixture
def play(database: Database) -> Play:
    return Play.on(database.connect)


def again(play: Play, order: int) -> None:
    """Delete a line and enter it again: its tombstone stays."""
    row = play.rows(
        f"SELECT product_id, unit_price, quantity FROM oceanrecords.order_lines WHERE {LINE}", order
    )[0]
    play.loader.execute(f"DELETE FROM oceanrecords.order_lines WHERE {LINE}", [order])
    play.loader.execute(
        "INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, unit_price, quantity)"
        " VALUES (%s, 1, %s, %s, %s)",
        [order, *row],
    )


def move(database: Database, server: RunningServer, folder: Path) -> Database:
    """Dump a database and restore it into another cluster."""
    binaries = database.server.cluster.binaries
    dump = folder / "dump.sql"
    subprocess.run(
        [str(binaries / "pg_dump"), "--file", str(dump), database.dsn], check=True, timeout=120
    )
    roles = subprocess.run(
        [str(binaries / "pg_dumpall"), "--roles-only", "--dbname", database.dsn],
        check=True,
        timeout=120,
        capture_output=True,
    ).stdout
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for statement in roles.decode().splitlines():
            if statement.startswith(("CREATE ROLE", "GRANT")) and "postgres;" not in statement:
                connection.execute(statement.encode())
        connection.execute("CREATE DATABASE moved")
    moved = Database(server, "moved", server.dsn("moved"))
    subprocess.run(
        [str(binaries / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(dump), moved.dsn],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    return moved


def test_a_database_restored_into_a_new_cluster_is_compared_completely(
    database: Database, own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """Its rows and tombstones carry ids that the new cluster has not handed out yet."""
    old = Play.on(database.connect)
    old.open()
    old.run()
    # As a cluster that has lived for long: its ids are ahead of those of the new one.
    old.loader.execute(
        "DO $$ BEGIN FOR n IN 1..10000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    )
    again(old, old.orders[0])
    old.run()
    old.loader.execute("UPDATE oceanrecords.customers SET first_name = 'Changed'")
    moved = move(database, own_server(), tmp_path)
    assert moved.value(
        "SELECT min(row_xid) > pg_snapshot_xmax(pg_current_snapshot()) FROM oceanrecords.deleted_rows"
    )

    play = Play.observed(moved.connect)
    play.orders = old.orders
    play.run()
    assert "another database system" in play.value(BECAUSE)
    assert play.value("SELECT first_name FROM stage.customers") == "Changed"
    for _ in range(2):
        assert (
            play.value(f"SELECT deleted_at FROM stage.order_lines WHERE {LINE}", old.orders[0])
            is None
        )
        play.run()
        assert play.value(BECAUSE) is None or "another" in play.value(BECAUSE)
    # Nothing counts as changed that has not changed.
    play.run(only=["extract:order_lines", "stage:order_lines", "extract:customers"])
    assert play.value(READ) == 0

    play.loader.execute(f"DELETE FROM oceanrecords.order_lines WHERE {LINE}", [old.orders[0]])
    play.run()
    assert play.value(f"SELECT deleted_at FROM stage.order_lines WHERE {LINE}", old.orders[0])
    moved.close()


def test_a_copy_of_the_database_is_another_source(
    database: Database, server: RunningServer
) -> None:
    """Its ids are the same, but the snapshot of the original says nothing about its transactions."""
    play = Play.on(database.connect)
    play.open()
    play.run()
    database.close()
    with temporary_database(server, database.name) as copy:
        copied = Play.observed(copy.connect)
        copied.run(only=["extract:customers", "stage:customers"])
        assert "another database of its server" in copied.value(BECAUSE)
        copied.run(only=["extract:customers", "stage:customers"])
        assert copied.value(READ) == 0


@pytest.fixture
def own_source(
    database: Database,
    own_server: Callable[..., RunningServer],
    make_link: Callable[[Database, Database], Link],
) -> Iterator[Callable[..., Link]]:
    """Connects a source on a server of its own, with given settings."""
    opened: list[Database] = []

    def make(**settings: str | int) -> Link:
        server = make_source(own_server(**settings))
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE shop TEMPLATE {TEMPLATE}".encode())
        shop = Database(server, "shop", server.dsn("shop"))
        opened.append(shop)
        link = make_link(database, shop)
        link.connect()
        return link

    yield make
    for shop in opened:
        for connection in shop._connections:
            connection.close()


def test_ids_that_a_crash_hands_out_again_are_read(own_source: Callable[..., Link]) -> None:
    """What a transaction wrote before it was rolled back is lost in the crash, and its id is given to another one."""
    link = own_source(wal_writer_delay="3s", autovacuum="off")
    link.play.open()
    link.play.run()
    link.play.shop.customer("Grace")
    undone = link.source.connect(autocommit=False)
    undone.execute("UPDATE oceanrecords.suppliers SET name = 'undone'")
    used = undone.execute("SELECT pg_current_xact_id()::text").fetchall()[0][0]
    undone.rollback()
    link.play.run()
    link.source.server.stop("immediate")
    link.source.server.start()
    with link.source.connect(autocommit=False) as other:
        other.execute(
            "UPDATE oceanrecords.customers SET first_name = 'Written after the crash'"
            " WHERE customer_id = 1"
        )
        reused = other.execute("SELECT pg_current_xact_id()::text").fetchall()[0][0]
    link.play.run()
    name = link.play.value("SELECT first_name FROM stage.customers WHERE customer_id = 1")
    assert name == "Written after the crash", f"id {reused}, before the crash {used}"


def test_a_source_that_became_a_standby_is_refused_and_its_promotion_is_noticed(
    own_source: Callable[..., Link], oceanrecords: Callable[..., Finished]
) -> None:
    link = own_source(wal_level="replica", max_wal_senders=2)
    link.play.open()
    link.play.run()
    server = link.source.server
    server.stop("fast")
    signal = server.cluster.data / "standby.signal"
    signal.touch()
    owner = server.cluster.data.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    server.start()
    link.play.run(expect="partial")
    failed = link.play.rows(
        "SELECT DISTINCT sqlstate, message FROM etl.task_status WHERE status = 'failed' AND kind = 'extract'"
    )
    assert [row[0] for row in failed] == ["ET026"]
    assert "hot standby" in failed[0][1]

    assert link.source.value("SELECT pg_promote()")
    link.source.execute("UPDATE oceanrecords.customers SET first_name = 'After the promotion'")
    # As if the new primary had not received it: nothing marks it as changed.
    link.source.execute(
        "ALTER TABLE oceanrecords.suppliers DISABLE TRIGGER USER;"
        "UPDATE oceanrecords.suppliers SET name = 'As the replica has it'"
    )
    link.play.run()
    assert "timeline 2 instead of 1" in link.play.value(BECAUSE)
    shown = oceanrecords("status", env={"OCEANRECORDS_DSN": link.warehouse.dsn}).stdout
    assert (
        "timeline 2 instead of 1, after a failover or a recovery: all tables are compared" in shown
    )
    link.assert_mirrored()
    link.play.run()
    assert link.play.value(BECAUSE) is None or "timeline" in link.play.value(BECAUSE)
    link.play.run(only=["extract:suppliers"])
    assert link.play.value(READ) == 0


# Writers whose triggers do not fire --------------------------------------------------------------------------------------


def as_replica(play: Play, query: str) -> None:
    with play.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(query.encode())


@pytest.mark.parametrize("row_xid", ["3", "9000000000"])
def test_what_a_replica_writes_arrives(play: Play, row_xid: str) -> None:
    play.open()
    play.run()
    as_replica(play, "UPDATE oceanrecords.customers SET first_name = 'Replicated', row_xid = '3'")
    as_replica(
        play,
        "INSERT INTO oceanrecords.suppliers (supplier_id, name, country_code, row_xid)"
        f" VALUES (9001, 'Replica', 'NO', '{row_xid}')",
    )
    as_replica(play, f"DELETE FROM oceanrecords.order_lines WHERE order_id = {play.orders[0]}")
    play.run()
    assert play.value(READ) > 0
    play.assert_right()
    play.run(only=["extract:suppliers", "extract:customers", "extract:order_lines"])
    assert play.value(READ) == 0


def test_what_no_trigger_sees_is_found_by_the_comparison_of_the_day(play: Play) -> None:
    play.open()
    play.run()
    play.loader.execute(
        "ALTER TABLE oceanrecords.suppliers DISABLE TRIGGER USER;"
        "UPDATE oceanrecords.suppliers SET name = 'Unmarked';"
        "ALTER TABLE oceanrecords.suppliers ENABLE TRIGGER USER;"
        # As for a source on another server, whose triggers a run does not see.
        "UPDATE etl.run_control SET contract_states = '{}'"
    )
    play.run()
    assert play.value("SELECT name FROM stage.suppliers") != "Unmarked"
    play.loader.execute(
        "UPDATE etl.watermark SET compared_at = compared_at - interval '1 day' WHERE source_table = 'suppliers'"
    )
    play.run()
    assert play.value("SELECT name FROM stage.suppliers") == "Unmarked"
    assert play.rows(
        "SELECT source_table, rows_extracted FROM etl.extraction WHERE is_complete"
        " AND batch_id = (SELECT max(batch_id) FROM etl.batch)"
    ) == [("suppliers", 1)]
    compared: Any = play.value(
        "SELECT bool_and(compared_at > now() - interval '1 hour') FROM etl.watermark"
    )
    assert compared
