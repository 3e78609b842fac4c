"""What was sold, by month, country and product: small enough for a page to add up by itself.

The rankings of the dashboard take any months, any countries and any product types. Answers for all
of their combinations would be too many, so the page gets the cells and adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

DIMENSIONS = ("country", "product_type", "product_subtype", "product_name")
MINOR_UNITS = 100
MOST_CELLS = 100_000

_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True)
class Cell:
    """Something that was sold.

    Attributes:
        month: index of the month; 0 stands for all months before the first.
        country: index of the country.
        item: index of the item.
        quantity: pieces.
        sales: in hundredths of the currency.
    """

    month: int
    country: int
    item: int
    quantity: int
    sales: int


@dataclass(frozen=True)
class Cube:
    """All that was sold.

    Attributes:
        months: first days of the months; index 1 is the first of them.
        has_earlier: whether there are cells of months before the first.
        members: values of each dimension in the database's order.
        items: indices of (product_type, product_subtype, product_name).
        cells: in order of month, country and item.
    """

    months: tuple[date, ...]
    has_earlier: bool
    members: Mapping[str, tuple[str, ...]]
    items: tuple[tuple[int, int, int], ...]
    cells: tuple[Cell, ...]

    def encoded(self) -> dict[str, Any]:
        """Return the cube for the page, column by column: equal values stand together."""
        return {
            "months": [month.isoformat() for month in self.months],
            "hasEarlier": self.has_earlier,
            "members": {name: list(values) for name, values in self.members.items()},
            "items": [list(item) for item in self.items],
            "minorUnits": MINOR_UNITS,
            "month": [cell.month for cell in self.cells],
            "country": [cell.country for cell in self.cells],
            "item": [cell.item for cell in self.cells],
            "quantity": [cell.quantity for cell in self.cells],
            "sales": [cell.sales for cell in self.cells],
        }


def load(connection: psycopg.Connection[Any], most_cells: int = MOST_CELLS) -> Cube:
    """Read the cube, with as many of the latest months as fit; earlier ones are summed up in one.

    Parameters:
        connection: to the warehouse, best in a REPEATABLE READ transaction.
        most_cells: the most cells of single months.

    Raises:
        psycopg.Error: if schema kpi is missing or may not be read.
    """
    row = connection.execute("SELECT to_regclass('kpi.product_monthly') IS NULL").fetchone()
    if row == (True,):  # a business of another kind
        return Cube((), False, dict.fromkeys(DIMENSIONS, ()), (), ())
    with connection.cursor(row_factory=dict_row) as cursor:
        sizes = cursor.execute(_statement("preview_month_sizes")).fetchall()
        months = _latest([(row["month_start"], row["cells"]) for row in sizes], most_cells)
        found = cursor.execute(_statement("preview_members")).fetchone()
        assert found is not None
        first_month = months[0] if months else date.max
        rows = cursor.execute(_statement("preview_cells"), {"first_month": first_month}).fetchall()
    members = {name: tuple(found[name]) for name in DIMENSIONS}
    numbers = {name: {value: n for n, value in enumerate(members[name])} for name in DIMENSIONS}
    month_numbers: dict[date | None, int] = {month: n for n, month in enumerate(months, start=1)}
    month_numbers[None] = 0

    def item(row: Mapping[str, Any]) -> tuple[int, int, int]:
        kind, subtype, name = (numbers[one][row[one]] for one in DIMENSIONS[1:])
        return kind, subtype, name

    items = tuple(sorted({item(row) for row in rows}))
    item_numbers = {one: n for n, one in enumerate(items)}
    cells = sorted(
        (
            Cell(
                month_numbers[row["month_start"]],
                numbers["country"][row["country"]],
                item_numbers[item(row)],
                int(row["quantity"]),
                int(row["sales"] * MINOR_UNITS),
            )
            for row in rows
        ),
        key=lambda cell: (cell.month, cell.country, cell.item),
    )
    return Cube(months, any(cell.month == 0 for cell in cells), members, items, tuple(cells))


def _latest(sizes: Sequence[tuple[date, int]], most_cells: int) -> tuple[date, ...]:
    kept: list[date] = []
    total = 0
    for month, cells in reversed(sizes):
        total += cells
        if total > most_cells and kept:
            break
        kept.append(month)
    return tuple(reversed(kept))


def _statement(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
