"""Faults, injected for real, in every phase of a run: nothing is lost, nothing is loaded twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.conftest import migrate_database
from tests.support.servers import RunningServer
from tests.support.waiting import PATIENCE, wait_for
from tests.warehouse import faults
from tests.warehouse.faults import (
    DIE,
    Background,
    blocked_run,
    break_table,
    held,
    mend_table,
    wait_until_blocked,
)
from tests.warehouse.play import Play

# A table that is written in each phase of a run.
PHASES = {
    "extract": "delta.orders",
    "stage": "stage.orders",
    "watermark": "etl.watermark",
    "customers": "dwh.dim_customer",
    "products": "dwh.dim_product",
    "orders": "dwh.fact_order",
    "lines": "dwh.fact_order_line",
    "differences": "work.agg_order_daily_difference",
    "aggregate": "dwh.agg_order_daily",
    "queue": "etl.reprocessing_queue",
}
# How a transaction that dies is undone does not depend on the version; random histories with faults run on both servers.
pytestmark = pytest.mark.server("embedded")

every_phase = pytest.mark.parametrize("table", PHASES.values(), ids=PHASES)


@pytest.fixture
def busy(trading: Play) -> Play:
    """A shop with news for every table of the warehouse, which the next run has to load."""
    faults.prepare(trading.loader)
    # One of its orders is older than the calendar.
    trading.tolerate_quarantine()
    do_business(trading)
    return trading


def do_business(play: Play) -> None:
    """Bring something new to every object: members, versions, facts, deletions, and a row for the queue."""
    shop = play.shop
    shop.update("customers", {"customer_id": play.customer}, segment="business")
    shop.update("addresses", {"address_id": play.address}, city="Bremen")
    shop.change_price(play.product, Decimal(shop.now.minute + 30))
    shop.supplier()
    customer = shop.customer("Cleo")
    address = shop.address(customer, city="Vienna", country_code="AT")
    shop.order(customer, address, {play.product: 1, play.other_product: 3})
    shop.order(customer, address, {play.product: 1}, ordered_at="1999-01-01 00:00+00")
    shop.advance(play.orders[-1], "paid")
    gone = shop.order(play.customer, play.address, {play.product: 1})
    shop.delete("orders", order_id=gone)


def live_run_ends(play: Play) -> None:
    """Wait until no session works on a run any more."""
    wait_for(
        lambda: play.value("SELECT count(*) FROM etl.run_status WHERE status = 'running'") == 0,
        "the live run to end",
    )


# Killed ----------------------------------------------------------------------------------------------------------------


@every_phase
def test_a_backend_that_ends_itself_in_any_phase_loses_nothing(busy: Play, table: str) -> None:
    break_table(busy.loader, table, DIE, times=1)
    with pytest.raises(psycopg.OperationalError):
        busy.connect().execute("CALL etl.run()")
    # The statement that asks whether nothing is new writes watermarks if so: it dies there, before there is a run.
    assert busy.value("SELECT status FROM etl.run_status ORDER BY run_id DESC LIMIT 1") == (
        "succeeded" if table == "etl.watermark" else "interrupted"
    )
    busy.run()
    busy.assert_right()


@pytest.mark.parametrize("phase", ["stage", "products", "lines"])
def test_a_backend_terminated_from_outside_loses_nothing(busy: Play, phase: str) -> None:
    with blocked_run(busy, PHASES[phase]) as run:
        busy.loader.execute("SELECT pg_terminate_backend(%s)", [run.pid])
        assert isinstance(run.work.join(), psycopg.OperationalError)
    busy.run()
    assert busy.value("SELECT resumed FROM etl.run ORDER BY run_id DESC LIMIT 1") == 1
    busy.assert_right()


@pytest.mark.parametrize(
    "task",
    ["extract:orders", "stage:orders", "dimension:dim_product", "fact:fact_order_line"],
)
def test_a_backend_killed_between_a_tasks_end_and_its_commit_loses_nothing(
    busy: Play, task: str
) -> None:
    """The task has written its outcome; data, watermark and outcome are undone together."""
    busy.loader.execute(
        sql.SQL(
            "CREATE CONSTRAINT TRIGGER fault AFTER UPDATE ON etl.task_run"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
            " WHEN (NEW.status = 'succeeded' AND NEW.task = {})"
            " EXECUTE FUNCTION fault.strike('die', '1')"
        ).format(sql.Literal(task))
    )
    with pytest.raises(psycopg.OperationalError):
        busy.connect().execute("CALL etl.run()")
    outcome = busy.value("SELECT status FROM etl.task_status WHERE task = %s", task)
    assert outcome == "running"
    busy.run()
    busy.assert_right()


def test_a_client_killed_by_sigkill_loses_nothing(busy: Play) -> None:
    """The server works on until it misses its client; whoever comes next finds a right warehouse or makes it right."""
    program = "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True).execute('CALL etl.run()')"
    with held(busy, "dwh.dim_product"):
        client = subprocess.Popen([sys.executable, "-c", program, busy.loader.info.dsn])
        wait_for(
            lambda: busy.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query LIKE 'CALL etl.run%%'".replace("%%", "%")
            ),
            "the client's run to wait for the lock",
        )
        client.send_signal(signal.SIGKILL)
        client.wait(PATIENCE)
    live_run_ends(busy)
    busy.run()
    busy.assert_right()


def test_a_run_can_die_again_and_again(busy: Play) -> None:
    """Phase after phase kills a backend, while business goes on; each run takes up where the last one died."""
    deaths = 0
    for table in PHASES.values():
        break_table(busy.loader, table, DIE, times=1)
        try:
            busy.connect().execute("CALL etl.run()")
        except psycopg.OperationalError:
            deaths += 1
        mend_table(busy.loader, table)
        do_business(busy)
    # A run that was taken up late in its life has nothing to do any more for some phases.
    assert deaths > len(PHASES) / 2
    busy.run(expect=None)
    busy.run()
    busy.assert_right()


# A crash of the server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["stage", "products", "lines"])
def test_a_server_stopped_immediately_loses_nothing(
    own_server: Callable[..., RunningServer], phase: str
) -> None:
    """The delta tables are unlogged: a crash empties them, and the batch is extracted again."""
    server = own_server()
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE warehouse")
    migrate_database(host=server.host, port=server.port, user=server.user, dbname="warehouse")
    play = Play.on(lambda: psycopg.connect(server.dsn("warehouse"), autocommit=True))
    play.tolerate_quarantine()
    play.open()
    play.run()
    do_business(play)
    runner = play.connect()
    lock = play.connect()
    lock.execute("BEGIN")
    lock.execute(
        sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(*PHASES[phase].split(".")))
    )
    work = Background(lambda: runner.execute("CALL etl.run()"))
    faults.wait_until_blocked(play.loader, runner)
    assert play.value("SELECT count(*) FROM delta.orders WHERE delta_operation <> 'before'") > 0

    server.stop("immediate")
    assert isinstance(work.join(), psycopg.OperationalError)
    server.start()

    play.loader = play.connect()
    assert play.value("SELECT count(*) FROM delta.orders") == 0
    play.run()
    play.assert_right()


def test_a_batch_whose_delta_was_lost_is_refused_and_extracted_again(busy: Play) -> None:
    """ET005: what is missing from delta is noticed before anything is merged."""
    with blocked_run(busy, "stage.addresses", "CALL etl.run()"):
        busy.loader.execute("TRUNCATE delta.orders")
    failure = busy.row("SELECT sqlstate, message FROM etl.task_status WHERE task = 'stage:orders'")
    assert failure["sqlstate"] == "ET005"
    assert "delta.orders holds 0 of the" in failure["message"]
    busy.run()
    busy.assert_right()


# Several at once -------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_while_one_is_live(busy: Play) -> None:
    with blocked_run(busy, "dwh.dim_product"), pytest.raises(psycopg.Error) as refused:
        busy.connect().execute("CALL etl.run()")
    assert refused.value.sqlstate == "ET001"
    assert "is already running" in str(refused.value)
    assert "CALL etl.work(" in (refused.value.diag.message_hint or "")
    busy.assert_right()


def test_a_run_is_live_though_its_session_does_not_tell_what_it_does(busy: Play) -> None:
    runner = busy.connect()
    runner.execute("SET track_activities = off")
    with held(busy, "dwh.dim_product"):
        work = Background(lambda: runner.execute("CALL etl.run()"))
        wait_until_blocked(busy.loader, runner)
        with pytest.raises(psycopg.Error) as refused:
            busy.connect().execute("SELECT etl.start_run()")
    assert refused.value.sqlstate == "ET001"
    assert work.join() is None
    busy.assert_right()


def test_a_worker_that_joins_late_shares_the_run(busy: Play) -> None:
    """The first worker waits at a dimension; the second does the others, and the facts after both."""
    helper = busy.connect()
    with blocked_run(busy, "dwh.dim_product") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: (
                busy.value(
                    "SELECT count(*) FROM etl.task_status WHERE status = 'succeeded'"
                    " AND kind = 'dimension'"
                )
                == 5
            ),
            "the other dimensions to be loaded",
        )
        waiting = busy.value(
            "SELECT status FROM etl.task_status WHERE task = 'fact:fact_order_line'"
        )
        assert waiting == "pending"
    assert run.work.join() is None
    assert work.join() is None
    workers = busy.value(
        "SELECT count(DISTINCT worker_pid) FROM etl.task_run"
        " WHERE run_id = (SELECT max(run_id) FROM etl.run)"
    )
    assert workers == 2
    busy.assert_right()


def test_a_worker_without_a_run_is_told_so(busy: Play) -> None:
    with pytest.raises(psycopg.Error) as refused:
        busy.loader.execute("CALL etl.work()")
    assert refused.value.sqlstate == "ET006"


def test_a_task_of_a_worker_that_died_is_taken_over_by_another(busy: Play) -> None:
    helper = busy.connect()
    with blocked_run(busy, "dwh.dim_product") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: (
                busy.value(
                    "SELECT count(*) FROM etl.task_status WHERE status = 'succeeded'"
                    " AND kind = 'dimension'"
                )
                == 5
            ),
            "the other dimensions to be loaded",
        )
        busy.loader.execute("SELECT pg_terminate_backend(%s)", [run.pid])
        run.work.join()
        wait_for(
            lambda: (
                busy.value(
                    "SELECT attempts FROM etl.task_status WHERE task = 'dimension:dim_product'"
                )
                == 2
            ),
            "the other worker to take the task over",
        )
    assert work.join() is None
    status = busy.row("SELECT status, resumed FROM etl.run ORDER BY run_id DESC LIMIT 1")
    assert status == {"status": "succeeded", "resumed": 0}
    busy.assert_right()


def test_a_task_whose_predecessor_has_just_failed_is_not_free(busy: Play) -> None:
    """Another worker may fail between a claim's look for failures and its choice of a task."""
    run_id = busy.value("SELECT etl.start_run()")
    busy.loader.execute("UPDATE etl.task_run SET status = 'succeeded' WHERE kind <> 'dimension'")
    free = "SELECT task FROM etl._free_tasks(%s)"
    assert ("dimension:dim_product",) in busy.rows(free, run_id)
    busy.loader.execute("UPDATE etl.task_run SET status = 'failed' WHERE task = 'stage:products'")
    assert ("dimension:dim_product",) not in busy.rows(free, run_id)
    assert ("dimension:dim_payment",) in busy.rows(free, run_id)


