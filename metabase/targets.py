"""Targets of sales, which business users keep in a spreadsheet."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from base.errors import UserError

ALL_COUNTRIES = "All countries"
_MONTH = re.compile(r"(\d{4})-(\d{2})(?:-01)?")


@dataclass(frozen=True)
class Target:
    """The target of a month.

    Attributes:
        line: line of the file that says it.
        month: first day of the month.
        country: name of the country, or All countries.
        sales: in the business currency.
    """

    line: int
    month: date
    country: str
    sales: Decimal


def read(path: Path) -> list[Target]:
    """Read a CSV file with the columns month, sales and country (optional).

    Raises:
        UserError: if the file cannot be read, or a line is wrong or stands there twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    header = set(rows[0]) if rows else set()
    if not {"month", "sales"} <= header <= {"month", "sales", "country"}:
        raise UserError(
            f"{path} has not the columns month, sales and, if need be, country.",
            "Write them in the first line, separated by commas.",
        )
    found: dict[tuple[date, str], Target] = {}
    for number, row in enumerate(rows, start=2):
        target = _target(path, number, row)
        other = found.setdefault((target.month, target.country), target)
        if other is not target:
            raise UserError(f"{path}, line {number}: line {other.line} has the same target.")
    return list(found.values())


def _target(path: Path, line: int, row: dict[str, str | None]) -> Target:
    month = _MONTH.fullmatch((row["month"] or "").strip())
    try:
        day = date(int(month[1]), int(month[2]), 1) if month else None
    except ValueError:
        day = None
    if day is None:
        raise UserError(
            f"{path}, line {line}: '{row['month']}' is not a month.", "Write it as 2025-03."
        )
    try:
        sales = Decimal((row["sales"] or "").strip())
        if not sales.is_finite() or not 0 <= sales < 10**12:
            raise InvalidOperation
    except InvalidOperation as error:
        raise UserError(
            f"{path}, line {line}: '{row['sales']}' is not an amount.",
            "Write digits with a point before cents, such as 250000.00.",
        ) from error
    return Target(line, day, (row.get("country") or "").strip() or ALL_COUNTRIES, sales)


def store(connection: psycopg.Connection[Any], given: list[Target]) -> None:
    """Set targets, all of them or none; others stay. Writes kpi.sales_target.

    Raises:
        UserError: if a country is unknown.
        psycopg.Error: if the login may not write the table.
    """
    known = {row[0] for row in connection.execute("SELECT country FROM kpi.country")}
    known.add(ALL_COUNTRIES)
    for one in given:
        if one.country not in known:
            raise UserError(
                f"Line {one.line}: nothing was ever sold to '{one.country}'.",
                "Countries are those of: oceanrecords kpi country",
            )
    with connection.transaction():
        connection.cursor().executemany(
            "INSERT INTO kpi.sales_target (month_start, country, sales) VALUES (%s, %s, %s)"
            " ON CONFLICT (month_start, country) DO UPDATE SET sales = excluded.sales",
            [(one.month, one.country, one.sales) for one in given],
        )


def stored(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Return the targets, in order of month and country."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT month_start AS month, country, sales FROM kpi.sales_target"
            " ORDER BY month_start, country"
        ).fetchall()
