"""Changes a share of the operational system at once, by set-based SQL (sql/burst/)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from base.errors import UserError
from simulator.actions.common import empty_system
from simulator.actions.rounds import business_clock
from simulator.queries import statement


@dataclass(frozen=True)
class BurstResult:
    """Rows that a burst has written."""

    new_orders: int
    new_order_lines: int
    moved_orders: int
    refunded_orders: int
    changed_prices: int
    moved_addresses: int


def burst(
    connection: psycopg.Connection[Any],
    fraction: float,
    seed: int,
    clock: datetime | None = None,
) -> BurstResult:
    """Place and move orders, change prices and addresses, each in one statement.

    Rows that another session has locked are skipped. New orders have current prices unless another
    session changes them concurrently.

    Parameters:
        fraction: share of the orders (half of it new ones, half of it moved on in their life), of
            the products and of the addresses that changes, above 0 and up to 1.
        seed: number that decides which.
        clock: business time of the burst; the time of day when None.

    Returns:
        What was done.

    Raises:
        UserError: if the fraction cannot be, the system is empty, or the business is past the
            clock.
    """
    if not 0 < fraction <= 1:
        raise UserError(
            f"{100 * fraction:g} percent of the rows cannot change.",
            "Choose more than 0, up to 100.",
            2,
        )
    moment = business_clock(connection, clock)
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(statement("seed/functions"), {"seed": seed})
        sizes = cursor.execute(statement("burst/sizes")).fetchone()
        assert sizes is not None
        orders, products, addresses = (-int(-size * fraction // 1) for size in sizes)
        if not products or not addresses:
            raise empty_system()

        def step(name: str, number: int, seconds: int) -> Any:
            with connection.transaction():
                if moment is not None:
                    at = (moment + timedelta(seconds=seconds)).isoformat()
                    cursor.execute("SELECT set_config('oceanrecords.clock', %s, true)", (at,))
                cursor.execute(statement(f"burst/{name}"), {"number": number})
                row = cursor.fetchone()
                assert row is not None
                return row

        new = max(1, orders // 2)
        new_orders, new_lines = step("place_orders", new, 0)
        (moved,) = step("move_orders", orders - orders // 2, 1)
        (refunded,) = step("refund_orders", max(0, orders - orders // 2 - moved), 2)
        (prices,) = step("change_prices", products, 3)
        (relocated,) = step("move_addresses", addresses, 4)
    return BurstResult(new_orders, new_lines, moved, refunded, prices, relocated)