def test_an_aggregate_that_waits_hears_that_it_is_to_be_built_anew(busy: Play) -> None:
    """It waits for somebody who changes what it is made of, and asks for that."""
    enable = "UPDATE etl.task SET is_enabled = %s WHERE object = 'agg_order_daily'"
    busy.loader.execute(enable, [False])
    busy.run()
    busy.loader.execute(enable, [True])
    busy.loader.execute("UPDATE dwh.agg_order_daily SET orders = orders + 1")
    runner, changer = busy.connect(), busy.connect()
    with changer.transaction():
        changer.execute("SELECT FROM etl.load_state WHERE object = 'agg_order_daily' FOR UPDATE")
        work = Background(lambda: runner.execute("CALL etl.run('{agg_order_daily}')"))
        wait_until_blocked(busy.loader, runner)
        changer.execute("SELECT etl._request_reload('{agg_order_daily}')")
    assert work.join() is None
    busy.run()
    busy.assert_right()


@pytest.mark.parametrize(("workers", "isolation"), [(2, "read committed"), (4, "serializable")])
def test_any_number_of_workers_makes_the_same_stars(
    busy: Play, workers: int, isolation: str
) -> None:
    """Also where the sessions' transactions would see the claims of one another as conflicts."""
    run_id = busy.value("SELECT etl.start_run()")
    connections = [busy.connect() for _ in range(workers)]
    for one in connections:
        one.execute(f"SET default_transaction_isolation = '{isolation}'".encode())
    work = [Background(partial(one.execute, "CALL etl.work(%s)", [run_id])) for one in connections]
    assert [one.join() for one in work] == [None] * workers
    assert busy.value("SELECT status FROM etl.run WHERE run_id = %s", run_id) == "succeeded"
    busy.assert_right()


