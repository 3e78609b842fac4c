"""A network that fails, and a source that falls over: recorded, tried again, nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import Finished
from tests.source.conftest import TEMPLATE, Link, make_source
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer
from tests.warehouse.faults import background

TASKS = "SELECT task, status, attempts, sqlstate, message FROM etl.task_status WHERE kind = '{}' ORDER BY task"
EXTRACTS = TASKS.format("extract")


def assert_loaded_once(link: Link) -> None:
    """Mirrors are right, and another run finds nothing to do."""
    link.assert_mirrored()
    link.play.run()
    assert (
        link.play.value(
            "SELECT coalesce(sum(rows_read), 0) FROM etl.task_status WHERE kind = 'extract'"
        )
        == 0
    )
    assert link.play.value("SELECT count(*) FROM dwh.dim_customer WHERE customer_key > 0") == (
        link.source.value("SELECT count(*) FROM oceanrecords.customers")
    )


def test_a_connection_cut_in_the_initial_load_is_taken_up_in_the_same_run(
    connected: Link,
) -> None:
    play = connected.play
    play.open()
    connected.customers(3000)
    connected.proxy.cut_after(200_000)
    play.run()
    assert connected.proxy.cuts == 1
    tasks = connected.warehouse.rows(EXTRACTS)
    # The mirrors have one snapshot: all are read again.
    assert {task["attempts"] for task in tasks} == {2}
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert_loaded_once(connected)


def test_a_connection_cut_in_the_middle_of_a_batch_is_taken_up_in_the_same_run(
    connected: Link,
) -> None:
    play = connected.play
    play.open()
    play.run()
    connected.customers(3000)
    connected.proxy.cut_after(200_000)
    play.run()
    assert connected.proxy.cuts == 1
    tasks = connected.warehouse.rows(EXTRACTS)
    # The whole batch is extracted again, also what had come before the cut.
    assert {task["attempts"] for task in tasks} == {2}
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert play.value(
        "SELECT count(*) FROM etl.extraction WHERE batch_id = (SELECT max(batch_id) FROM etl.batch)"
    ) == len(tasks)
    assert_loaded_once(connected)


def test_a_cut_in_an_incremental_batch_does_not_tear_it(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    connected.customers(3000)
    order = play.shop.order(play.customer, play.address, {play.product: 1})
    connected.proxy.cut_after(200_000)
    play.run()
    assert connected.proxy.cuts == 1
    assert play.value("SELECT count(*) FROM etl.batch WHERE run_id = 2") == 1
    assert play.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", order) == 1
    assert_loaded_once(connected)


@pytest.mark.parametrize("received", [1, 3_000, 20_000, 100_000, 350_000])
def test_a_network_that_stays_away_ends_the_run_and_the_next_one_catches_up(
    connected: Link, received: int
) -> None:
    play = connected.play
    play.open()
    play.run()
    connected.customers(3000)
    # A new session has no connection yet: with the first byte even the login fails.
    play.loader = connected.warehouse.connect()
    connected.proxy.cut_after(received, stay_down=True)
    status = play.run(expect=None)
    assert status in ("partial", "failed")
    failed = [task for task in connected.warehouse.rows(EXTRACTS) if task["status"] == "failed"]
    assert len(failed) == len(connected.tables())
    assert {task["sqlstate"][:2] for task in failed} == {"08"}
    assert all(task["message"] for task in failed)
    connected.proxy.restore()
    play.run()
    assert_loaded_once(connected)


def test_a_lost_source_is_given_time_before_it_is_asked_again(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    connected.warehouse.execute(
        "UPDATE etl.setting SET value = '0.3 seconds' WHERE name = 'source_retry_pause'"
    )
    play.loader = connected.warehouse.connect()
    connected.proxy.cut_after(1, stay_down=True)
    play.run(expect=None)
    # The first attempt ended with the cut, the other two were refused, the second after a longer pause than the first.
    first, second = connected.proxy.refusals
    assert second - first >= 0.6
    connected.proxy.restore()
    play.run()
    assert_loaded_once(connected)


def test_a_pause_is_over_soon_enough_for_a_source_that_comes_back(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    play.shop.customer("Grace")
    connected.warehouse.execute(
        "UPDATE etl.setting SET value = '0.3 seconds' WHERE name = 'source_retry_pause'"
    )
    play.loader = connected.warehouse.connect()
    connected.proxy.cut_after(1, stay_down=True)
    watcher = connected.warehouse.connect()
    pausing = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"

    def restore() -> None:
        while watcher.execute(pausing).fetchone() == (0,):
            pass
        connected.proxy.restore()

    with background(restore):
        play.run()
    assert connected.proxy.refusals == []
    assert_loaded_once(connected)


def test_a_cut_at_the_commit_leaves_all_to_the_next_run(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    play.shop.customer("Grace")
    connected.proxy.cut_on(b"COMMIT TRANSACTION")
    with pytest.raises(psycopg.OperationalError):
        play.run()
    assert connected.proxy.cuts == 1
    assert play.value("SELECT status FROM etl.run_status ORDER BY run_id DESC LIMIT 1") == (
        "interrupted"
    )
    assert play.value("SELECT count(*) FROM stage.customers") == 1
    play.run()
    assert_loaded_once(connected)


def test_a_session_that_is_ended_over_there_is_replaced(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    play.shop.customer("Grace")
    end_readers(connected.source)
    play.run()
    assert {task["attempts"] for task in connected.warehouse.rows(EXTRACTS)} == {1}
    assert_loaded_once(connected)


def end_readers(database: Database) -> None:
    """End the sessions of the warehouse at the source."""
    ended = database.value(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
        " WHERE usename = 'warehouse_reader' AND datname = current_database()"
    )
    assert ended == 1


def test_a_session_ended_in_the_middle_of_a_batch_is_taken_up(connected: Link) -> None:
    play = connected.play
    play.open()
    play.run()
    play.shop.customer("Grace")
    # The extraction of the products waits on the source server for a lock, which is released when its session ends.
    holder = connected.source.connect(autocommit=False)
    holder.execute("LOCK TABLE oceanrecords.products IN ACCESS EXCLUSIVE MODE")
    watcher = connected.source.connect()
    waiting = "SELECT pid FROM pg_stat_activity WHERE usename = 'warehouse_reader' AND wait_event_type = 'Lock'"
    ended: list[Any] = []

    def end_the_waiting() -> None:
        while not (found := watcher.execute(waiting).fetchall()):
            pass
        ended.extend(found)
        watcher.execute("SELECT pg_terminate_backend(%s)", [found[0][0]])
        holder.rollback()

    with background(end_the_waiting):
        play.run()
    assert len(ended) == 1
    assert {task["attempts"] for task in connected.warehouse.rows(EXTRACTS)} == {2}
    assert_loaded_once(connected)


def test_a_source_that_takes_the_connection_and_is_silent_holds_up_no_run(
    connected: Link, source_cli: Callable[..., Finished], oceanrecords: Callable[..., Finished]
) -> None:
    play = connected.play
    play.open()
    play.run()
    play.shop.customer("Grace")
    connected.warehouse.execute("ALTER SERVER etl_source OPTIONS (SET connect_timeout '2')")
    connected.proxy.fall_silent()
    cut_off = (
        connected.warehouse.value("SELECT current_setting('server_version_num')::int") > 170000
    )

    finished = oceanrecords("run", env={"OCEANRECORDS_DSN": connected.warehouse.dsn}, timeout=60)
    status = connected.warehouse.value("SELECT status FROM etl.run_status WHERE run_id = 2")
    if cut_off:
        assert finished.returncode == 1
        assert "did not answer in time" in finished.stderr
        assert "To resume the run" in finished.stderr
        assert status == "interrupted"
    else:
        assert finished.returncode == 3
        assert status == "partial"
        extracts = connected.warehouse.rows(EXTRACTS)
        assert {task["status"] for task in extracts} == {"failed"}
        assert "08001" in {task["sqlstate"] for task in extracts}
    finished = source_cli("status")
    assert finished.returncode == 1
    assert ("did not answer in time" if cut_off else "cannot be reached") in (
        finished.stdout + finished.stderr
    )

    connected.proxy.restore()
    play.run()
    assert_loaded_once(connected)


def test_a_source_that_crashes_and_comes_back(
    database: Database,
    own_server: Callable[..., RunningServer],
    make_link: Callable[[Database, Database], Link],
) -> None:
    source = make_source(own_server())
    with temporary_database(source, TEMPLATE) as shop:
        link = make_link(database, shop)
        link.connect()
        link.play.open()
        link.play.run()
        link.customers(500)
        source.stop("immediate")
        assert link.play.run(expect=None) in ("partial", "failed")
        failed = database.rows(EXTRACTS)
        assert {task["sqlstate"] for task in failed} <= {"08001", "08003", "08006"}
        assert "08001" in {task["sqlstate"] for task in failed}
        status = database.rows("SELECT is_reachable, problem FROM etl.source_status()")[0]
        assert not status["is_reachable"]
        assert "cannot be reached" in status["problem"]
        source.start()
        link.play.run()
        # The shop's own connection went down with the server.
        assert_loaded_once(link)
