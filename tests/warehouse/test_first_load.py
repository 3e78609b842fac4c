"""The initial load: empty mirrors are filled by their extraction, facts are loaded side by side, and what one refuses does not stop the other."""

from __future__ import annotations

import psycopg
import pytest

from tests.warehouse.faults import (
    blocked_run,
    break_table,
    held,
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
SELECT source_table FROM etl.extraction JOIN etl.batch USING (batch_id)
WHERE is_bulk AND run_id = (SELECT max(run_id) FROM etl.run) ORDER BY source_table
"""


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop with some orders, its warehouse not yet loaded."""
    play.open()
    for number in range(1, 10):
        play.shop.order(play.customer, play.address, {play.product: number, play.other_product: 1})
    return play


def test_an_extraction_fills_the_mirrors_that_are_empty(shop: Play) -> None:
    """All are of one moment: what is committed while they are filled comes with the next run, all of it."""
    with blocked_run(shop, "stage.orders"):
        customer = shop.shop.customer("Cleo")
        address = shop.shop.address(customer)
        order = shop.shop.order(customer, address, {shop.product: 1})
        shop.shop.update("customers", {"customer_id": shop.customer}, first_name="Augusta")
    tables = shop.value("SELECT count(*) FROM etl.source_table")
    assert len(shop.rows(FILLED)) == tables
    assert shop.value("SELECT count(*) FROM stage.customers") == 1
    assert shop.value("SELECT count(*) FROM stage.orders WHERE order_id = %s", order) == 0
    shop.run()
    assert shop.rows(FILLED) == []
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE order_id = %s", order) == 1
    shop.assert_right()


def test_an_interrupted_extraction_begins_again(shop: Play) -> None:
    with blocked_run(shop, "stage.orders") as run:
        shop.loader.execute("SELECT pg_terminate_backend(%s)", [run.pid])
        assert isinstance(run.work.join(), psycopg.OperationalError)
    assert shop.value("SELECT count(*) FROM stage.customers") == 0
    shop.run()
    assert shop.value("SELECT resumed FROM etl.run") == 1
    assert len(shop.rows(FILLED)) == shop.value("SELECT count(*) FROM etl.source_table")
    shop.assert_right()


def test_a_run_of_a_part_fills_the_mirrors_of_its_part(shop: Play) -> None:
    shop.run(only=["extract:customers", "stage:customers"])
    assert shop.rows(FILLED) == [("customers",)]
    shop.run()
    assert ("customers",) not in shop.rows(FILLED)
    shop.run()
    assert shop.rows(FILLED) == []
    shop.assert_right()


def test_rows_without_a_usable_key_do_not_keep_a_mirror_from_being_filled(shop: Play) -> None:
    """They are found where a batch finds them, and put into quarantine; the others are loaded."""
    shop.loader.execute(
        "CREATE OR REPLACE VIEW source.suppliers AS"
        " SELECT supplier_id, name, country_code, created_at, updated_at, row_xid FROM oceanrecords.suppliers"
        " UNION ALL SELECT 77, n, 'DE', now(), now(), '3' FROM unnest('{Twin,Other}'::text[]) AS n"
        " UNION ALL SELECT NULL, 'Nameless', 'DE', now(), now(), '3'"
    )
    shop.run(expect=None)
    assert ("suppliers",) not in shop.rows(FILLED)
    assert shop.rows(
        "SELECT sqlstate, count(*) FROM etl.quarantine WHERE object = 'suppliers' GROUP BY 1 ORDER BY 1"
    ) == [("23502", 1), ("23505", 1)]
    assert shop.value("SELECT count(*) FROM stage.suppliers") == shop.value(
        "SELECT count(*) FROM oceanrecords.suppliers"
    )


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


def test_facts_lock_no_dimension(shop: Play) -> None:
    """Two of them load at the same time, and readers of a dimension keep none waiting."""
    with held(shop, "dwh.dim_date"):
        shop.run()
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
