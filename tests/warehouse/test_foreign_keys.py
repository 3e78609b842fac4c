"""A batch's foreign keys, checked all at once: what they promise holds as if PostgreSQL checked row by row."""

from __future__ import annotations

import psycopg
import pytest

from tests.warehouse import faults
from tests.warehouse.faults import Background, blocked_run, wait_until_blocked
from tests.warehouse.play import Play

ORDERS = 120  # enough to be checked at once
MAY_SUSPEND = "SELECT has_parameter_privilege('session_replication_role', 'SET')"
LOCKED = """
SELECT array_agg(l.relation::regclass::text ORDER BY l.relation::regclass::text)
FROM pg_locks AS l
WHERE l.pid = %s AND l.mode = 'ShareLock' AND l.granted AND l.relation > 16384
"""
REFERENCED = [
    "dwh.dim_address",
    "dwh.dim_customer",
    "dwh.dim_date",
    "dwh.dim_payment",
    "dwh.dim_status",
]


@pytest.fixture
def shop(play: Play) -> Play:
    """A loaded shop with a customer who is about to order for the first time, often."""
    play.open()
    customer = play.shop.customer("Bea")
    address = play.shop.address(customer)
    play.run()
    for number in range(ORDERS):
        play.shop.order(customer, address, {play.product: number + 1})
    play.customer = customer
    return play


def test_whoever_removes_a_member_meanwhile_is_refused_afterwards(shop: Play) -> None:
    other = shop.connect()
    faults.prepare(shop.loader)
    faults.break_table(shop.loader, "dwh.dim_payment")
    shop.loader.execute("UPDATE oceanrecords.payment_methods SET name = 'On ' || name")
    # Here the run has written its orders, and not committed them: it queues them for their payment method.
    with blocked_run(shop, "etl.reprocessing_queue") as run:
        assert shop.value("SELECT count(*) FROM dwh.fact_order") == 1
        if shop.value(MAY_SUSPEND):
            assert shop.value(LOCKED, run.pid) == REFERENCED
        removal = Background(
            lambda: other.execute(
                "DELETE FROM dwh.dim_customer WHERE customer_id = %s", [shop.customer]
            )
        )
        wait_until_blocked(shop.loader, other)
    assert run.work.error is None
    assert isinstance(removal.join(), psycopg.errors.ForeignKeyViolation)
    faults.mend_table(shop.loader, "dwh.dim_payment")
    shop.run()
    shop.assert_right()


def test_what_was_not_looked_up_is_looked_for(shop: Play) -> None:
    """Orders of lines, and the members that stand for unknown; a key that was looked up was found."""
    shop.run()
    lines = "work.fact_order_line_decision"
    check = f"SELECT etl._check_foreign_keys('fact_order_line', '{lines} AS w', {{are_all}})"
    assert shop.value(f"SELECT count(*) FROM {lines}") == ORDERS
    for change, detail, are_all in (
        ("order_id = 4711", "Key (order_id)=(4711) is not present", "true"),
        ("order_id = 4711", "Key (order_id)=(4711) is not present", "false"),
        ("product_key = -1", "Key (product_key)=(-1) is not present", "true"),
        ("product_key = -1", "Key (product_key)=(-1) is not present", "false"),
    ):
        shop.loader.execute(check.format(are_all=are_all))
        shop.loader.execute("BEGIN")
        shop.loader.execute("DELETE FROM dwh.dim_product WHERE product_key = -1")
        shop.loader.execute(
            f"UPDATE {lines} SET {change} WHERE order_id = (SELECT max(order_id) FROM {lines})"
        )
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as error:
            shop.loader.execute(check.format(are_all=are_all))
        shop.loader.execute("ROLLBACK")
        assert str(error.value.diag.message_detail).startswith(detail)


def test_a_member_that_is_being_written_is_checked_row_by_row(shop: Play) -> None:
    writer = shop.connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE dwh.dim_payment SET run_id = run_id WHERE payment_key > 0")
    shop.run()
    writer.execute("ROLLBACK")
    assert shop.value("SELECT count(*) FROM dwh.fact_order") == ORDERS + 1
    shop.assert_right()


def test_a_line_without_its_order_is_found_in_a_batch(shop: Play) -> None:
    shop.loader.execute(
        "ALTER TABLE dwh.fact_order ADD CONSTRAINT small CHECK (gross_amount <> 500)"
    )
    shop.run()
    quarantined = shop.rows(
        "SELECT object, sqlstate, reason LIKE '%%violates foreign key constraint \"fact_order_line_order_id_fkey\"'"
        " FROM etl.quarantine ORDER BY 1"
    )
    assert quarantined == [("fact_order", "23514", False), ("fact_order_line", "23503", True)]
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line") == ORDERS

    shop.loader.execute("ALTER TABLE dwh.fact_order DROP CONSTRAINT small")
    shop.loader.execute("SELECT etl.retry_quarantine()")
    shop.run()
    shop.assert_right()


def test_somebody_elses_triggers_and_deferrable_keys_are_not_passed_over(shop: Play) -> None:
    shop.loader.execute(
        "CREATE TABLE public.noticed (order_id bigint);"
        " CREATE FUNCTION public.notice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.noticed VALUES (NEW.order_id); RETURN NULL; END $$;"
        " CREATE TRIGGER notice AFTER INSERT ON dwh.fact_order FOR EACH ROW EXECUTE FUNCTION public.notice();"
        " ALTER TABLE dwh.fact_order_line ADD CONSTRAINT one_line UNIQUE (order_id) DEFERRABLE"
    )
    shop.run()
    assert shop.value("SELECT count(*) FROM public.noticed") == ORDERS

    with shop.shop.transaction() as connection:
        connection.execute(
            "INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)"
            " SELECT order_id, 2, %s, 1, 1 FROM oceanrecords.orders WHERE customer_id = %s",
            [shop.other_product, shop.customer],
        )
    shop.run(expect=None)
    assert shop.value("SELECT count(*) FROM dwh.fact_order_line WHERE line_number = 2") == 0


def test_the_session_is_as_before(shop: Play) -> None:
    shop.run()
    assert shop.value("SHOW session_replication_role") == "origin"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop.loader.execute("UPDATE dwh.fact_order SET status_key = 4711")
