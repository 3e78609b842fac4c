"""What all actions have in common: how they are reported, and how they query the database."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from base.errors import UserError
from simulator.queries import statement
from simulator.world import COUNTRIES

Cursor = psycopg.Cursor[Any]

VOCABULARY = 42
"""Seed of the words that actions use: those of the default history."""


@dataclass(frozen=True)
class Played:
    """An action that took place.

    Attributes:
        summary: what it did, for people.
        facts: what it did, for programs: numbers of the rows and values.
    """

    action: str
    summary: str
    facts: dict[str, Any]


Action = Callable[[Cursor, random.Random], Played | None]
"""Returns None when there was nothing to do it on."""


def perform(
    connection: psycopg.Connection[Any],
    action: Action,
    rng: random.Random,
    clock: datetime | None = None,
) -> Played | None:
    """Play one action in a transaction of its own.

    Parameters:
        clock: business time of the action; the time of day when None.

    Returns:
        What was done, or None when there was nothing to do it on.
    """
    with connection.transaction(), connection.cursor() as cursor:
        if clock is not None:
            cursor.execute(
                "SELECT set_config('oceanrecords.clock', %s, true)", (clock.isoformat(),)
            )
        return action(cursor, rng)


def key_ranges(cursor: Cursor) -> dict[str, Any]:
    """Return the first and last keys of what actions choose from.

    Raises:
        UserError: if there are no customers or no products.
    """
    keys = ask(cursor, "key_ranges")[0]
    if keys["last_customer"] is None or keys["last_product"] is None:
        raise empty_system()
    return keys


def any_key(rng: random.Random, keys: dict[str, Any], of: str) -> int:
    """Return a number between the first and last key of customers, products or addresses."""
    return rng.randint(keys[f"first_{of}"], keys[f"last_{of}"])


def customer_of(cursor: Cursor, customer_id: int) -> dict[str, Any]:
    """Return a customer, with the country of the first address.

    Raises:
        UserError: if the customer does not exist.
    """
    rows = ask(cursor, "customer", customer_id=customer_id)
    if not rows:
        raise UserError(f"Customer {customer_id} does not exist.")
    return rows[0]


def empty_system() -> UserError:
    """Return the error that says what to do before anything can be played."""
    return UserError(
        "The operational system is empty: there is no business to play.",
        "Fill it first: oceanrecords simulate seed",
    )


def any_country(rng: random.Random) -> str:
    """Return the code of a country, large ones often."""
    return rng.choices(COUNTRIES, [country.weight for country in COUNTRIES])[0].code


def draw(rng: random.Random, weighted: Sequence[tuple[int, int]]) -> int:
    """Return one of several values, each with its weight."""
    return rng.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]


def ask(cursor: Cursor, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement in sql/actions, on the connection of the cursor."""
    with cursor.connection.cursor(row_factory=dict_row) as own:
        return own.execute(statement(f"actions/{query}"), parameters).fetchall()


def do(cursor: Cursor, query: str, /, **parameters: Any) -> None:
    """Execute a statement in sql/actions."""
    cursor.execute(statement(f"actions/{query}"), parameters)
