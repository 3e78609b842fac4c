"""What was sold, by month, country and product: small enough for a page to sum up by itself.

The rankings of the dashboard take any range of months, any country and any product type. Answers
for all of their combinations would be too many, so the page gets the cells and adds them up.
`Cube.rank` is the same calculation in Python; a ranking is left to the page only when it agrees
with what the question's SQL answers.
"""

from __future__ import annotations

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

DIMENSIONS = ("country", "product_type", "product_subtype", "product_name")
MEASURES = ("quantity", "sales")
MINOR_UNITS = 100
MOST_CELLS = 300_000

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

    def rank(
        self,
        label: str,
        order: str,
        limit: int | None,
        *,
        first: date | None = None,
        last: date | None = None,
        chosen: Mapping[str, str | None] | None = None,
    ) -> list[tuple[str, int, Decimal]]:
        """Return the members of a dimension that sold for most, as the page does.

        Parameters:
            label: the dimension.
            order: the measure that decides.
            limit: most rows; None for all.
            first: month from which to count.
            last: day up to which months may begin.
            chosen: member by dimension; None for all of a dimension.

        Returns:
            Rows of label, quantity and sales.
        """
        wanted = {
            name: self.members[name].index(value) if value in self.members[name] else -1
            for name, value in (chosen or {}).items()
            if value is not None
        }
        low = 0 if first is None else _index(self.months, first.replace(day=1))
        high = len(self.months) if last is None else _index(self.months, last, after=True) - 1
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for cell in self.cells:
            if not low <= cell.month <= high:
                continue
            place = (cell.country, *self.items[cell.item])
            if any(place[DIMENSIONS.index(name)] != member for name, member in wanted.items()):
                continue
            total = sums[place[DIMENSIONS.index(label)]]
            total[0] += cell.quantity
            total[1] += cell.sales
        by = MEASURES.index(order)
        ranked = sorted(sums.items(), key=lambda pair: (-pair[1][by], pair[0]))
        return [
            (self.members[label][member], quantity, Decimal(sales) / MINOR_UNITS)
            for member, (quantity, sales) in ranked[:limit]
        ]

    def encoded(self) -> dict[str, Any]:
        """Return the cube for the page: plain lists, and the cells packed (see `pack`)."""
        return {
            "months": [month.isoformat() for month in self.months],
            "hasEarlier": self.has_earlier,
            "members": {name: list(values) for name, values in self.members.items()},
            "items": [list(item) for item in self.items],
            "minorUnits": MINOR_UNITS,
            "count": len(self.cells),
            "cells": pack(self.cells, len(self.members["country"]), len(self.items)),
        }


def _index(months: Sequence[date], day: date, *, after: bool = False) -> int:
    """Return the index of the first month from a day on, or of the first that begins after it."""
    return 1 + sum(1 for month in months if month < day or (after and month == day))


def load(connection: psycopg.Connection[Any], most_cells: int = MOST_CELLS) -> Cube:
    """Read the cube, with as many of the latest months as fit; earlier ones are summed up in one.

    Parameters:
        connection: to the warehouse, best in a REPEATABLE READ transaction.
        most_cells: the most cells of single months.

    Raises:
        psycopg.Error: if schema kpi is missing or may not be read.
    """
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


def pack(cells: Iterable[Cell], countries: int, items: int) -> str:
    """Pack cells for a page: base64 of zlib of variable-length integers, three a cell.

    They are the distance of its place from the one before, its pieces and its sales; a place is
    (month * countries + country) * items + item. Integers are zigzag-coded, seven bits a byte,
    the lowest first, as in Protocol Buffers.

    Parameters:
        cells: in order.
        countries: number of countries.
        items: number of items.
    """
    packed = bytearray()
    before = 0
    for cell in cells:
        place = (cell.month * countries + cell.country) * items + cell.item
        for value in (place - before, cell.quantity, cell.sales):
            rest = value << 1 if value >= 0 else (-value << 1) - 1
            while rest > 127:
                packed.append(rest & 127 | 128)
                rest >>= 7
            packed.append(rest)
        before = place
    return base64.b64encode(zlib.compress(bytes(packed), 9)).decode("ascii")
