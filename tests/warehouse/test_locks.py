"""Locks: what excludes others takes rights that only the engine's roles have, and every wait names who is waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.waiting import wait_for
from tests.warehouse import faults
from tests.warehouse.faults import Background, blocked_run, held, wait_until_blocked
from tests.warehouse.play import Play

ADVISORY = """
SELECT classid, objid, objsubid FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def busy(trading: Play) -> Play:
    """A shop with something new."""
    faults.prepare(trading.loader)
    trading.shop.change_price(trading.product, "12.00")
    trading.shop.order(trading.customer, trading.address, {trading.product: 1})
    return trading


@pytest.fixture
def stranger(busy: Play) -> Iterator[psycopg.Connection[Any]]:
    """A connection without any right; the role goes with the test."""
    busy.loader.execute("CREATE ROLE stranger LOGIN")
    connection = psycopg.connect(busy.loader.info.dsn, user="stranger", autocommit=True)
    yield connection
    connection.close()
    busy.loader.execute("DROP ROLE stranger")


def test_each_worker_has_a_key_of_its_own_and_takes_no_other_lock(busy: Play) -> None:
    seen = []
    for _ in range(2):
        busy.shop.order(busy.customer, busy.address, {busy.product: 1})
        with blocked_run(busy, "dwh.fact_order_line"):
            (held,) = busy.rows(ADVISORY)
            seen.append(held)
    assert seen[0] != seen[1]
    assert {one[2] for one in seen} == {1}
    assert busy.rows(ADVISORY) == []


def test_a_stranger_with_a_workers_key_passes_for_nobody(
    busy: Play, stranger: psycopg.Connection[Any]
) -> None:
    """It waits for the lock of a worker that dies, and then holds it: the run is dead all the same."""
    with blocked_run(busy, "dwh.dim_product") as run:
        key = busy.value("SELECT lock_key FROM etl.worker")
        work = Background(lambda: stranger.execute("SELECT pg_advisory_lock(%s)", [key]))
        wait_until_blocked(busy.loader, stranger)
        busy.loader.execute("SELECT pg_terminate_backend(%s)", [run.pid])
        assert isinstance(run.work.join(), psycopg.OperationalError)
        assert work.join() is None
        # Even if it had the process id of the dead worker, and were at work.
        busy.loader.execute("UPDATE etl.worker SET pid = %s", [stranger.info.backend_pid])
        sleeping = Background(lambda: stranger.execute("SELECT pg_sleep(3600)"))
        wait_for(
            lambda: busy.value(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(3600)%'"
            ),
            "the stranger to be at work",
        )
        assert busy.value("SELECT status FROM etl.run_status ORDER BY run_id DESC LIMIT 1") == (
            "interrupted"
        )
    busy.run()
    assert busy.value("SELECT resumed FROM etl.run ORDER BY run_id DESC LIMIT 1") == 1
    busy.loader.execute("SELECT pg_cancel_backend(%s)", [stranger.info.backend_pid])
    assert isinstance(sleeping.join(), psycopg.errors.QueryCanceled)
    busy.assert_right()


def test_a_worker_of_the_service_counts_as_alive(busy: Play) -> None:
    """It has no right to write any table, but may work on runs."""
    group = busy.value("SELECT role_name FROM etl.access_level WHERE level = 'etl'")
    busy.loader.execute(f"CREATE ROLE some_service LOGIN; GRANT {group} TO some_service".encode())
    service = psycopg.connect(busy.loader.info.dsn, user="some_service", autocommit=True)
    try:
        with held(busy, "dwh.dim_product"):
            work = Background(lambda: service.execute("CALL etl.run()"))
            wait_until_blocked(busy.loader, service)
            assert busy.value("SELECT etl._live_run() IS NOT NULL")
            with pytest.raises(psycopg.Error) as refused:
                busy.connect().execute("CALL etl.run()")
            assert refused.value.sqlstate == "ET001"
        assert work.join() is None
    finally:
        service.close()
        busy.loader.execute("DROP ROLE some_service")
    busy.assert_right()


def test_a_stranger_can_lock_nothing_that_a_run_waits_for(
    busy: Play, stranger: psycopg.Connection[Any]
) -> None:
    for table in ("run_control", "run", "task_run", "worker", "load_state"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(f"SELECT FROM etl.{table} FOR KEY SHARE".encode())


def test_who_keeps_runs_from_starting_is_named(busy: Play) -> None:
    busy.loader.execute("UPDATE etl.setting SET value = '100 ms' WHERE name = 'wait_limit'")
    holder = busy.connect()
    holder.execute("SET application_name = 'the one who holds'")
    with holder.transaction():
        holder.execute("SELECT etl._lock_start()")
        with pytest.raises(psycopg.Error) as refused:
            busy.loader.execute("CALL etl.run()")
    assert refused.value.sqlstate == "ET060"
    detail = refused.value.diag.message_detail or ""
    assert f"process id {holder.info.backend_pid}" in detail
    assert 'application "the one who holds"' in detail
    busy.run()
    busy.assert_right()


def test_the_catalog_is_not_built_under_a_live_run(busy: Play) -> None:
    """It waits as long as it is told to; then it says who works."""
    builder = busy.connect()
    with blocked_run(busy, "dwh.dim_product") as run:
        busy.loader.execute("UPDATE etl.setting SET value = '100 ms' WHERE name = 'wait_limit'")
        with pytest.raises(psycopg.Error) as refused:
            builder.execute("CALL etl.build()")
        assert refused.value.sqlstate == "ET001"
        assert f"process id {run.pid}" in (refused.value.diag.message_detail or "")
        busy.loader.execute("UPDATE etl.setting SET value = '1 minute' WHERE name = 'wait_limit'")
        work = Background(lambda: builder.execute("CALL etl.build()"))
        wait_for(
            lambda: busy.value(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'CALL etl.build()' AND wait_event = 'PgSleep'"
            ),
            "the build to wait for the run",
        )
        # A worker may join the run meanwhile.
        helper = busy.connect()
        helping = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: busy.value("SELECT count(*) FROM etl.worker") == 2, "another worker to join"
        )
    assert run.work.join() is None
    assert helping.join() is None
    assert work.join() is None
    busy.assert_right()


def test_a_migration_waits_for_a_live_run(busy: Play) -> None:
    """Both would change the same tables, each holding what the other wants."""
    program = str(Path(sys.executable).with_name("oceanrecords"))
    dsn = busy.loader.info.dsn
    with blocked_run(busy, "dwh.dim_product", "CALL etl.run(NULL, '{all}')") as run:
        migration = subprocess.Popen(
            [program, "--dsn", dsn, "migrate"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        wait_for(
            lambda: busy.value(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oceanrecords migrate lock' AND wait_event = 'PgSleep'"
            ),
            "the migration to wait for the run",
        )
    assert run.work.join() is None
    _, said = migration.communicate(timeout=120)
    assert migration.returncode == 0, said
    assert busy.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "succeeded"
    busy.assert_right()
