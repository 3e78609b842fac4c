"""What the offline page shows: the questions' answers, for every choice of the filters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row

from driver.errors import UserError
from metabase import preview_cube
from metabase.definition import CHARTS, Dashboard, Filter, Question
from metabase.preview_cube import DIMENSIONS, MEASURES, Cube

MOST_CHOICES = 500
_SQL = Path(__file__).parent / "sql"
_PERIODS = ("date", "month", "quarter")

Bound = Literal["lower", "upper"]
Answer = list[list[Any]]


@dataclass(frozen=True)
class Ranking:
    """How the page calculates a table from the cube.

    Attributes:
        label: dimension of the rows.
        order: measure that decides.
        limit: most rows; None for all.
    """

    label: str
    order: str
    limit: int | None


@dataclass(frozen=True)
class Tile:
    """A question with what the page needs to answer it.

    Attributes:
        question: the question.
        choices: keys of the filters by whose values `answers` is keyed, in this order.
        bounds: for each date filter that the tile follows, which end of the range it is.
        ignored: keys of filters that the question follows but the page cannot.
        answers: rows by values of `choices` ('' is no choice).
        ranking: set when the page calculates the rows from the cube.
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
        cube: for the rankings.
        freshness: the row of kpi.freshness, with the moment at which all was read.
    """

    dashboard: Dashboard
    tiles: tuple[Tile, ...]
    values: Mapping[str, tuple[str, ...]]
    cube: Cube
    freshness: Mapping[str, Any]

    @property
    def months(self) -> tuple[date, ...]:
        """The months that a range may begin or end with, those of the cube and of the charts."""
        found = set(self.cube.months)
        for tile in self.tiles:
            found.update(_months_of(tile))
        first = self.cube.months[0] if self.cube.has_earlier else date.min
        return tuple(sorted(month for month in found if month >= first))


def gather(
    connection: psycopg.Connection[Any],
    dashboard: Dashboard,
    most_cells: int = preview_cube.MOST_CELLS,
) -> Page:
    """Ask all questions, on one snapshot of the warehouse.

    Parameters:
        connection: autocommit connection to the warehouse; schema kpi is all that is read.
        dashboard: the definition, already checked against the database.
        most_cells: the most cells of single months that the rankings may add up.

    Raises:
        UserError: if the definition has no question on the grid.
        psycopg.Error: if a question fails, or schema kpi is missing.
    """
    if not dashboard.tiles:
        raise UserError("No question of the dashboard has a place on the grid.")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        with connection.cursor(row_factory=dict_row) as cursor:
            freshness = cursor.execute((_SQL / "preview_freshness.sql").read_bytes()).fetchone()
        assert freshness is not None
        values = {
            key: _values(connection, dashboard, one)
            for key, one in dashboard.filters.items()
            if one.source
        }
        cube = preview_cube.load(connection, most_cells)
        tiles = tuple(
            _tile(connection, dashboard, question, values, cube) for question, _ in dashboard.tiles
        )
    return Page(dashboard, tiles, values, cube, freshness)


def ask(
    connection: psycopg.Connection[Any], question: Question, chosen: Mapping[str, Any]
) -> Answer:
    """Return a question's answer, in the columns and the order of its definition.

    Parameters:
        connection: to the warehouse.
        question: the question.
        chosen: value by key of the filter.
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
    cube: Cube,
) -> Tile:
    used = dashboard.filters_of(question)
    dates = tuple(one.key for one in used if one.type == "date")
    texts = tuple(one.key for one in used if one.key in values)
    free = tuple(one.key for one in used if one.type == "text" and one.key not in values)
    bounds = _bounds(connection, question, dates)
    ranking = _ranking(connection, question, cube, texts, bounds) if len(bounds) == 2 else None
    if ranking:
        return Tile(question, texts, bounds, free, ranking=ranking)
    if question.x is None or question.columns[question.x].format not in _PERIODS:
        free, bounds = (*free, *dates), {}
    else:
        free = (*free, *(key for key in dates if key not in bounds))
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


def _bounds(
    connection: psycopg.Connection[Any], question: Question, dates: Sequence[str]
) -> dict[str, Bound]:
    """Find out which end of a range each date filter is: nothing lies beyond either end."""
    found: dict[str, Bound] = {}
    ends: tuple[tuple[date, Bound], ...] = ((date(9999, 12, 1), "lower"), (date(1, 1, 1), "upper"))
    for key in dates:
        empty = [bound for day, bound in ends if not ask(connection, question, {key: day})]
        if len(empty) == 1:
            found[key] = empty[0]
        elif len(empty) == 2:
            # An empty warehouse tells nothing; there is nothing to narrow down either.
            found[key] = "upper" if "lower" in found.values() else "lower"
    return found


def _ranking(
    connection: psycopg.Connection[Any],
    question: Question,
    cube: Cube,
    texts: Sequence[str],
    bounds: Mapping[str, Bound],
) -> Ranking | None:
    """Return how the page ranks, if the question is a ranking of the cube and the two agree."""
    labels = [name for name in question.columns if name in DIMENSIONS]
    measures = [name for name in question.columns if name in MEASURES]
    if (
        question.display in CHARTS
        or len(labels) != 1
        or not measures
        or len(labels) + len(measures) != len(question.columns)
        or any(key not in DIMENSIONS for key in texts)
    ):
        return None
    order = next((name for name in measures if question.columns[name].bar), measures[-1])
    everything = ask(connection, question, {})
    groups = len(cube.rank(labels[0], order, None))
    limit = len(everything) if len(everything) < groups else None
    ranking = Ranking(labels[0], order, limit)
    for chosen in _samples(cube, texts, bounds):
        if ranked(cube, question, ranking, chosen, bounds) != ask(connection, question, chosen):
            return None
    return ranking


def _samples(cube: Cube, texts: Sequence[str], bounds: Mapping[str, Bound]) -> list[dict[str, Any]]:
    """Return some choices of the filters to compare by: none, each alone, all together."""
    singles: dict[str, Any] = {
        key: cube.members[key][len(cube.members[key]) // 2] for key in texts if cube.members[key]
    }
    if cube.months:
        middle = len(cube.months) // 2
        for key, bound in bounds.items():
            singles[key] = cube.months[middle if bound == "lower" else -1]
    return [{}, *({key: value} for key, value in singles.items()), singles]


def ranked(
    cube: Cube,
    question: Question,
    ranking: Ranking,
    chosen: Mapping[str, Any],
    bounds: Mapping[str, Bound],
) -> Answer:
    """Return what the page shows of a ranking for values of the filters."""
    ends = {bound: chosen.get(key) for key, bound in bounds.items()}
    rows = cube.rank(
        ranking.label,
        ranking.order,
        ranking.limit,
        first=ends.get("lower"),
        last=ends.get("upper"),
        chosen={key: value for key, value in chosen.items() if key not in bounds},
    )
    return [
        [
            _plain({ranking.label: label, "quantity": quantity, "sales": sales}[name])
            for name in question.columns
        ]
        for label, quantity, sales in rows
    ]


def _months_of(tile: Tile) -> set[date]:
    """Return the months in a tile's answer, where months are its axis."""
    question = tile.question
    if question.x is None or question.columns[question.x].format != "month":
        return set()
    column = list(question.columns).index(question.x)
    return {
        date.fromisoformat(row[column]).replace(day=1)
        for answer in tile.answers.values()
        for row in answer
        if row[column]
    }
