"""Seeds the operational system with history.

The history is a function of the plan and the seed: every decision is a hash of the seed and of its
row, computed on the server (sql/seed/). Python provides the vocabulary and reports progress. All of
it is one transaction: it drops foreign keys and indexes, generates rows chunk by chunk, and creates
foreign keys and indexes again, checked in one pass. An interrupted seed leaves nothing.
"""

from __future__ import annotations

import math
import random
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time
from itertools import accumulate
from typing import Any, LiteralString

import psycopg

from base.errors import UserError
from simulator import vocabulary
from simulator.queries import statement
from simulator.world import COUNTRIES, FIRST_WORDS, MAKERS, SECOND_WORDS, SHELVES

Progress = Callable[[str, float], None]
"""Called with the step and the share of the whole that is done (0 to 1)."""

MOST_ORDERS = 100_000_000
MOST_MONTHS = 240
EARLIEST_END = date(1990, 1, 1)
LATEST_END = date(2100, 1, 1)
_ORDERS_PER_CHUNK = 50_000
_SHARE_OF_ENTITIES = 0.08
_SHARE_OF_ORDERS = 0.72
_WORK_MEMORY = "64MB"
_MAINTENANCE_MEMORY = "256MB"
_LOCK_TIMEOUT = "10s"
_CONNECTION_CHECK_INTERVAL = "5s"


@dataclass(frozen=True)
class SeedResult:
    """What a seed has written: the days that the history spans, and the rows of the tables."""

    starts_on: date
    ends_on: date
    customers: int
    addresses: int
    products: int
    suppliers: int
    orders: int
    order_lines: int


