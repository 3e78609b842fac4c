"""The first load: mirrors are filled by all workers; facts side by side without their foreign keys, which are made again."""

from __future__ import annotations

from functools import partial

import psycopg
import pytest

from tests.support.waiting import wait_for
from tests.warehouse.faults import (
    Background,
    blocked_run,
    break_table,
    held,
    mend_table,
)
from tests.warehouse.play import Play

FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text, c.conname::text, pg_get_constraintdef(c.oid), c.convalidated
FROM pg_constraint AS c
WHERE c.contype = 'f' AND c.connamespace = 'dwh'::regnamespace
ORDER BY 1, 2
"""
CONSTRAIN = "SELECT task, status FROM etl.task_run WHERE kind = 'constrain' AND run_id = (SELECT max(run_id) FROM etl.run) ORDER BY task"
FILLED = """
SELECT object, status = 'succeeded' FROM etl.task_run
WHERE kind = 'fill' AND run_id = (SELECT max(run_id) FROM etl.run)
"""
DONE = [("constrain:fact_order", "succeeded"), ("constrain:fact_order_line", "succeeded")]


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop with some orders, its warehouse not yet loaded."""
    play.open()
    for number in range(1, 10):
        play.shop.order(play.customer, play.address, {play.product: number, play.other_product: 1})
    return play


def assert_keys_are_back(play: Play, before: list[tuple[object, ...]]) -> None:
    assert play.rows(FOREIGN_KEYS) == before
    assert play.rows("SELECT * FROM etl.deferred_constraint") == []


def others_are_filled(play: Play) -> None:
    """Wait until all mirrors but one are full."""
    wait_for(
        lambda: sorted(dict(play.rows(FILLED)).values()).index(True) == 1,
        "the other mirrors to be filled",
    )


def test_workers_share_the_filling_of_mirrors(shop: Play) -> None:
    """What is committed while one is still being filled reaches those that are full already, with all else of its transaction."""
    helper = shop.connect()
    with blocked_run(shop, "stage.orders") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        others_are_filled(shop)
        assert shop.value("SELECT sum(attempts) FROM etl.task_run WHERE kind = 'extract'") == 0
        customer = shop.shop.customer("Cleo")
        address = shop.shop.address(customer)
        order = shop.shop.order(customer, address, {shop.product: 1})
        shop.shop.update("customers", {"customer_id": shop.customer}, first_name="Augusta")
    assert run.work.join() is None
    assert work.join() is None
    assert shop.value("SELECT count(DISTINCT worker_pid) FROM etl.task_run") == 2
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", order) == 1
    shop.assert_right()


AHEAD = "SELECT status, rows_inserted FROM etl.task_run WHERE task = %s AND run_id = (SELECT max(run_id) FROM etl.run)"


def test_dimensions_are_filled_while_the_last_mirror_is(shop: Play) -> None:
    """They have their turn yet: what changed meanwhile is in them, and in the facts."""
    helper = shop.connect()
    with blocked_run(shop, "stage.orders") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: shop.value("SELECT count(*) FROM dwh.dim_product WHERE product_key > 0") == 2,
            "the products to be filled",
        )
        assert shop.rows(AHEAD, "dimension:dim_product") == [("pending", 2)]
        assert shop.value("SELECT sum(attempts) FROM etl.task_run WHERE kind = 'extract'") == 0
        shop.shop.update("products", {"product_id": shop.product}, name="Renamed")
        shop.shop.change_price(shop.other_product, "77.00")
    assert run.work.join() is None
    assert work.join() is None
    assert shop.value("SELECT count(*) FROM dwh.dim_product WHERE product_name = 'Renamed'") == 1
    assert shop.rows(AHEAD, "dimension:dim_product") == [("succeeded", 1)]
    # What nothing changed in meanwhile is passed over, and keeps what was noted of its filling.
    assert shop.rows(AHEAD, "dimension:dim_supplier") == [("succeeded", 1)]
    shop.assert_right()