def test_all_extractions_of_a_run_are_one_batch_whatever_the_workers(busy: Play) -> None:
    """Workers that start at the same moment do not share the extractions out, which would be on two snapshots."""
    connections = [busy.connect() for _ in range(3)]
    for _ in range(10):
        run_id = busy.value("SELECT etl.start_run()")
        work = [
            Background(partial(one.execute, "CALL etl.work(%s)", [run_id])) for one in connections
        ]
        assert [one.join() for one in work] == [None] * 3
    assert (
        busy.rows(
            "SELECT run_id FROM etl.batch WHERE run_id > 1 GROUP BY run_id HAVING count(*) > 1"
        )
        == []
    )


# Locks, timeouts, resources --------------------------------------------------------------------------------------------


def test_a_deadlock_is_retried(busy: Play) -> None:
    """A real one: the load of orders and another session ask for each other's lock."""
    busy.loader.execute(
        "CREATE FUNCTION fault.take_two() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_advisory_xact_lock(1); PERFORM pg_advisory_xact_lock(2); RETURN NULL; END $$"
    )
    busy.loader.execute(
        "CREATE TRIGGER take_two BEFORE INSERT ON dwh.fact_order"
        " FOR EACH STATEMENT EXECUTE FUNCTION fault.take_two()"
    )
    rival, runner = busy.connect(), busy.connect()
    rival.execute("SET deadlock_timeout = '1min'")
    runner.execute("SET deadlock_timeout = '100ms'")
    rival.execute("BEGIN")
    rival.execute("SELECT pg_advisory_xact_lock(2)")
    with faults.background(lambda: runner.execute("CALL etl.run()")):
        faults.wait_until_blocked(busy.loader, runner)
        rival.execute("SELECT pg_advisory_xact_lock(1)")
        rival.execute("COMMIT")
    task = busy.row("SELECT status, attempts FROM etl.task_status WHERE task = 'fact:fact_order'")
    assert task == {"status": "succeeded", "attempts": 2}
    busy.assert_right()


