"""What the offline page shows: the questions' answers, for every choice of the filters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row

from base.errors import UserError
from metabase import preview_cube
from metabase.definition import Dashboard, Filter, Question, Ranking
from metabase.preview_cube import Cube
from metabase.warehouse import Meaning, meanings

MOST_CHOICES = 500
_SQL = Path(__file__).parent / "sql"
_PERIODS = ("date", "month", "quarter")

Bound = Literal["lower", "upper"]
Answer = list[list[Any]]


@dataclass(frozen=True)
class Tile:
    """A question with what the page needs to answer it.

    Attributes:
        question: the question.
        choices: keys of the filters by whose values `answers` is keyed, in this order.
        bounds: for each date filter that the tile follows, which end of the range it is.
        ignored: keys of filters that the question follows but the page cannot.
        answers: rows by values of `choices` ('' is no choice). A ranking has those of periods that
            are not whole months, by first day, last day and values.
        ranking: set when the page adds the rows up from the cube.
    """

    question: Question
    choices: tuple[str, ...] = ()
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    answers: Mapping[tuple[str, ...], Answer] = field(default_factory=dict)
    ranking: Ranking | None = None


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Attributes:
        dashboard: the definition.
        tiles: in reading order.
        values: what each text filter offers.
        cube: for the rankings; None without any.
        freshness: the row of kpi.freshness, with the time at which all was read.
        meanings: definitions of the figures, by name.
    """

    dashboard: Dashboard
    tiles: tuple[Tile, ...]
    values: Mapping[str, tuple[str, ...]]
    cube: Cube | None
    freshness: Mapping[str, Any]
    meanings: Mapping[str, Meaning]

    @property
    def months(self) -> tuple[date, ...]:
        """The months that a range may begin or end with: all that have business and are carried."""
        month: date = self.freshness["first_day"].replace(day=1)
        if self.cube and self.cube.has_earlier:
            month = self.cube.months[0]
        last = max([self.freshness["today"], *(self.cube.months if self.cube else ())])
        found = []
        while month <= last:
            found.append(month)
            month = next_month(month)
        return tuple(found)


def next_month(month: date) -> date:
    """Return the first day of the next month."""
    return (month.replace(day=1) + timedelta(days=31)).replace(day=1)


def gather(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    most_cells: int = preview_cube.MOST_CELLS,
    *,
    served: bool = False,
    freshness: Mapping[str, Any] | None = None,
) -> Page:
    """Ask all questions, on one snapshot of the warehouse.

    Parameters:
        connection: autocommit connection to the warehouse; schema kpi is all that is read.
        dashboard: the definition, already checked against the database.
        most_cells: the most cells of single months that the rankings may add up.
        served: whether a server answers the choices of filters; the page then carries none.
        freshness: that of another page, for a login that does not read schema kpi.

    Raises:
        UserError: if the definition has no question on the grid.
        psycopg.Error: if a question fails, or schema kpi is missing.
    """
    if not dashboard.tiles:
        raise UserError("No question of the dashboard has a place on the grid.")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        known = {} if freshness else meanings(connection)
        freshness = freshness or read_freshness(connection)
        values = {
            key: _values(connection, dashboard, one)
            for key, one in dashboard.filters.items()
            if one.source
        }
        has_ranking = any(question.ranking for question, _ in dashboard.tiles)
        cube = preview_cube.load(connection, most_cells) if has_ranking else None
        bounds = _bounds(connection, dashboard)
        periods = () if served else _day_periods(freshness)
        tiles = tuple(
            _ranking(connection, dashboard, question, values, bounds, periods)
            if question.ranking
            else _tile(connection, dashboard, question, values, bounds, served=served)
            for question, _ in dashboard.tiles
        )
    return Page(dashboard, tiles, values, cube, freshness, known)


def read_freshness(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return the row of kpi.freshness, with the time of reading."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute((_SQL / "preview_freshness.sql").read_bytes()).fetchone()
    assert row is not None
    return row


def _day_periods(freshness: Mapping[str, Any]) -> tuple[tuple[date, date], ...]:
    """Return the periods whose rankings months cannot tell: the last 30 days, the current month."""
    until: date = freshness["whole_until"]
    one_day = timedelta(days=1)
    return (
        (until - 30 * one_day, until - one_day),
        (until.replace(day=1), next_month(until) - one_day),
    )


def _ranking(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    question: Question,
    values: Mapping[str, tuple[str, ...]],
    bounds: Mapping[str, Bound],
    periods: Sequence[tuple[date, date]],
) -> Tile:
    """Return a ranking, with the answers of periods of days for one choice at a time."""
    used = [one.key for one in dashboard.filters_of(question)]
    texts = [key for key in used if key in values]
    own = {key: bounds[key] for key in used if key in bounds}
    ignored = tuple(key for key in used if key not in texts and key not in own)
    ends = {end: key for key, end in own.items()}
    answers: dict[tuple[str, ...], Answer] = {}
    if set(ends) == {"lower", "upper"}:
        choices = [{key: value} for key in texts[:2] for value in values[key]]
        for first, last in periods:
            for chosen in ({}, *choices):
                key = (first.isoformat(), last.isoformat(), *(chosen.get(k, "") for k in texts))
                given = {ends["lower"]: first, ends["upper"]: last, **chosen}
                answers[key] = ask(connection, question, given)
    return Tile(question, tuple(texts), own, ignored, answers, question.ranking)


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


def _tile(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    question: Question,
    values: Mapping[str, tuple[str, ...]],
    known: Mapping[str, Bound],
    *,
    served: bool,
) -> Tile:
    used = dashboard.filters_of(question)
    dates = tuple(one.key for one in used if one.type == "date")
    texts = tuple(one.key for one in used if one.key in values)
    free = tuple(one.key for one in used if one.type == "text" and one.key not in values)
    bounds = {key: known[key] for key in dates if key in known}
    single = tuple(key for key in dates if key not in bounds)
    if question.x is None or question.columns[question.x].format not in _PERIODS:
        single, bounds = (*single, *bounds), {}
    if served:
        return Tile(
            question,
            (*texts, *single),
            bounds,
            free,
            {("",) * len((*texts, *single)): ask(connection, question, {})},
        )
    free = (*free, *single)
    choices: list[str] = []
    combinations = 1
    for key in texts:
        combinations *= len(values[key]) + 1
        if combinations > MOST_CHOICES:
            free = (*free, key)
        else:
            choices.append(key)
    answers = {
        combination: ask(
            connection, question, {k: v or None for k, v in zip(choices, combination, strict=True)}
        )
        for combination in itertools.product(*(("", *values[key]) for key in choices))
    }
    return Tile(question, tuple(choices), bounds, free, answers)


def _bounds(connection: psycopg.Connection[Any], dashboard: Dashboard) -> dict[str, Bound]:
    """Find out which end of a range each date filter is: nothing lies beyond either end."""
    found: dict[str, Bound] = {}
    ends: tuple[tuple[date, Bound], ...] = ((date(9999, 12, 1), "lower"), (date(1, 1, 1), "upper"))
    for question in dashboard.questions.values():
        if question.x is None:
            continue
        for key in question.filters.values():
            if dashboard.filters[key].type != "date" or key in found:
                continue
            empty = [bound for day, bound in ends if not ask(connection, question, {key: day})]
            if len(empty) == 1:
                found[key] = empty[0]
    return found
