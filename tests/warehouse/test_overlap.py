"""Order lines are decided on while their orders are still being written, and wait for them before they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.waiting import wait_for
from tests.warehouse import faults
from tests.warehouse.faults import (
    Background,
    Blocked,
    blocked_run,
    break_table,
    mend_table,
    wait_until_blocked,
)
from tests.warehouse.play import Play

EDGES = "SELECT task, predecessor FROM etl.task_edge WHERE may_overlap"
LINES = "fact:fact_order_line"


@pytest.fixture
def shop(trading: Play) -> Play:
    """A loaded shop that has sold again."""
    faults.prepare(trading.loader)
    bought = {trading.product: 2, trading.other_product: 1}
    trading.shop.order(trading.customer, trading.address, bought)
    return trading


def task(play: Play, name: str) -> dict[str, Any]:
    """What the latest run notes of a task."""
    return play.row(
        "SELECT status, attempts, sqlstate, message FROM etl.task_run"
        " WHERE task = %s ORDER BY run_id DESC LIMIT 1",
        name,
    )


@dataclass
class Overlap:
    """A run that waits where it writes orders, and a worker beside it that has come to their lines."""

    run: Blocked
    helper: psycopg.Connection[Any]
    work: Background


@contextmanager
def overlap(play: Play) -> Iterator[Overlap]:
    """Let lines start beside their orders; when the block ends, orders are written."""
    helper = play.connect()
    with blocked_run(play, "dwh.fact_order") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(lambda: task(play, LINES)["status"] == "running", "lines to start")
        wait_until_blocked(play.loader, helper)
        yield Overlap(run, helper, work)
    assert work.join() is None


def test_lines_start_while_orders_are_written_and_wait_for_them(shop: Play) -> None:
    before = shop.value("SELECT count(*) FROM dwh.fact_order_line")
    with overlap(shop) as both:
        waits = shop.value(
            "SELECT wait_event FROM pg_stat_activity WHERE pid = %s", both.helper.info.backend_pid
        )
        assert waits == "advisory"
        assert shop.value("SELECT count(*) FROM dwh.fact_order_line") == before
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line") == before + 2
    assert task(shop, LINES) == {
        "status": "succeeded",
        "attempts": 1,
        "sqlstate": None,
        "message": None,
    }
    shop.assert_right()


@pytest.fixture
def plain(shop: Play) -> Iterator[Play]:
    """The shop has sold more, and neither an aggregate nor a trigger reads its lines; in the end both do again."""
    trigger = shop.row(
        "SELECT tgname AS name, pg_get_triggerdef(oid) AS definition FROM pg_trigger"
        " WHERE tgrelid = 'dwh.fact_order_line'::regclass AND NOT tgisinternal"
    )
    for _ in range(60):
        shop.shop.order(shop.customer, shop.address, {shop.product: 1, shop.other_product: 2})
    shop.loader.execute(f"DROP TRIGGER {trigger['name']} ON dwh.fact_order_line")
    shop.loader.execute(
        "CREATE TEMPORARY TABLE reading AS SELECT * FROM etl.aggregate_fact WHERE fact = 'fact_order_line'"
    )
    shop.loader.execute("DELETE FROM etl.aggregate_fact WHERE fact = 'fact_order_line'")
    shop.loader.execute("CALL etl.build()")
    yield shop
    shop.loader.execute(trigger["definition"])
    shop.loader.execute("INSERT INTO etl.aggregate_fact SELECT * FROM reading")
    shop.loader.execute("DROP TABLE reading")
    shop.loader.execute("CALL etl.build()")
    shop.loader.execute(
        "SELECT etl._request_reload(ARRAY(SELECT aggregate FROM etl.aggregate ORDER BY aggregate))"
    )
    shop.run()
    shop.assert_right()


def test_lines_that_no_aggregate_reads_are_written_beside_their_orders(plain: Play) -> None:
    with overlap(plain) as both:
        waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        written = (
            "SELECT count(*) FROM pg_locks WHERE pid = %s AND granted"
            " AND relation = 'dwh.fact_order_line'::regclass AND mode = 'RowExclusiveLock'"
        )
        may_suspend = plain.value(
            "SELECT has_parameter_privilege('session_replication_role', 'SET')"
        )
        assert plain.value(waits, both.helper.info.backend_pid) == "advisory"
        assert plain.value(written, both.helper.info.backend_pid) == (1 if may_suspend else 0)
    assert task(plain, LINES)["status"] == "succeeded"


def test_lines_that_were_written_before_their_orders_failed_are_not_kept(plain: Play) -> None:
    before = plain.value("SELECT count(*) FROM dwh.fact_order_line")
    break_table(plain.loader, "dwh.fact_order")
    with overlap(plain):
        pass
    assert task(plain, LINES)["status"] == "skipped"
    assert plain.value("SELECT count(*) FROM dwh.fact_order_line") == before
    mend_table(plain.loader, "dwh.fact_order")
    plain.run()


def test_a_line_that_was_written_before_its_order_was_refused_is_found(plain: Play) -> None:
    plain.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (gross_amount <> 7)"
    )
    order = plain.shop.order(plain.customer, plain.address, {plain.product: 1})
    plain.shop.update(
        "order_lines", {"order_id": order, "line_number": 1}, quantity=7, unit_price=1
    )
    plain.run()
    assert plain.rows("SELECT object, sqlstate FROM etl.quarantine ORDER BY 1") == [
        ("fact_order", "23514"),
        ("fact_order_line", "23503"),
    ]
    plain.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    plain.loader.execute("SELECT etl.retry_quarantine()")
    plain.run()


def test_orders_of_lines_are_kept_one_by_one_where_somebody_writes_others(plain: Play) -> None:
    """Their table cannot be locked then. Whoever removes one of them meanwhile is refused all the same."""
    before = plain.value("SELECT count(*) FROM dwh.fact_order_line")
    writer = plain.connect()
    writer.execute("BEGIN")
    writer.execute(
        "UPDATE dwh.fact_order SET run_id = run_id WHERE order_id = %s", [plain.orders[0]]
    )
    other = plain.connect()
    break_table(plain.loader, "dwh.dim_product")
    plain.shop.update("products", {"product_id": plain.product}, name="A new name")
    # Here the run has written its lines, and not committed them: it queues them for their product.
    with blocked_run(plain, "etl.reprocessing_queue") as run:
        removal = Background(
            lambda: other.execute(
                "DELETE FROM dwh.fact_order WHERE order_id ="
                " (SELECT max(order_id) FROM dwh.fact_order)"
            )
        )
        wait_until_blocked(plain.loader, other)
    assert run.work.error is None
    assert isinstance(removal.join(), psycopg.errors.ForeignKeyViolation)
    assert plain.value("SELECT count(*) FROM dwh.fact_order_line") == before + 122
    writer.execute("ROLLBACK")
    mend_table(plain.loader, "dwh.dim_product")


def test_lines_are_skipped_when_the_orders_beside_them_fail(shop: Play) -> None:
    break_table(shop.loader, "dwh.fact_order")
    with overlap(shop):
        pass
    assert task(shop, "fact:fact_order")["status"] == "failed"
    lines = task(shop, LINES)
    assert (lines["status"], lines["sqlstate"]) == ("skipped", None)
    assert lines["message"] == "fact:fact_order did not succeed."
    mend_table(shop.loader, "dwh.fact_order")
    shop.run()
    shop.assert_right()


def test_lines_start_again_when_the_worker_that_wrote_their_orders_dies(shop: Play) -> None:
    """The helper notes why (ET048), takes the orders over, and comes to the lines once more."""
    with overlap(shop) as both:
        shop.loader.execute("SELECT pg_terminate_backend(%s)", [both.run.pid])
        both.run.work.join()
        wait_for(lambda: task(shop, LINES)["sqlstate"] == "ET048", "lines to give up")
    assert task(shop, "fact:fact_order")["attempts"] == 2
    lines = task(shop, LINES)
    assert (lines["status"], lines["attempts"]) == ("succeeded", 2)
    shop.assert_right()


def test_the_worker_that_waits_for_orders_can_be_stopped(shop: Play) -> None:
    helper = shop.connect()
    with blocked_run(shop, "dwh.fact_order"):
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(lambda: task(shop, LINES)["status"] == "running", "lines to start")
        wait_until_blocked(shop.loader, helper)
        helper.cancel_safe()
        assert isinstance(work.join(), psycopg.errors.QueryCanceled)
        assert task(shop, LINES)["status"] == "pending"
        # Another may start them, but for one that would not see the orders in the end.
        claim = "SELECT task FROM etl._claim((SELECT max(run_id) FROM etl.run))"
        for isolation, claimed in (("REPEATABLE READ", []), ("READ COMMITTED", [(LINES,)])):
            helper.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            assert helper.execute(claim).fetchall() == claimed
            helper.execute("ROLLBACK")
            helper.execute("SELECT pg_advisory_unlock_all()")
    assert task(shop, LINES)["status"] == "succeeded"
    shop.assert_right()


def test_a_session_that_kept_its_lock_but_does_nothing_holds_no_task_back(shop: Play) -> None:
    """One whose CALL was cancelled in the very moment in which it claimed the task, or let it go."""
    idle = shop.connect()
    with blocked_run(shop, "dwh.fact_order"):
        idle.execute(
            "SELECT pg_advisory_lock(etl._lock_class('task'), etl._lock_number(task_run_id))"
            " FROM etl.task_run WHERE task = %s ORDER BY run_id DESC LIMIT 1",
            [LINES],
        )
    assert task(shop, LINES)["status"] == "succeeded"
    shop.assert_right()


def test_lines_in_quarantine_hear_of_orders_that_are_written_beside_them(shop: Play) -> None:
    shop.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT few CHECK (line_count < 3) NOT VALID"
    )
    third = shop.shop.product(shop.subtype, shop.supplier)
    shop.shop.order(shop.customer, shop.address, {shop.product: 1, shop.other_product: 1, third: 1})
    shop.run()
    assert shop.value("SELECT count(*) FROM etl.quarantine") == 4
    shop.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT few")
    shop.loader.execute("SELECT etl.retry_quarantine('fact_order')")
    with overlap(shop):
        pass
    assert shop.value("SELECT count(*) FROM etl.quarantine") == 0
    shop.assert_right()


@pytest.mark.parametrize(
    "condition",
    [
        "EXISTS (SELECT FROM dwh.dim_status)",
        "public.anything()",
        "EXISTS (SELECT FROM public.seen)",
    ],
    ids=["a star", "a function of somebody else's", "a star behind a view"],
)
def test_a_fact_made_of_more_than_mirrors_starts_after_those_that_it_refers_to(
    shop: Play, condition: str
) -> None:
    assert shop.rows(EDGES) == [(LINES, "fact:fact_order")]
    shop.loader.execute(
        "CREATE FUNCTION public.anything() RETURNS boolean LANGUAGE sql AS 'SELECT true'"
    )
    shop.loader.execute("CREATE VIEW public.seen AS SELECT FROM dwh.dim_status")
    shop.loader.execute("GRANT SELECT ON public.seen TO PUBLIC")
    definition = shop.value("SELECT pg_get_viewdef('work.fact_order_line')").rstrip(";")
    shop.loader.execute(
        "CREATE OR REPLACE VIEW work.fact_order_line AS "
        f"SELECT v.* FROM ({definition}) AS v WHERE {condition}"
    )
    shop.loader.execute("CALL etl.build()")
    assert shop.rows(EDGES) == []
    shop.run()
    shop.assert_right()