def test_a_lock_that_does_not_come_is_tried_again_then_recorded(busy: Play) -> None:
    runner = busy.connect()
    runner.execute("SET lock_timeout = '50ms'")
    with held(busy, "dwh.fact_order"):
        runner.execute("CALL etl.run()")
    task = busy.row(
        "SELECT status, attempts, sqlstate FROM etl.task_status WHERE task = 'fact:fact_order'"
    )
    assert task == {"status": "failed", "attempts": 3, "sqlstate": "55P03"}
    busy.run()
    busy.assert_right()


def test_an_extraction_that_is_tried_again_tears_no_batch(busy: Play) -> None:
    """One source table is locked for a moment: all of them are read again on one snapshot, and loaded in this run."""
    runner = busy.connect()
    runner.execute("SET lock_timeout = '500ms'")
    with busy.connect() as locker:
        locker.execute("BEGIN")
        locker.execute("LOCK TABLE oceanrecords.customers IN ACCESS EXCLUSIVE MODE")
        work = Background(lambda: runner.execute("CALL etl.run()"))
        wait_for(
            lambda: busy.value(
                "SELECT count(*) FROM etl.task_status"
                " WHERE task = 'extract:customers' AND sqlstate = '55P03'"
            ),
            "the first attempt to fail",
        )
        locker.execute("COMMIT")
    assert work.join() is None
    assert busy.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1") == "succeeded"
    busy.assert_right()


def test_lines_that_were_taken_up_without_their_orders_come_with_them(busy: Play) -> None:
    """The lines are an earlier batch's then: their orders ask for them."""
    order = busy.shop.order(busy.customer, busy.address, {busy.product: 1, busy.other_product: 2})
    busy.run(only=["extract:order_lines", "stage:order_lines", "fact:fact_order_line"])
    in_star = f"SELECT count(*) FROM dwh.fact_order_line WHERE order_id = {order}"
    assert busy.value(f"SELECT count(*) FROM stage.order_lines WHERE order_id = {order}") == 2
    assert busy.value("SELECT count(*) FROM work.fact_order_line_key") == 0
    assert busy.value(in_star) == 0
    busy.run()
    assert busy.value(in_star) == 2
    busy.assert_right()


def test_a_statement_timeout_interrupts_the_run_and_the_next_one_goes_on(busy: Play) -> None:
    runner = busy.connect()
    # Enough to come to where it is held, also on a machine that is busy.
    runner.execute("SET statement_timeout = '2s'")
    with held(busy, "dwh.fact_order"), pytest.raises(psycopg.errors.QueryCanceled):
        runner.execute("CALL etl.run()")
    assert (
        busy.value("SELECT status FROM etl.task_status WHERE task = 'fact:fact_order'") == "pending"
    )
    assert busy.value("SELECT status FROM etl.run_status ORDER BY run_id DESC LIMIT 1") == (
        "interrupted"
    )
    busy.run()
    busy.assert_right()


def test_a_cancelled_run_stops_and_is_taken_up_again(busy: Play) -> None:
    with blocked_run(busy, "dwh.dim_product") as run:
        busy.loader.execute("SELECT pg_cancel_backend(%s)", [run.pid])
        error = run.work.join()
    assert isinstance(error, psycopg.errors.QueryCanceled)
    assert "was stopped" in str(error)
    task = busy.row(
        "SELECT status, sqlstate FROM etl.task_status WHERE task = 'dimension:dim_product'"
    )
    assert task == {"status": "pending", "sqlstate": "57014"}
    assert busy.value("SELECT status FROM etl.run_status ORDER BY run_id DESC LIMIT 1") == (
        "interrupted"
    )
    busy.run()
    assert busy.value("SELECT resumed FROM etl.run ORDER BY run_id DESC LIMIT 1") == 1
    busy.assert_right()


