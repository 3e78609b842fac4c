"""The initial load: workers share the mirrors, facts are loaded side by side, and what one refuses does not stop the other."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.waiting import wait_for
from tests.warehouse.faults import (
    Background,
    blocked_run,
    break_table,
    mend_table,
)
from tests.warehouse.play import Play

REFERENCES = """
SELECT c.conrelid::regclass::text, pg_get_constraintdef(c.oid)
FROM pg_constraint AS c
WHERE c.contype = 'f' AND c.connamespace = 'dwh'::regnamespace
ORDER BY 1, 2
"""
FILLED = """
SELECT object, status = 'succeeded' FROM etl.task_run
WHERE kind = 'fill' AND run_id = (SELECT max(run_id) FROM etl.run)
"""


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop with some orders, its warehouse not yet loaded."""
    play.open()
    for number in range(1, 10):
        play.shop.order(play.customer, play.address, {play.product: number, play.other_product: 1})
    return play


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


def test_references_are_told_to_postgresql_where_it_need_not_enforce_them(shop: Play) -> None:
    references = shop.rows(REFERENCES)
    if shop.value("SELECT current_setting('server_version_num')::integer") < 180000:
        assert references == []
    else:
        assert len(references) == shop.value("SELECT count(*) FROM etl.fact_dimension")
        assert all(definition.endswith("NOT ENFORCED") for _, definition in references)
    shop.run()
    shop.loader.execute("CALL etl.build()")
    assert shop.rows(REFERENCES) == references
    shop.assert_right()


def test_an_order_that_could_not_be_loaded_is_quarantined_alone(shop: Play) -> None:
    shop.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (gross_amount <> 115.50)"
    )

    shop.run(expect="partial")

    (bad,) = shop.value(
        "SELECT array_agg(row_key ->> 'order_id') FROM etl.quarantine WHERE object = 'fact_order'"
    )
    assert shop.value("SELECT count(*) FROM etl.quarantine") == 1
    assert shop.value("SELECT count(*) FROM dwh.fact_order WHERE order_id = %s", int(bad)) == 0
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", int(bad)) == 2

    shop.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    shop.loader.execute("SELECT etl.retry_quarantine()")
    shop.run()
    assert shop.rows("SELECT * FROM etl.quarantine") == []
    shop.assert_right()


@pytest.mark.parametrize("fact", ["fact_order", "fact_order_line"])
def test_a_fact_that_failed_leaves_the_other_alone(shop: Play, fact: str) -> None:
    break_table(shop.loader, f"dwh.{fact}")
    shop.run(expect="partial")
    other = {"fact_order": "fact_order_line", "fact_order_line": "fact_order"}[fact]
    assert shop.value(f"SELECT count(*) FROM dwh.{other}") > 0

    mend_table(shop.loader, f"dwh.{fact}")
    shop.run()
    shop.assert_right()


def test_lines_loaded_before_all_else_wait_for_their_products(shop: Play) -> None:
    """They are queued for their products. One whose order goes meanwhile leaves the star, and the queue with it."""
    shop.run(only=["extract:order_lines", "stage:order_lines", "extract:orders", "stage:orders"])
    shop.run(only=["fact_order_line"])
    lines = shop.value("SELECT count(*) FROM dwh.fact_order_line")
    assert (
        shop.value("SELECT count(*) FROM etl.reprocessing_queue WHERE key_column = 'product_key'")
        == lines
    )
    shop.shop.delete("orders", order_id=shop.value("SELECT max(order_id) FROM oceanrecords.orders"))

    shop.run()
    assert shop.rows("SELECT * FROM etl.reprocessing_queue") == []
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE NOT is_deleted") == lines - 2
    shop.assert_right()