@dataclass(frozen=True)
class _Plan:
    """Sizes and span of a history; `ends_on` is the first day that is no part of it."""

    orders: int
    customers: int
    founders: int
    products: int
    first_products: int
    product_stride: int
    product_shift: int
    suppliers: int
    starts_on: date
    ends_on: date

    @classmethod
    def of(cls, orders: int, months: int, seed: int, ends_on: date) -> _Plan:
        """Derive the sizes of all entities from the number of orders."""
        scale = (orders / 2000) ** 0.935
        customers = max(1, min(round(600 * scale), orders))
        products = max(20, round(150 * scale))
        rng = random.Random(seed)
        stride = rng.randint(1, products)
        while math.gcd(stride, products) > 1:
            stride = rng.randint(1, products)
        return cls(
            orders=orders,
            customers=customers,
            founders=max(1, customers // 20),
            products=products,
            first_products=max(10, round(0.6 * products)),
            product_stride=stride,
            product_shift=rng.randrange(products),
            suppliers=10 + round(0.9 * math.sqrt(products)),
            starts_on=_months_before(ends_on, months),
            ends_on=ends_on,
        )


def seed(
    connection: psycopg.Connection[Any],
    *,
    orders: int,
    months: int = 24,
    seed: int = 42,
    until: date | None = None,
    reset: bool = False,
    progress: Progress | None = None,
) -> SeedResult:
    """Fill the operational system with history, all of it or nothing.

    Parameters:
        connection: an open connection; a transaction of its own is made on it.
        orders: number of orders; all other sizes follow from it.
        months: length of the history in months.
        seed: number that decides everything that is left to chance.
        until: the first day that is no longer part of the history; today (UTC) when None.
        reset: empty a system that is not empty first, leaving tombstones, in the same transaction.
        progress: called with what is being done and the share of the whole that is done.

    Returns:
        What was written.

    Raises:
        UserError: if a parameter is out of range, the system is not empty, or it is in use.
        psycopg.Error: if the schema is missing or the role does not own it.
    """
    _check("number of orders", orders, 1, MOST_ORDERS)
    _check("number of months", months, 1, MOST_MONTHS)
    _check("seed", seed, -(2**62), 2**62)
    ends_on = until or datetime.now(UTC).date()
    if not EARLIEST_END <= ends_on <= LATEST_END:
        raise UserError(
            f"The history cannot end on {ends_on}.",
            f"Choose a day from {EARLIEST_END} to {LATEST_END}.",
            2,
        )
    plan = _Plan.of(orders, months, seed, ends_on)
    report = progress or (lambda _step, _share: None)
    with connection.transaction(), psycopg.ClientCursor(connection) as cursor:
        _prepare(cursor, report, reset=reset)
        report("vocabulary", 0.0)
        _bring_vocabulary(cursor, plan, seed)
        _generate(cursor, plan, report)
        counts = cursor.execute(statement("seed/counts")).fetchone()
        assert counts is not None
    report("done", 1.0)
    return SeedResult(plan.starts_on, plan.ends_on, *counts)


def _check(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise UserError(
            f"The {name} cannot be {value:,}.",
            f"Choose one from {lowest:,} to {highest:,}.",
            2,
        )


def _months_before(day: date, months: int) -> date:
    """Return the same day of an earlier month, or the last one where that month is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _prepare(cursor: psycopg.Cursor[Any], report: Progress, *, reset: bool) -> None:
    """Lock the tables, see that they are empty, and make the session ready."""
    for name, value in (
        ("lock_timeout", _LOCK_TIMEOUT),
        ("work_mem", _WORK_MEMORY),
        ("maintenance_work_mem", _MAINTENANCE_MEMORY),
        ("timezone", "UTC"),
        ("client_connection_check_interval", _CONNECTION_CHECK_INTERVAL),
        ("client_min_messages", "warning"),
    ):
        cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
    try:
        cursor.execute(statement("seed/lock"))
    except psycopg.errors.LockNotAvailable as error:
        raise UserError(
            "The operational system is in use: its tables could not be locked within ten seconds.",
            "End the other sessions (a simulator, a warehouse run), and repeat the command.",
        ) from error
    if reset:
        report("emptying", 0.0)
        cursor.execute(statement("seed/reset"))
    filled = cursor.execute(statement("seed/filled")).fetchone()
    if filled is not None:
        raise UserError(
            f"The operational system is not empty: table {filled[0]} has rows.",
            "`oceanrecords simulate seed --reset` empties it first; "
            "`oceanrecords simulate tick` plays on with what is there.",
        )


def _bring_vocabulary(cursor: psycopg.Cursor[Any], plan: _Plan, seed: int) -> None:
    """Make the session's functions and tables, and fill these with the plan and all words."""
    cursor.execute(statement("seed/functions"), {"seed": seed})
    cursor.execute(statement("seed/tables"))
    _copy(
        cursor,
        "COPY seed_plan FROM STDIN",
        [(*astuple(plan), _midnight(plan.starts_on), _midnight(plan.ends_on))],
    )
    _copy(cursor, "COPY seed_word FROM STDIN", _words(seed))
    _copy(
        cursor,
        "COPY seed_country FROM STDIN",
        (
            (
                country.code,
                lower,
                upper,
                country.transit_hours,
                country.calling_code,
                country.number_first,
                *_sizes(vocabulary.words(country.code, seed)),
            )
            for country, (lower, upper) in zip(
                COUNTRIES, _bounds([country.weight for country in COUNTRIES]), strict=True
            )
        ),
    )
    departments = list(dict.fromkeys(shelf.department for shelf in SHELVES))
    _copy(
        cursor,
        "COPY seed_shelf FROM STDIN",
        (
            (
                number,
                departments.index(shelf.department) + 1,
                shelf.department,
                shelf.name,
                lower,
                upper,
                shelf.lowest_price,
                shelf.highest_price,
                shelf.noun,
            )
            for number, (shelf, (lower, upper)) in enumerate(
                zip(SHELVES, _bounds([shelf.weight for shelf in SHELVES]), strict=True), start=1
            )
        ),
    )
    _copy(
        cursor,
        "COPY seed_supplier FROM STDIN",
        (
            (number, name, country)
            for number, (name, country) in enumerate(
                vocabulary.companies(plan.suppliers, seed), start=1
            )
        ),
    )


def _generate(cursor: psycopg.Cursor[Any], plan: _Plan, report: Progress) -> None:
    """Generate all rows, in chunks, without foreign keys and indexes."""
    definitions = cursor.execute(statement("seed/definitions")).fetchall()
    for drop, _create, _phase, _name in definitions:
        cursor.execute(drop)
    cursor.execute("ALTER TABLE oceanrecords.products DISABLE TRIGGER log_first_price")

    steps: Sequence[tuple[str, Sequence[str]]] = (
        ("calendar", ["days"]),
        ("customers", ["arrivals", "analyze_arrivals", "customers", "insert_customers"]),
        ("addresses", ["insert_addresses", "insert_customers_addresses"]),
        ("products", ["insert_suppliers", "insert_product_types", "insert_product_subtypes"]),
        ("prices", ["prices", "insert_products", "insert_product_prices"]),
    )
    for number, (label, names) in enumerate(steps):
        report(label, _SHARE_OF_ENTITIES * number / len(steps))
        for name in names:
            cursor.execute(statement(f"seed/{name}"))
    cursor.execute("ANALYZE seed_day, seed_customer, seed_price, seed_country, seed_plan")

    for first, last in _chunks(plan.orders):
        report("orders", _SHARE_OF_ENTITIES + _SHARE_OF_ORDERS * (first - 1) / plan.orders)
        chunk = {"first_order": first, "last_order": last}
        cursor.execute(statement("seed/insert_orders"), chunk)
        cursor.execute(statement("seed/insert_order_lines"), chunk)

    done = _SHARE_OF_ENTITIES + _SHARE_OF_ORDERS
    cursor.execute("ALTER TABLE oceanrecords.products ENABLE TRIGGER log_first_price")
    for number, (_drop, create, phase, _name) in enumerate(reversed(definitions)):
        label = "foreign keys" if phase == 1 else "indexes"
        report(label, done + (1 - done) * number / (len(definitions) + 1))
        cursor.execute(create)
    cursor.execute(statement("seed/sequences"))
    report("statistics", 0.99)
    cursor.execute(statement("seed/analyze"))


def _copy(
    cursor: psycopg.Cursor[Any], command: LiteralString, rows: Iterable[tuple[Any, ...]]
) -> None:
    with cursor.copy(command) as copy:
        for row in rows:
            copy.write_row(row)


def _words(seed: int) -> Iterator[tuple[str, str, int, str, str | None]]:
    """Yield kind, country, number from 0, word, and its variant.

    The variant of a name is how an e-mail address writes it, that of a place is its postal code.
    """
    for country in COUNTRIES:
        words = vocabulary.words(country.code, seed)
        for number, name in enumerate(words.first_names):
            yield "first name", country.code, number, name, vocabulary.plain(name)
        for number, name in enumerate(words.last_names):
            yield "last name", country.code, number, name, vocabulary.plain(name)
        for number, (city, postal_code) in enumerate(words.places):
            yield "place", country.code, number, city, postal_code
        for number, street in enumerate(words.streets):
            yield "street", country.code, number, street, None
    for kind, chosen in (
        ("first word", FIRST_WORDS),
        ("second word", SECOND_WORDS),
        ("maker", MAKERS),
    ):
        for number, word in enumerate(chosen):
            yield kind, "", number, word, None


def _sizes(words: vocabulary.Words) -> tuple[int, int, int, int]:
    return len(words.first_names), len(words.last_names), len(words.places), len(words.streets)


def _bounds(weights: Sequence[float]) -> list[tuple[float, float]]:
    """Return the part of [0, 1) that belongs to each weight; the last one reaches to the end."""
    uppers = [upper / sum(weights) for upper in accumulate(weights)]
    uppers[-1] = 1.0
    return list(zip([0.0, *uppers[:-1]], uppers, strict=True))


def _chunks(orders: int) -> Iterator[tuple[int, int]]:
    for first in range(1, orders + 1, _ORDERS_PER_CHUNK):
        yield first, min(first + _ORDERS_PER_CHUNK - 1, orders)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