def test_who_filled_a_dimension_ahead_is_noted(shop: Play) -> None:
    helper = shop.connect()
    pid = helper.info.backend_pid
    with blocked_run(shop, "stage.orders") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: shop.rows(AHEAD, "dimension:dim_supplier") == [("pending", 1)],
            "the suppliers to be filled",
        )
        shop.loader.execute("SELECT pg_terminate_backend(%s)", [pid])
        assert isinstance(work.join(), psycopg.OperationalError)
    assert run.work.join() is None
    worker = "SELECT worker_pid FROM etl.task_run WHERE task = 'dimension:dim_supplier'"
    assert shop.value(worker) == pid
    shop.assert_right()


def test_a_dimension_that_fails_ahead_fails_its_facts_no_more_than_otherwise(shop: Play) -> None:
    break_table(shop.loader, "dwh.dim_product")
    helper = shop.connect()
    with blocked_run(shop, "stage.orders") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        wait_for(
            lambda: shop.rows(AHEAD, "dimension:dim_product") == [("failed", 0)],
            "the products to fail",
        )
    assert run.work.join() is None
    assert work.join() is None
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE product_key = -1") > 0
    mend_table(shop.loader, "dwh.dim_product")
    shop.run()
    shop.assert_right()


def test_an_interrupted_run_does_not_fill_again_what_is_full(shop: Play) -> None:
    helper = shop.connect()
    with blocked_run(shop, "stage.orders") as run:
        work = Background(lambda: helper.execute("CALL etl.work()"))
        others_are_filled(shop)
        for worker in (helper.info.backend_pid, run.pid):
            shop.loader.execute("SELECT pg_terminate_backend(%s)", [worker])
        assert isinstance(run.work.join(), psycopg.OperationalError)
        assert isinstance(work.join(), psycopg.OperationalError)
    shop.run()
    assert shop.value("SELECT resumed FROM etl.run") == 1
    assert (
        shop.rows(
            "SELECT source_table FROM etl.extraction WHERE is_bulk GROUP BY 1 HAVING count(*) <> 1"
        )
        == []
    )
    shop.assert_right()


def test_a_run_of_a_part_fills_the_mirrors_of_its_part(shop: Play) -> None:
    shop.run(only=["extract:customers", "stage:customers"])
    assert shop.rows(FILLED) == [("customers", True)]
    shop.run()
    assert "customers" not in dict(shop.rows(FILLED))
    shop.run()
    assert shop.rows(FILLED) == []
    shop.assert_right()


def test_foreign_keys_are_set_aside_once_and_made_again(shop: Play) -> None:
    """They are validated after the first load, and no later run touches them."""
    before = shop.rows(FOREIGN_KEYS)
    assert len(before) > 8

    shop.run()
    assert shop.rows(CONSTRAIN) == DONE
    assert_keys_are_back(shop, before)

    shop.shop.order(shop.customer, shop.address, {shop.product: 1})
    shop.run()
    assert shop.rows(CONSTRAIN) == []
    shop.assert_right()


def test_a_line_whose_order_could_not_be_loaded_is_quarantined(shop: Play) -> None:
    """Without the foreign key it got in; it is taken out before the key is made, and comes with its order."""
    before = shop.rows(FOREIGN_KEYS)
    shop.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (gross_amount <> 115.50)"
    )

    shop.run()

    (bad,) = shop.value(
        "SELECT array_agg(row_key ->> 'order_id') FROM etl.quarantine WHERE object = 'fact_order'"
    )
    assert shop.rows(
        "SELECT row_key ->> 'order_id', row_key ->> 'line_number', sqlstate FROM etl.quarantine"
        " WHERE object = 'fact_order_line' ORDER BY 2"
    ) == [(bad, "1", "23503"), (bad, "2", "23503")]
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", int(bad)) == 0
    assert_keys_are_back(shop, before)

    shop.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    shop.loader.execute("SELECT etl.retry_quarantine()")
    shop.run()
    assert shop.rows("SELECT * FROM etl.quarantine") == []
    shop.assert_right()


