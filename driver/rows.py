"""Rows of any query as a table."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from base import output


def rows_table(rows: list[dict[str, Any]], *, indent: int = 0) -> output.Table:
    """Return rows as a table: numbers to the right, timestamps and durations readable.

    Parameters:
        rows: at least one, all with the same columns.
        indent: blanks in front of each line.
    """
    columns = list(rows[0])
    numeric = [
        column
        for column in columns
        if any(
            isinstance(row[column], int | float | Decimal | timedelta)
            and not isinstance(row[column], bool)
            for row in rows
        )
    ]
    table = output.table(*columns, right=numeric, indent=indent)
    for row in rows:
        table.add_row(*(cell(name, row[name]) for name in columns))
    return table


def cell(name: str, value: Any) -> str:
    """Return a value for people; a number that is a name, such as a key, has no separators."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return output.moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return output.seconds(value)
    if isinstance(value, int):
        is_name = name.endswith(("_key", "_id", "year", "year_number"))
        return str(value) if is_name else f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.2f}"
    return str(value)


def key(value: Any) -> str:
    """Return a business key, which the database gives as JSON, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)
