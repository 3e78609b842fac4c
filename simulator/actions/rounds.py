"""Rounds of business: how many of each action, and at what time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg

from base.errors import UserError
from simulator.actions.common import Action, Played, ask, key_ranges, perform
from simulator.actions.customers import add_address, add_customer, correct_customer, move_address
from simulator.actions.orders import amend_order, place_order, update_order
from simulator.actions.products import (
    add_supplier,
    change_price,
    launch_product,
    reclassify_product,
)

_LEAST_STEP = timedelta(milliseconds=1)

ACTIONS_OF_PLAN: dict[str, tuple[Action, str]] = {
    "suppliers": (add_supplier, "New suppliers."),
    "products": (launch_product, "Products launched; the next orders often contain them."),
    "customers": (add_customer, "New customers."),
    "orders": (place_order, "Orders placed."),
    "moves": (update_order, "Orders paid, shipped, delivered, cancelled, refunded."),
    "amendments": (amend_order, "Lines of open orders changed or removed."),
    "addresses": (add_address, "Addresses that customers add, new and shared ones."),
    "prices": (change_price, "Products whose price changes."),
    "corrections": (correct_customer, "Customers with a corrected name or e-mail address."),
    "relocations": (move_address, "Addresses whose street, city or country changes."),
    "reclassifications": (reclassify_product, "Products that move to another subtype."),
}
"""What each number of a `TickPlan` counts: the action, and a sentence for people."""

# A launch comes before the orders that it leads to; the other actions are mixed.
_FIRST = ("suppliers", "products")


@dataclass(frozen=True)
class TickPlan:
    """How many of each action one round plays (see `ACTIONS_OF_PLAN`).

    A fraction leaves the last one to chance: 0.2 is one in five rounds. `span` is the business
    time that the round takes when it is played to a clock.
    """

    orders: float = 12
    moves: float = 24
    amendments: float = 1
    addresses: float = 2
    prices: float = 3
    customers: float = 2
    corrections: float = 1
    relocations: float = 0.5
    reclassifications: float = 0.3
    products: float = 0.4
    suppliers: float = 0.1
    span: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        for name in ACTIONS_OF_PLAN:
            number = getattr(self, name)
            if not 0 <= number <= 1_000_000:
                raise UserError(
                    f"A round cannot have {number:g} {name}.",
                    "Choose a number from 0 to 1,000,000.",
                    2,
                )
        if self.span < timedelta(0):
            raise UserError("The business time of a round cannot be negative.", None, 2)


@dataclass
class TickResult:
    """What rounds have done.

    Attributes:
        rounds: number of rounds.
        done: number of actions by name.
    """

    rounds: int = 0
    done: dict[str, int] = field(default_factory=dict)

    @property
    def actions(self) -> int:
        """Number of all actions."""
        return sum(self.done.values())

    def __add__(self, other: TickResult) -> TickResult:
        done = dict(self.done)
        for name, number in other.done.items():
            done[name] = done.get(name, 0) + number
        return TickResult(self.rounds + other.rounds, done)


def business_clock(
    connection: psycopg.Connection[Any], clock: datetime | None = None
) -> datetime | None:
    """Return the business time at which to go on.

    The business never goes back: a price that holds from tomorrow is none for an order of today.

    Parameters:
        clock: wanted business time, with its time zone; None for the time of day.

    Returns:
        The wanted time. Without one: None (the time of day), or, where the business has been played
        into the future, a second after its latest event.

    Raises:
        UserError: if the business is past the wanted time already, or the system is empty.
    """
    with connection.transaction(), connection.cursor() as cursor:
        row = ask(cursor, "newest_moment")[0]
    newest: datetime | None = row["newest_moment"]
    if clock is None:
        if newest is not None and newest > row["now"]:
            return newest + timedelta(seconds=1)
        return None
    if clock.tzinfo is None:
        raise UserError(
            f"The clock {clock} has no time zone.", "Write it as 2025-06-01T09:00+00:00.", 2
        )
    if newest is not None and clock < newest:
        raise UserError(
            f"The clock cannot be {clock:%Y-%m-%d %H:%M:%S %Z}: the business has come to "
            f"{newest.astimezone(clock.tzinfo):%Y-%m-%d %H:%M:%S %Z}.",
            "Choose a later time.",
        )
    return clock


def tick(
    connection: psycopg.Connection[Any],
    plan: TickPlan,
    rng: random.Random,
    clock: datetime | None = None,
    *,
    on_action: Callable[[Played], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TickResult:
    """Play one round of business, each action in a transaction of its own.

    Parameters:
        plan: how many of each action.
        clock: business time at which the round begins, to take `plan.span`; None for the time of
            day.
        on_action: called with each action.
        stop: asked before each action whether to stop.

    Returns:
        What was done. Actions that found nothing to work on are not counted.

    Raises:
        UserError: if the system is empty, or the business is past the clock already.
    """
    begins_at = business_clock(connection, clock)
    with connection.transaction(), connection.cursor() as cursor:
        key_ranges(cursor)
    numbers = {name: _number(getattr(plan, name), rng) for name in ACTIONS_OF_PLAN}
    rest = [name for name, number in numbers.items() if name not in _FIRST for _ in range(number)]
    rng.shuffle(rest)
    names = [name for name in _FIRST for _ in range(numbers[name])] + rest
    result = TickResult(rounds=1)
    step = max(plan.span / max(len(names), 1), _LEAST_STEP)
    for place, name in enumerate(names):
        if stop is not None and stop():
            break
        moment = begins_at + place * step if begins_at is not None else None
        played = perform(connection, ACTIONS_OF_PLAN[name][0], rng, moment)
        if played is not None:
            result.done[played.action] = result.done.get(played.action, 0) + 1
            if on_action is not None:
                on_action(played)
    return result


def stream(
    connection: psycopg.Connection[Any],
    plan: TickPlan,
    rng: random.Random,
    pause: Callable[[float], bool],
    *,
    rounds: int | None = None,
    stop: Callable[[], bool] | None = None,
    on_round: Callable[[int, TickResult], None] | None = None,
) -> TickResult:
    """Play round after round.

    Parameters:
        plan: how many of each action a round has.
        pause: waits between rounds, called with the seconds that the round took; returns whether
            to stop.
        rounds: how many; no end when None.
        stop: asked before each action whether to stop.
        on_round: called with the number of the round and its result.

    Returns:
        What was done in all rounds.
    """
    total = TickResult()
    while True:
        began_at = time.monotonic()
        result = tick(connection, plan, rng, stop=stop)
        total += result
        if on_round is not None:
            on_round(total.rounds, result)
        if total.rounds == rounds or pause(time.monotonic() - began_at):
            return total


def _number(expected: float, rng: random.Random) -> int:
    """Return a whole number whose expectation is the given one."""
    return int(expected) + (rng.random() < expected - int(expected))