def test_the_session_of_a_cancelled_run_can_run_again_itself(busy: Play) -> None:
    with blocked_run(busy, "dwh.fact_order") as run:
        busy.loader.execute("SELECT pg_cancel_backend(%s)", [run.pid])
        run.work.join()
    run.runner.execute("CALL etl.run()")
    busy.assert_right()


def test_a_session_that_kept_its_locks_but_does_nothing_holds_no_run_back(busy: Play) -> None:
    """A cancelled CALL may leave its session's locks behind; what counts is whether somebody works."""
    run_id = busy.value("SELECT etl.start_run()")
    idle = busy.connect()
    idle.execute("SELECT etl._enlist(%s)", [run_id])
    busy.run()
    busy.assert_right()


def test_a_full_disk_is_tried_again_then_recorded(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_customer", "53100")
    busy.run(expect="partial")
    task = busy.row(
        "SELECT status, attempts, sqlstate, message FROM etl.task_status"
        " WHERE task = 'dimension:dim_customer'"
    )
    assert task == {
        "status": "failed",
        "attempts": 3,
        "sqlstate": "53100",
        "message": "a fault was injected into dwh.dim_customer",
    }
    mend_table(busy.loader, "dwh.dim_customer")
    busy.run()
    busy.assert_right()


def test_a_fault_that_passes_is_not_noticed(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_customer", "40001", times=2)
    busy.run()
    assert (
        busy.value("SELECT attempts FROM etl.task_status WHERE task = 'dimension:dim_customer'")
        == 3
    )
    busy.assert_right()


# Failed tasks ----------------------------------------------------------------------------------------------------------


def test_a_failed_task_says_what_and_where(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_product")
    busy.run(expect="partial")
    task = busy.row("SELECT * FROM etl.task_status WHERE task = 'dimension:dim_product'")
    assert (task["status"], task["attempts"], task["sqlstate"]) == ("failed", 1, "P0001")
    assert task["message"] == "a fault was injected into dwh.dim_product"
    assert "etl._load_dimension" in task["context"]


def test_a_failed_dimension_does_not_stop_the_facts(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_product")
    busy.run(expect="partial")
    outcome = dict(busy.rows("SELECT task, status FROM etl.task_status WHERE kind = 'fact'"))
    assert outcome == {"fact:fact_order": "succeeded", "fact:fact_order_line": "succeeded"}


def test_what_needs_a_failed_stage_is_skipped_and_says_why(busy: Play) -> None:
    break_table(busy.loader, "stage.orders")
    busy.run(expect="partial")
    outcome = {
        task: (status, message)
        for task, status, message in busy.rows("SELECT task, status, message FROM etl.task_status")
    }
    assert outcome["stage:orders"] == ("failed", "a fault was injected into stage.orders")
    assert outcome["fact:fact_order"] == ("skipped", "stage:orders did not succeed.")
    assert outcome["fact:fact_order_line"][0] == "skipped"
    assert outcome["dimension:dim_product"][0] == "succeeded"
    mend_table(busy.loader, "stage.orders")
    busy.run()
    busy.assert_right()


def test_a_run_without_any_success_has_failed(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_product")
    busy.run(only=["orders", "order_lines", "products", "product_prices"])
    busy.run(only=["dim_product"], expect="failed")
    mend_table(busy.loader, "dwh.dim_product")
    busy.run()
    busy.assert_right()


def test_a_disabled_task_waits_until_it_is_enabled(busy: Play) -> None:
    busy.loader.execute("UPDATE etl.task SET is_enabled = false WHERE object = 'dim_product'")
    busy.run()
    assert busy.value("SELECT count(*) FROM etl.task_status WHERE object = 'dim_product'") == 0
    busy.loader.execute("UPDATE etl.task SET is_enabled = true")
    busy.run()
    busy.assert_right()


# Facts before their dimension ------------------------------------------------------------------------------------------

PRODUCT_OF_LINE = """
    SELECT d.product_id, d.price FROM dwh.fact_order_line
    JOIN dwh.dim_product AS d USING (product_key) WHERE order_id = %s AND line_number = 1
"""


@pytest.fixture
def broken(trading: Play) -> Play:
    """A shop whose dim_product cannot be loaded."""
    faults.prepare(trading.loader)
    break_table(trading.loader, "dwh.dim_product")
    return trading


def test_a_line_whose_product_has_not_arrived_waits_and_is_resolved(broken: Play) -> None:
    product = broken.shop.product(broken.subtype, broken.supplier, "5.00")
    order = broken.shop.order(broken.customer, broken.address, {product: 1})
    broken.run(expect="partial")
    assert broken.row(PRODUCT_OF_LINE, order) == {"product_id": None, "price": None}
    entry = broken.row("SELECT * FROM etl.reprocessing_queue")
    assert entry["fact_key"] == {"order_id": order, "line_number": 1}
    assert entry["dimension_key"] == {"product_id": product}
    assert (entry["key_column"], entry["is_ready"]) == ("product_key", False)

    mend_table(broken.loader, "dwh.dim_product")
    broken.run()
    assert broken.row(PRODUCT_OF_LINE, order) == {"product_id": product, "price": Decimal(5)}
    assert broken.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    broken.assert_right()


def test_a_dimension_broken_for_ten_runs_loses_nothing(broken: Play) -> None:
    shop = broken.shop
    for price in range(11, 21):
        product = shop.product(broken.subtype, broken.supplier, "5.00")
        shop.change_price(broken.product, Decimal(price))
        shop.order(broken.customer, broken.address, {product: 1, broken.product: 2})
        broken.run(expect="partial")
    assert broken.value("SELECT count(*) FROM etl.reprocessing_queue") == 20
    mend_table(broken.loader, "dwh.dim_product")
    broken.run()
    assert broken.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    broken.assert_right()


def test_waiting_rows_do_not_slow_the_runs_that_cannot_resolve_them(broken: Play) -> None:
    """An entry that is not ready is not looked at: it keeps its number of attempts."""
    product = broken.shop.product(broken.subtype, broken.supplier)
    broken.shop.order(broken.customer, broken.address, {product: 1})
    for _ in range(3):
        broken.run(expect="partial")
    assert broken.value("SELECT attempts FROM etl.reprocessing_queue") == 1


def test_a_version_in_doubt_is_unknown_until_the_dimension_is_loaded(broken: Play) -> None:
    """The product is there, but a new price of it is not: the old version would be wrong."""
    changed_at = broken.shop.change_price(broken.product, "12.00")
    order = broken.shop.order(
        broken.customer, broken.address, {broken.product: 1, broken.other_product: 1}
    )
    assert broken.shop.now > changed_at
    broken.run(expect="partial")
    assert broken.row(PRODUCT_OF_LINE, order)["product_id"] is None
    # The other product has no news, so its version is beyond doubt; facts loaded before stay as they are.
    assert broken.value("SELECT count(*) FROM etl.reprocessing_queue") == 1
    assert broken.row(PRODUCT_OF_LINE, broken.orders[0])["price"] == 10

    mend_table(broken.loader, "dwh.dim_product")
    broken.run()
    assert broken.row(PRODUCT_OF_LINE, order)["price"] == 12
    broken.assert_right()


def test_facts_of_the_first_load_wait_for_a_broken_dimension(play: Play) -> None:
    """The bulk load knows the queue, too."""
    faults.prepare(play.loader)
    play.open()
    break_table(play.loader, "dwh.dim_product")
    play.run(expect="partial")
    assert play.value("SELECT count(*) FROM etl.reprocessing_queue") == 1
    mend_table(play.loader, "dwh.dim_product")
    play.run()
    play.assert_right()


def test_an_order_whose_customer_has_not_arrived_is_resolved(trading: Play) -> None:
    faults.prepare(trading.loader)
    break_table(trading.loader, "dwh.dim_customer")
    customer = trading.shop.customer("Dora")
    trading.shop.order(customer, trading.shop.address(customer), {trading.product: 1})
    trading.run(expect="partial")
    assert trading.value("SELECT key_column FROM etl.reprocessing_queue") == "customer_key"
    mend_table(trading.loader, "dwh.dim_customer")
    trading.run()
    trading.assert_right()


def test_a_waiting_row_that_is_deleted_waits_no_more(broken: Play) -> None:
    product = broken.shop.product(broken.subtype, broken.supplier)
    order = broken.shop.order(broken.customer, broken.address, {product: 1})
    broken.run(expect="partial")
    broken.shop.delete("orders", order_id=order)
    broken.run(expect="partial")
    assert broken.value("SELECT count(*) FROM etl.reprocessing_queue") == 0
    mend_table(broken.loader, "dwh.dim_product")
    broken.run()
    broken.assert_right()


# Partial runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "only",
    [
        ["orders"],
        ["order_lines"],
        ["customers", "dim_customer"],
        ["fact_order"],
        ["extract:orders"],
        ["stage:orders"],
        ["dimension:dim_product"],
        ["fact:fact_order_line"],
        ["agg_order_daily"],
    ],
    ids=" ".join,
)
def test_a_run_of_a_part_does_its_part_and_leaves_the_rest_for_the_next(
    busy: Play, only: list[str]
) -> None:
    busy.run(only=only)
    done = busy.rows("SELECT task, object FROM etl.task_status")
    assert done
    assert all(task in only or thing in only for task, thing in done)
    busy.run()
    busy.assert_right()


def test_a_run_of_a_part_closes_a_run_that_died(busy: Play) -> None:
    break_table(busy.loader, "dwh.dim_product", DIE, times=1)
    with pytest.raises(psycopg.OperationalError):
        busy.connect().execute("CALL etl.run()")
    busy.run(only=["dim_customer"])
    assert busy.rows("SELECT status FROM etl.run ORDER BY run_id") == [
        ("succeeded",),
        ("partial",),
        ("succeeded",),
    ]
    busy.run()
    busy.assert_right()


# Full refresh ----------------------------------------------------------------------------------------------------------


def surrogate_keys(play: Play) -> list[Any]:
    return play.rows(
        "SELECT product_id, valid_from::text, product_key FROM dwh.dim_product"
        " UNION ALL SELECT customer_id, valid_from::text, customer_key FROM dwh.dim_customer"
        " ORDER BY 1, 2, 3"
    )


@pytest.mark.parametrize(
    "name",
    [
        "all",
        "orders",
        "products",
        "dim_product",
        "dim_customer",
        "fact_order",
        "fact_order_line",
        "agg_order_daily",
        "agg_product_monthly",
    ],
)
def test_a_full_refresh_of_a_right_object_changes_nothing(busy: Play, name: str) -> None:
    busy.run()
    keys = surrogate_keys(busy)
    busy.run(full_refresh=[name])
    assert surrogate_keys(busy) == keys
    busy.assert_right()


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("UPDATE stage.orders SET payment_method_id = 4", "orders"),
        ("DELETE FROM stage.order_lines", "order_lines"),
        ("UPDATE stage.order_lines SET deleted_at = now()", "order_lines"),
        ("UPDATE dwh.dim_customer SET full_name = 'X', segment = 'x' WHERE is_current", "all"),
        ("UPDATE dwh.fact_order SET gross_amount = 1, customer_key = -1", "fact_order"),
        ("UPDATE dwh.fact_order SET is_deleted = true", "fact_order"),
        ("DELETE FROM dwh.fact_order_line", "fact_order_line"),
        (
            "INSERT INTO etl.reprocessing_queue (fact, fact_key, key_column, dimension,"
            " dimension_key, run_id) VALUES ('fact_order', '{\"order_id\": 1}', 'customer_key',"
            " 'dim_customer', '{\"customer_id\": 1}', 1)",
            "fact_order",
        ),
        (
            "INSERT INTO etl.quarantine (object, row_key, sqlstate, reason, run_id)"
            " VALUES ('fact_order', '{\"order_id\": 1}', '22003', 'too large', 1)",
            "fact_order",
        ),
        ("UPDATE dwh.agg_order_daily SET sales = 1", "agg_order_daily"),
        ("TRUNCATE dwh.fact_order, dwh.fact_order_line", "all"),
    ],
)
def test_a_full_refresh_mends_what_was_damaged(trading: Play, damage: str, name: str) -> None:
    trading.loader.execute(damage.encode())
    trading.run(full_refresh=[name])
    if "segment" in damage:
        # A version's tracked value is history: what the source says now becomes a version after it.
        assert (
            trading.value(
                "SELECT full_name || segment FROM dwh.dim_customer WHERE is_current AND customer_id = 1"
            )
            == "Ada Byronconsumer"
        )
        return
    trading.assert_right()


@pytest.mark.parametrize("name", ["dim_product", "fact_order", "agg_order_daily"])
def test_an_object_whose_state_was_lost_is_loaded_completely(busy: Play, name: str) -> None:
    """Without its row, an aggregate took no differences, and no object followed a changed definition."""
    busy.run()
    busy.loader.execute("DELETE FROM etl.load_state WHERE object = %s", [name])
    busy.shop.delete("orders", order_id=busy.orders[0])
    busy.shop.order(busy.customer, busy.address, {busy.product: 3})
    busy.run()
    state = "SELECT needs_reload, fingerprint IS NULL FROM etl.load_state WHERE object = %s"
    assert busy.rows(state, name) == [(False, False)]
    busy.assert_right()


def test_a_full_refresh_of_a_fact_decides_on_what_differs_only(busy: Play) -> None:
    busy.run()
    assert busy.value("SELECT count(*) FROM dwh.fact_order") > 1
    busy.loader.execute("UPDATE dwh.fact_order SET quantity = 5 WHERE order_id = 1")
    busy.run(full_refresh=["fact_order"])
    task = "SELECT rows_read, rows_updated FROM etl.task_status WHERE task = 'fact:fact_order'"
    assert busy.row(task) == {"rows_read": 1, "rows_updated": 1}
    busy.assert_right()


def test_a_full_refresh_marks_a_fact_that_nothing_gives_as_deleted(trading: Play) -> None:
    trading.loader.execute(
        "INSERT INTO dwh.fact_order_line SELECT (jsonb_populate_record(l, '{\"line_number\": 7}')).*"
        " FROM dwh.fact_order_line AS l"
    )
    trading.run(full_refresh=["fact_order_line"])
    assert trading.rows(
        "SELECT line_number, is_deleted, quantity FROM dwh.fact_order_line ORDER BY line_number"
    ) == [(1, False, 2), (7, True, 0)]


def test_a_reload_that_is_asked_for_while_a_run_finds_nothing_new_is_not_lost(busy: Play) -> None:
    busy.run()
    busy.loader.execute("UPDATE dwh.dim_payment SET payment_name = 'Shells'")
    other = busy.connect()
    with other.transaction():
        other.execute("SELECT etl._request_reload('{dim_payment}')")
        busy.run()
    busy.run()
    busy.assert_right()


def test_a_reload_that_is_asked_for_while_its_object_is_loaded_is_left_for_the_next_run(
    busy: Play,
) -> None:
    asker = busy.connect()
    with blocked_run(busy, "dwh.dim_customer"):
        asked = Background(lambda: asker.execute("SELECT etl._request_reload('{dim_customer}')"))
        wait_until_blocked(busy.loader, asker)
    assert asked.join() is None
    assert busy.value("SELECT needs_reload FROM etl.load_state WHERE object = 'dim_customer'")
    busy.run()
    busy.assert_right()


def test_an_object_whose_idleness_cannot_be_told_fails_alone(busy: Play) -> None:
    busy.run()
    busy.loader.execute("ALTER TABLE work.dim_payment_key RENAME TO lost_key")
    busy.run(expect="partial")
    busy.loader.execute("ALTER TABLE work.lost_key RENAME TO dim_payment_key")
    failed = "SELECT task, sqlstate FROM etl.task_status WHERE status = 'failed'"
    assert busy.rows(failed) == [("dimension:dim_payment", "42P01")]
    busy.run()
    busy.assert_right()


@pytest.mark.parametrize("phase", ["extract", "stage", "products", "orders", "lines", "aggregate"])
def test_a_full_refresh_that_died_is_finished_by_the_next_run(busy: Play, phase: str) -> None:
    busy.run()
    keys = surrogate_keys(busy)
    do_business(busy)
    break_table(busy.loader, PHASES[phase], DIE, times=1)
    with pytest.raises(psycopg.OperationalError):
        busy.connect().execute("CALL etl.run(NULL, '{all}')")
    busy.run()
    busy.run()
    assert [key for key in surrogate_keys(busy) if key in keys] != []
    assert busy.value("SELECT count(*) FROM etl.load_state WHERE needs_reload") == 0
    busy.assert_right()


def test_a_full_refresh_dates_a_deletion_by_its_tombstone(trading: Play) -> None:
    """A rebuilt warehouse is the same as one that was kept up to date."""
    customer = trading.shop.customer("Bob")
    trading.run()
    trading.shop.delete("customers", customer_id=customer)
    trading.run(full_refresh=["all"])
    assert (
        trading.value("SELECT valid_to FROM dwh.dim_customer WHERE customer_id = %s", customer)
        == trading.shop.now
    )
    trading.assert_right()


def test_a_mirror_that_is_behind_the_others_hears_of_deletions(trading: Play) -> None:
    """Which tables have tombstones is asked for once, on behalf of the mirror that knows least."""
    customer = trading.shop.customer("Bob")
    trading.run()
    trading.shop.delete("customers", customer_id=customer)
    trading.run(only=["orders"])
    trading.run()
    assert (
        trading.value("SELECT valid_to FROM dwh.dim_customer WHERE customer_id = %s", customer)
        == trading.shop.now
    )
    trading.assert_right()


def test_transaction_ids_of_another_server_are_not_compared(busy: Play) -> None:
    """The source was restored on another server, where transactions count anew: all is read again."""
    busy.loader.execute(
        "UPDATE etl.watermark SET system_identifier = 1, snapshot = '900000:900000:'"
    )
    busy.run()
    busy.assert_right()


def test_a_source_that_went_back_in_time_is_read_again(busy: Play) -> None:
    """A restored backup on the same system has lower transaction ids than the watermark."""
    busy.loader.execute("UPDATE etl.watermark SET snapshot = '90000000:90000000:'")
    busy.run()
    busy.assert_right()
