"""What the page shows: the questions' answers, for every choice that a file offers.

All figures are the database's. A file offers the periods of `kpi.period` and as many filters as
fit, one value at a time, and has the answer to each choice. A served page offers all, and asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from base.errors import UserError
from metabase.definition import Dashboard, Filter, Question
from metabase.warehouse import Meaning, meanings

MOST_ANSWERS = 1000
_SQL = Path(__file__).parent / "sql"
_PERIODS = ("date", "month", "quarter")

Answer = list[list[Any]]


@dataclass(frozen=True)
class Period:
    """A period that the page offers.

    Attributes:
        kind: 'preset', 'quarter' or 'month'.
        period: its name.
        first_day: its first day.
        last_day: its last day.
    """

    kind: str
    period: str
    first_day: date
    last_day: date


@dataclass(frozen=True)
class Clock:
    """The row of kpi.freshness with the time of reading, and the periods that a page offers."""

    freshness: Mapping[str, Any]
    periods: tuple[Period, ...]


@dataclass(frozen=True)
class Tile:
    """A question with what the page needs to answer it.

    Attributes:
        question: the question.
        choices: keys of the filters by whose values `answers` is keyed, in this order.
        cuts: whether the page leaves out the periods of a chart that lie outside of the chosen one.
        answers: rows by values of `choices` ('' is no choice).
    """

    question: Question
    choices: tuple[str, ...] = ()
    cuts: bool = False
    answers: Mapping[tuple[str, ...], Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        dashboard: the definition.
        is_served: whether a server stands behind it.
        tiles: in reading order.
        filters: those that are offered, besides the period.
        values: what each of them offers, if it is a list.
        clock: freshness and periods.
        meanings: definitions of the figures, by name.
    """

    dashboard: Dashboard
    is_served: bool
    tiles: tuple[Tile, ...]
    filters: tuple[Filter, ...]
    values: Mapping[str, tuple[str, ...]]
    clock: Clock
    meanings: Mapping[str, Meaning]

    @property
    def ends(self) -> tuple[str, ...]:
        """The keys of the filters that are the first and the last day of the period."""
        return _ends(self.dashboard)


def gather(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    *,
    served: bool = False,
    clock: Clock | None = None,
) -> Page:
    """Ask all questions, on one snapshot of the warehouse.

    Parameters:
        connection: autocommit connection to the warehouse; schema kpi is all that is read.
        dashboard: the definition, already checked against the database.
        served: whether a server answers the choices of filters; the page then carries none.
        clock: that of another page, for a login that does not read schema kpi.

    Raises:
        UserError: if the definition has no question on the grid.
        psycopg.Error: if a question fails, or schema kpi is missing.
    """
    if not dashboard.tiles:
        raise UserError("No question of the dashboard has a place on the grid.")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        known = {} if clock else meanings(connection)
        clock = clock or read_clock(connection, served=served, has_periods=bool(dashboard.period))
        values = {
            key: _values(connection, dashboard, one)
            for key, one in dashboard.filters.items()
            if one.source
        }
        ends = _ends(dashboard)
        filters = tuple(
            one
            for key, one in dashboard.filters.items()
            if key in values or (served and one.type == "date" and key not in ends)
        )
        if not served:
            filters = _fitting(dashboard, filters, values, 1 + len(clock.periods))
        offered = {key: ("", *values.get(key, ())) for key in (one.key for one in filters)}
        tiles = tuple(
            _tile(connection, question, ends, offered, None if served else clock.periods)
            for question, _ in dashboard.tiles
        )
    return Page(dashboard, served, tiles, filters, values, clock, known)


def read_clock(
    connection: psycopg.Connection[Any], *, served: bool, has_periods: bool = True
) -> Clock:
    """Return the freshness of the warehouse, and the periods that a page offers.

    Parameters:
        served: a file offers the quarters and months of the last year, a served page all of them.
        has_periods: whether periods are asked for; a warehouse may have no kpi.period.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        freshness = cursor.execute((_SQL / "preview_freshness.sql").read_bytes()).fetchone()
    assert freshness is not None
    with connection.cursor(row_factory=class_row(Period)) as cursor:
        statement = (_SQL / "preview_periods.sql").read_bytes()
        periods = cursor.execute(statement, {"is_served": served}) if has_periods else ()
        return Clock(freshness, tuple(periods))


def ask(
    connection: psycopg.Connection[Any], question: Question, chosen: Mapping[str, Any]
) -> Answer:
    """Return a question's answer, in the columns and the order of its definition.

    Parameters:
        chosen: value by key of the filter; several values are a list.
    """
    statement, parameters = question.compile(chosen)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement.encode(), parameters).fetchall()
    return [[_plain(row[name]) for name in question.columns] for row in rows]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _values(
    connection: psycopg.Connection[Any], dashboard: Dashboard, one: Filter
) -> tuple[str, ...]:
    assert one.source is not None
    question = dashboard.questions[one.source.question]
    column = list(question.columns).index(one.source.column)
    return tuple(str(row[column]) for row in ask(connection, question, {}) if row[column])


def _ends(dashboard: Dashboard) -> tuple[str, ...]:
    """Return the keys of the filters that are the two ends of the period."""
    return (dashboard.period.first, dashboard.period.last) if dashboard.period else ()


def _has_axis(question: Question) -> bool:
    """Tell whether the rows of a question are periods."""
    return question.x is not None and question.columns[question.x].format in _PERIODS


def _fitting(
    dashboard: Dashboard,
    filters: Iterable[Filter],
    values: Mapping[str, Sequence[str]],
    periods: int,
) -> tuple[Filter, ...]:
    """Return the filters that a file can offer: as many as fit, in the order of the definition.

    Parameters:
        periods: number of periods, none included, that a tile without an axis has answers for.
    """
    ends = set(_ends(dashboard))
    sizes = {
        question.key: 1 if _has_axis(question) or ends.isdisjoint(question.follows) else periods
        for question, _ in dashboard.tiles
    }
    found = []
    for one in filters:
        grown = {
            question.key: sizes[question.key] * (1 + len(values[one.key]))
            for question, _ in dashboard.tiles
            if one.key in question.follows
        }
        if all(size <= MOST_ANSWERS for size in grown.values()):
            sizes |= grown
            found.append(one)
    return tuple(found)


def _tile(
    connection: psycopg.Connection[Any],
    question: Question,
    ends: Sequence[str],
    offered: Mapping[str, Sequence[str]],
    periods: Iterable[Period] | None,
) -> Tile:
    """Ask a question, without a choice and for each choice that a file offers.

    Parameters:
        ends: keys of the filters that are the ends of the period.
        offered: values of the other filters that the page offers, by key; '' is no choice.
        periods: the periods that a file offers; None for a served page, which asks for each choice.
    """
    days = [key for key in ends if key in question.follows]
    cuts = bool(days) and _has_axis(question)
    if cuts:
        days = []
    keys = [key for key in offered if key in question.follows]
    choices = (*days, *keys)
    combinations: Iterable[tuple[str, ...]] = [("",) * len(choices)]
    if periods is not None:
        spans = [("", ""), *((f"{one.first_day}", f"{one.last_day}") for one in periods)]
        chosen = [dict(zip(ends, span, strict=False)) for span in spans]
        firsts = dict.fromkeys(tuple(one[key] for key in days) for one in chosen)
        rests = itertools.product(*(offered[key] for key in keys))
        combinations = [(*first, *rest) for first, rest in itertools.product(firsts, rests)]
    answers = {
        values: ask(connection, question, dict(zip(choices, values, strict=True)))
        for values in combinations
    }
    return Tile(question, choices, cuts, answers)
