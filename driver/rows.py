"""Rows of any query as a table, and values of JSON as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from base import output


def rows_table(
    rows: list[dict[str, Any]], *, indent: int = 0, decimals: Mapping[str, int] | None = None
) -> output.Table:
    """Return rows as a table: numbers to the right, timestamps and durations readable.

    Parameters:
        rows: at least one, all with the same columns.
        indent: blanks in front of each line.
        decimals: digits after the point, by column; two for all others.
    """
    numeric = [name for name in rows[0] if any(output.is_number(row[name]) for row in rows)]
    table = output.table(*rows[0], right=numeric, indent=indent)
    for row in rows:
        table.add_row(
            *(_cell(name, value, (decimals or {}).get(name, 2)) for name, value in row.items())
        )
    return table


def _cell(name: str, value: Any, decimals: int) -> str:
    """Return a value for people; a number that is a name, such as a key, has no separators."""
    if not output.is_number(value):
        return output.shown(value)
    if isinstance(value, int):
        is_name = name.endswith(("_key", "_id", "year", "year_number"))
        return str(value) if is_name else f"{value:,}"
    if isinstance(value, Decimal):
        # A sum of whole numbers is a number without decimals.
        return f"{value:,}" if value.as_tuple().exponent == 0 else f"{value:,.{decimals}f}"
    return f"{value:,.2f}" if isinstance(value, float) else output.shown(value)


def plain(value: Any) -> str:
    """Return a value that the database gives as JSON, such as a business key or a row."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, str | Decimal):
        return str(value)
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False)