def test_lines_are_not_taken_out_while_an_aggregate_of_them_is_built(shop: Play) -> None:
    """It might have summed them up already, and take the request to be built anew for the one that it fulfils."""
    shop.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (gross_amount <> 115.50)"
    )
    workers = [shop.connect(), shop.connect()]
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
        " AND classid = etl._lock_class('aggregate')::oid"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with held(shop, "dwh.agg_product_monthly"):
        run_id = shop.value("SELECT etl.start_run()")
        work = [
            Background(partial(worker.execute, "CALL etl.work(%s)", [run_id])) for worker in workers
        ]
        wait_for(lambda: shop.value(waiting) == 1, "the foreign key to wait for the aggregate")
    assert [one.join() for one in work] == [None, None]

    shop.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    shop.loader.execute("SELECT etl.retry_quarantine()")
    shop.run()
    shop.assert_right()


@pytest.mark.parametrize("fact", ["fact_order", "fact_order_line"])
def test_a_fact_that_failed_gets_its_keys_with_the_run_that_loads_it(shop: Play, fact: str) -> None:
    """The other fact is loaded all the same, and keeps its rows."""
    before = shop.rows(FOREIGN_KEYS)
    break_table(shop.loader, f"dwh.{fact}")
    shop.run(expect="partial")
    other = {"fact_order": "fact_order_line", "fact_order_line": "fact_order"}[fact]
    assert shop.value(f"SELECT count(*) FROM dwh.{other}") > 0
    assert dict(shop.rows(CONSTRAIN))[f"constrain:{fact}"] == "skipped"

    mend_table(shop.loader, f"dwh.{fact}")
    shop.run()
    assert_keys_are_back(shop, before)
    shop.assert_right()


def test_a_run_of_a_part_leaves_lines_whose_orders_are_still_to_be_loaded(shop: Play) -> None:
    before = shop.rows(FOREIGN_KEYS)
    break_table(shop.loader, "dwh.fact_order")
    shop.run(expect="partial")
    lines = shop.value("SELECT count(*) FROM dwh.fact_order_line")
    assert lines > 0

    shop.run(only=["extract:customers", "stage:customers"])
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line") == lines
    assert "constrain:fact_order_line" not in dict(shop.rows(CONSTRAIN))

    mend_table(shop.loader, "dwh.fact_order")
    shop.run()
    assert shop.rows("SELECT * FROM etl.quarantine") == []
    assert_keys_are_back(shop, before)
    shop.assert_right()


def test_lines_loaded_before_all_else_wait_for_their_orders(shop: Play) -> None:
    """They are queued for their products. One whose order goes meanwhile leaves the star, and the queue with it."""
    before = shop.rows(FOREIGN_KEYS)
    shop.run(only=["extract:order_lines", "stage:order_lines", "extract:orders", "stage:orders"])
    shop.run(only=["fact_order_line"])
    lines = shop.value("SELECT count(*) FROM dwh.fact_order_line")
    assert (
        shop.value("SELECT count(*) FROM etl.reprocessing_queue WHERE key_column = 'product_key'")
        == lines
    )
    assert shop.rows("SELECT * FROM etl.quarantine") == []
    shop.shop.delete("orders", order_id=shop.value("SELECT max(order_id) FROM oceanrecords.orders"))

    shop.run()
    assert shop.rows("SELECT * FROM etl.reprocessing_queue") == []
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line") == lines - 2
    assert_keys_are_back(shop, before)
    # Aggregates of what was taken out are built anew by the next run.
    shop.run()
    shop.assert_right()


def test_a_first_load_that_was_given_up_leaves_the_keys_in_place(shop: Play) -> None:
    """A run that died at once is closed by one of another kind, which has nothing to fill."""
    before = shop.rows(FOREIGN_KEYS)
    shop.loader.execute("SELECT etl.start_run()")
    assert len(shop.rows(FOREIGN_KEYS)) < len(before)

    shop.run(only=["extract:customers", "stage:customers"])
    assert_keys_are_back(shop, before)

    shop.run()
    assert_keys_are_back(shop, before)
    shop.assert_right()
