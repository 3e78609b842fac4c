"""An order lives along the transitions of the operational system, and no other way."""

from __future__ import annotations

from itertools import permutations

import psycopg
import pytest

from tests.support.database import Database

PATHS = {1: (), 2: (2,), 3: (2, 3), 4: (2, 3, 4), 5: (5,), 6: (2, 3, 4, 6)}
ALLOWED = {(1, 2), (1, 5), (2, 3), (2, 5), (3, 4), (4, 6)}
MOVE = "UPDATE oceanrecords.orders SET order_status_id = %s WHERE order_id = 1"


def test_only_the_transitions_are_allowed(shop: Database) -> None:
    connection = shop.connect()
    for before, after in permutations(PATHS, 2):
        with connection.transaction(force_rollback=True):
            for status in PATHS[before]:
                connection.execute(MOVE, (status,))
            if (before, after) in ALLOWED:
                connection.execute(MOVE, (after,))
                continue
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(MOVE, (after,))
            assert refused.value.sqlstate == "OR001", (before, after)


def test_the_message_names_order_statuses_and_the_way_out(shop: Database) -> None:
    with pytest.raises(psycopg.Error) as refused:
        shop.execute(MOVE, 4)
    assert refused.value.diag.message_primary == "order 1 cannot go from placed to delivered"
    assert refused.value.diag.message_hint == "From placed an order can become: paid, cancelled."
    shop.execute(MOVE, 5)
    with pytest.raises(psycopg.Error) as refused:
        shop.execute(MOVE, 2)
    assert refused.value.diag.message_hint == "The life of an order ends with cancelled."


def test_a_status_that_does_not_exist_is_refused(shop: Database) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="status 9, which does not exist"):
        shop.execute(MOVE, 9)


def test_the_moment_of_a_status_is_noted_at_the_business_clock(shop: Database) -> None:
    connection = shop.connect()
    for day, status in enumerate((2, 3, 4, 6), start=2):
        with connection.transaction():
            connection.execute(
                "SELECT set_config('oceanrecords.clock', %s, true)", (f"2025-03-0{day} 10:00+00",)
            )
            connection.execute(MOVE, (status,))
    row = shop.rows(
        """
        SELECT
            extract(day FROM paid_at AT TIME ZONE 'UTC') AS paid,
            extract(day FROM shipped_at AT TIME ZONE 'UTC') AS shipped,
            extract(day FROM delivered_at AT TIME ZONE 'UTC') AS delivered,
            extract(day FROM refunded_at AT TIME ZONE 'UTC') AS refunded,
            updated_at = refunded_at AS is_updated_then
        FROM oceanrecords.orders
        """
    )[0]
    assert (row["paid"], row["shipped"], row["delivered"], row["refunded"]) == (2, 3, 4, 5)
    assert row["is_updated_then"]


def test_a_moment_that_is_given_is_kept(shop: Database) -> None:
    shop.execute(
        "UPDATE oceanrecords.orders SET order_status_id = 2, paid_at = '2025-03-01 13:00:00+00'"
    )
    assert shop.value("SELECT paid_at = '2025-03-01 13:00:00+00' FROM oceanrecords.orders")


def test_a_clock_that_is_no_time_is_refused(shop: Database) -> None:
    connection = shop.connect()
    connection.execute("SET oceanrecords.clock = 'noon'")
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        connection.execute("SELECT oceanrecords.business_time()")
    connection.execute("SET oceanrecords.clock = ''")
    assert connection.execute(
        "SELECT oceanrecords.business_time() BETWEEN now() AND clock_timestamp()"
    ).fetchone() == (True,)
