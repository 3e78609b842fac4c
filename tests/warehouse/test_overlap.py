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
