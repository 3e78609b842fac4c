"""The dashboard's definition: `dashboard.yaml` and a .sql file a question, read and validated.

dashboard = load()                      # the one that travels with the program
for question in dashboard.tiles: …      # those with a place on the grid
compile(question.sql, {"from": …})      # see metabase.questions
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import jsonschema
import yaml

from base.errors import UserError
from metabase import questions as template

GRID_COLUMNS = 24
FOLDER = Path(__file__).parent
FILE = "dashboard.yaml"

Display = Literal["table", "line", "bar", "area", "row", "cards"]
Format = Literal[
    "text",
    "number",
    "money",
    "change",
    "percent",
    "share",
    "points",
    "hours",
    "date",
    "month",
    "quarter",
    "boolean",
    "sparkline",
    "values",
]
FilterType = Literal["date", "text"]
CHARTS = ("line", "bar", "area", "row")

_Made = TypeVar("_Made")

_DECIMALS: dict[str, int] = {
    "number": 0,
    "money": 0,
    "change": 0,
    "percent": 1,
    "share": 1,
    "points": 2,
    "hours": 1,
}


@dataclass(frozen=True)
class Problem:
    """One fault of a definition.

    Attributes:
        file: file that has it, as the reader would name it.
        question: key of the question, or None when it is the dashboard's.
        key: key within it, such as 'position.width'.
        message: what is wrong, without the place.
        hint: the way out.
    """

    file: str
    question: str | None
    key: str | None
    message: str
    hint: str

    def __str__(self) -> str:
        place = [self.file]
        if self.question:
            place.append(f"question {self.question}")
        if self.key:
            place.append(self.key)
        return f"{', '.join(place)}: {self.message}"


class DefinitionError(UserError):
    """A definition that must not be sent anywhere.

    Parameters:
        problems: all that was found, at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        first, *others = self.problems
        detail = "; ".join(str(problem) for problem in others) or None
        super().__init__(str(first), first.hint, detail=detail and f"also: {detail}")


@dataclass(frozen=True)
class Position:
    """A place on the grid of 24 columns, in its units.

    Attributes:
        row: from the top, from 0.
        column: from the left, from 0.
        width: columns.
        height: rows.
    """

    row: int
    column: int
    width: int
    height: int

    def overlaps(self, other: Position) -> bool:
        """Tell whether two places share a cell."""
        return (
            self.column < other.column + other.width
            and other.column < self.column + self.width
            and self.row < other.row + other.height
            and other.row < self.row + self.height
        )


@dataclass(frozen=True)
class Column:
    """A column of a question's answer, and how it is shown.

    Attributes:
        name: name in the answer.
        title: heading.
        format: what the values are. Percent is a change, share a part of a whole; both, and points,
            are in hundredths already (12.5 is 12.5 %). Change is money with a sign. Values are the
            numbers behind a sparkline.
        decimals: digits after the point.
        hidden: not shown in a table.
        bar: a table draws a small bar next to the number.
    """

    name: str
    title: str
    format: Format
    decimals: int
    hidden: bool = False
    bar: bool = False


@dataclass(frozen=True)
class Goal:
    """A horizontal line in a chart."""

    value: float
    label: str


@dataclass(frozen=True)
class Click:
    """What a click on a value does: it sets a filter of the dashboard to it.

    Attributes:
        column: column of the answer whose value is taken.
        filter: key of the filter.
    """

    column: str
    filter: str


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        key: stays when the name changes; also the name of its file.
        name: title.
        description: what it shows, for the reader.
        display: how it is shown.
        sql: its SQL, with `{{variables}}` and `[[optional clauses]]`.
        file: the file of the SQL.
        columns: the columns it returns, by name, in the order to show.
        position: place on the grid; None for a question that only feeds a filter.
        x: column along the axis, of a chart.
        y: columns that are drawn, of a chart.
        goal: a line to compare with.
        filters: filter's key by variable.
        figures: names of the figures that it shows; kpi.definition says what they mean.
        click: what a click on a value does.
        visualization: settings for Metabase beyond those derived; None removes a derived one.
    """

    key: str
    name: str
    description: str
    display: Display
    sql: str
    file: Path
    columns: Mapping[str, Column]
    position: Position | None = None
    x: str | None = None
    y: tuple[str, ...] = ()
    goal: Goal | None = None
    filters: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    click: Click | None = None
    visualization: Mapping[str, Any] = field(default_factory=dict)

    @property
    def follows(self) -> frozenset[str]:
        """Keys of the filters that change its answer."""
        return frozenset(self.filters.values())

    def values(self, filter_values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the variables, given those of the dashboard's filters."""
        return {tag: filter_values.get(key) for tag, key in self.filters.items()}

    def compile(self, filter_values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return statement and parameters for psycopg, given the values of the filters."""
        return template.compile(self.sql, self.values(filter_values))


@dataclass(frozen=True)
class Source:
    """Where the values come from that a filter offers: a question, and a column of its answer."""

    question: str
    column: str


@dataclass(frozen=True)
class Filter:
    """A filter above the dashboard.

    Attributes:
        key: what questions map their variables to.
        name: label.
        type: 'date' (one day) or 'text'.
        source: the question whose values are offered; None for a free entry.
    """

    key: str
    name: str
    type: FilterType
    source: Source | None = None


@dataclass(frozen=True)
class Collection:
    """The folder in Metabase that holds it all."""

    key: str
    name: str
    description: str


@dataclass(frozen=True)
class Period:
    """One filter of Metabase in place of two dates: it knows 'last 12 months' and the like.

    Attributes:
        name: label.
        first: key of the filter that is the first day.
        last: key of the filter that is the last day.
        default: what is chosen at first, in Metabase's words, such as 'past12months~'.
    """

    name: str
    first: str
    last: str
    default: str


@dataclass(frozen=True)
class Subscription:
    """The dashboard by e-mail, once a day.

    Attributes:
        hour: hour of the day, from 0 to 23, in Metabase's time zone.
    """

    hour: int


@dataclass(frozen=True)
class Alert:
    """An e-mail whenever a question has an answer.

    Attributes:
        question: key of the question, which has rows only when there is something to say.
        hour: hour of the day at which it is asked, from 0 to 23, in Metabase's time zone.
    """

    question: str
    hour: int


@dataclass(frozen=True)
class Dashboard:
    """The whole definition.

    Attributes:
        key: stays when the name changes.
        name: title.
        description: what it is for.
        currency: ISO 4217 code of all amounts; empty until the warehouse is asked
            (`metabase.warehouse.resolve`), unless the definition demands one.
        group: the users that may look at it.
        collection: where it lives.
        filters: by key, in the order to show.
        questions: by key.
        folder: where the definition was read from.
        period: the two date filters that Metabase shows as one; None for none.
        subscription: the dashboard by e-mail; None for none.
        alert: an e-mail when a question has an answer; None for none.
    """

    key: str
    name: str
    description: str
    currency: str
    group: str
    collection: Collection
    filters: Mapping[str, Filter]
    questions: Mapping[str, Question]
    folder: Path
    period: Period | None = None
    subscription: Subscription | None = None
    alert: Alert | None = None

    @property
    def tiles(self) -> tuple[tuple[Question, Position], ...]:
        """The questions that have a place on the grid, with it, from top left to bottom right."""
        placed = [(one, one.position) for one in self.questions.values() if one.position]
        return tuple(sorted(placed, key=lambda pair: (pair[1].row, pair[1].column)))

    def filters_of(self, question: Question) -> tuple[Filter, ...]:
        """Return the filters that change a question's answer."""
        return tuple(one for key, one in self.filters.items() if key in question.follows)


def default_decimals(format_: str) -> int:
    """Return the digits after the point of a format that does not say."""
    return _DECIMALS.get(format_, 0)


def load(folder: Path | None = None) -> Dashboard:
    """Read a definition and validate it, as far as that needs no database.

    Parameters:
        folder: holds `dashboard.yaml` and `questions/`; None for the one that travels with the
            program.

    Returns:
        The definition; `metabase.warehouse.check_questions` then asks the database for its columns.

    Raises:
        DefinitionError: with everything that is wrong, each with file, question and key.
        UserError: if a file cannot be read.
    """
    folder = folder or FOLDER
    path = folder / FILE
    raw = _read_yaml(path)
    label = _label(path)
    problems = [_schema_problem(label, error) for error in _validator().iter_errors(raw)]
    if problems:
        raise DefinitionError(problems)
    dashboard = _build(raw, folder)
    problems = list(_problems(dashboard, label))
    if problems:
        raise DefinitionError(problems)
    return dashboard


# -- reading --------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that stands twice, of which one would vanish without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands there twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read_yaml(path: Path) -> Any:
    try:
        # A subclass of SafeLoader: it makes plain values only.
        return yaml.load(_read(path), Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{_label(path)}{line}: {error.problem or 'this is not YAML'}.",
            "Check the indentation and the quotes there.",
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{_label(path)} is not YAML.", detail=str(error)) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{_label(path)} does not exist.", "Name the folder that has it with --definition."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{_label(path)} cannot be read: {error}.") from error


def _label(path: Path) -> str:
    """Name a file as people know it: from the folder that holds the definition."""
    base = path.parent if path.name == FILE else path.parent.parent
    return f"{base.name}/{path.relative_to(base)}"


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / "definition.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _schema_problem(label: str, error: jsonschema.ValidationError) -> Problem:
    path = [str(part) for part in error.absolute_path]
    question = path[1] if len(path) > 1 and path[0] == "questions" else None
    key = ".".join(path[2:] if question else path) or None
    return Problem(label, question, key, _sentence(error), _schema_hint(error))


def _sentence(error: jsonschema.ValidationError) -> str:
    value = json.dumps(error.instance, ensure_ascii=False, default=str)
    shown = value if len(value) <= 60 else f"{value[:57]}…"
    rule: Any = error.validator_value
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        unknown = [key for key in instance if key not in _properties(error)]
        return f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(map(str, unknown))}"
    if error.validator == "required":
        missing = [key for key in rule if key not in instance]
        return f"{', '.join(missing)} is missing"
    if error.validator == "enum":
        return f"{shown} is none of {', '.join(rule)}"
    if error.validator == "type":
        return f"{shown} is not of type {rule}"
    if error.validator == "pattern":
        return f"{shown} is not of the form {rule}"
    return error.message


def _schema_hint(error: jsonschema.ValidationError) -> str:
    properties = _properties(error)
    if error.validator in ("additionalProperties", "required") and properties:
        return f"Keys there are: {', '.join(properties)}."
    return "metabase/definition.schema.json says what may stand there."


def _properties(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    schema = error.schema
    return schema.get("properties", {}) if isinstance(schema, Mapping) else {}


def _build(raw: Mapping[str, Any], folder: Path) -> Dashboard:
    filters = {
        key: Filter(key, one["name"], one["type"], _optional(Source, one.get("values")))
        for key, one in raw["filters"].items()
    }
    return Dashboard(
        key=raw["key"],
        name=raw["name"],
        description=raw["description"].strip(),
        currency=raw.get("currency", ""),
        group=raw["group"],
        collection=Collection(
            raw["collection"]["key"],
            raw["collection"]["name"],
            raw["collection"]["description"].strip(),
        ),
        filters=filters,
        questions={key: _question(key, one, folder) for key, one in raw["questions"].items()},
        folder=folder,
        period=_optional(Period, raw.get("period")),
        subscription=_optional(Subscription, raw.get("subscription")),
        alert=_optional(Alert, raw.get("alert")),
    )


def _question(key: str, raw: Mapping[str, Any], folder: Path) -> Question:
    path = folder / "questions" / f"{key}.sql"
    return Question(
        key=key,
        name=raw["name"],
        description=raw["description"].strip(),
        display=raw["display"],
        sql=_read(path).strip(),
        file=path,
        columns={
            name: Column(name, **{"decimals": default_decimals(one["format"]), **one})
            for name, one in raw["columns"].items()
        },
        position=_optional(Position, raw.get("position")),
        x=raw.get("x"),
        y=tuple(raw.get("y", ())),
        goal=_optional(Goal, raw.get("goal")),
        filters=dict(raw.get("filters", {})),
        figures=tuple(raw.get("figures", ())),
        click=_optional(Click, raw.get("click")),
        visualization=dict(raw.get("visualization", {})),
    )


def _optional(make: Callable[..., _Made], raw: Mapping[str, Any] | None) -> _Made | None:
    return None if raw is None else make(**raw)


# -- validating -----------------------------------------------------------------------------------


# Key within the question or the dashboard, what is wrong, the way out.
_Fault = tuple[str | None, str, str]


def _problems(dashboard: Dashboard, label: str) -> Iterable[Problem]:
    names: dict[str, str] = {}
    for one in dashboard.questions.values():
        for fault in _sql_faults(one, dashboard):
            yield Problem(_label(one.file), one.key, *fault)
        faults = (_chart_faults(one), _filter_faults(one, dashboard), _click_faults(one, dashboard))
        for fault in itertools.chain(*faults):
            yield Problem(label, one.key, *fault)
        other = names.setdefault(one.name.casefold(), one.key)
        if other != one.key:
            message = f"question {other} is called '{one.name}' too"
            yield Problem(label, one.key, "name", message, "Give one of them another name.")
    yield from _grid_problems(dashboard, label)
    for fault in _dashboard_faults(dashboard):
        yield Problem(label, None, *fault)
    for path in sorted((dashboard.folder / "questions").glob("*.sql")):
        if path.stem not in dashboard.questions:
            hint = f"Add a question '{path.stem}' to {FILE}, or remove the file."
            yield Problem(
                _label(path), None, None, "no question of the dashboard has this file", hint
            )


def _there_are(what: str, names: Iterable[str]) -> str:
    return f"{what} are: {', '.join(names) or 'none'}."


def _sql_faults(question: Question, dashboard: Dashboard) -> Iterable[_Fault]:
    if not question.sql:
        yield None, "the file is empty", "Write a SELECT there."
        return
    try:
        tags = template.tags(question.sql)
    except template.TemplateError as error:
        hint = "Variables are written {{name}}, optional clauses [[AND column = {{name}}]]."
        yield f"line {error.line}", error.message, hint
        return
    if question.sql.rstrip().endswith(";"):
        hint = "Remove it: Metabase puts the statement into others."
        yield None, "the statement ends with a semicolon", hint
    for tag in tags:
        if tag not in question.filters:
            message = f"the variable {{{{{tag}}}}} is mapped to no filter"
            filters = _there_are("filters", dashboard.filters)
            yield "filters", message, f"Add '{tag}: FILTER' to the question's filters; {filters}"
    for tag in template.required_tags(question.sql):
        message = f"the variable {{{{{tag}}}}} stands outside of an optional clause"
        yield None, message, f"Filters may be empty: write [[AND … {{{{{tag}}}}}]]."


def _chart_faults(question: Question) -> Iterable[_Fault]:
    drawn = {"x": (question.x,) if question.x else (), "y": question.y}
    if question.display in CHARTS:
        columns = _there_are("Columns", question.columns)
        for key, names in drawn.items():
            if not names:
                yield key, f"a {question.display} chart needs it", f"Name what to draw. {columns}"
            for name in names:
                if name not in question.columns:
                    yield key, f"'{name}' is none of the columns", columns
        return
    for key, given in {**drawn, "goal": question.goal}.items():
        if given:
            message = f"a {question.display} has none"
            yield key, message, "Remove it, or choose another display."
    if all(column.hidden for column in question.columns.values()):
        yield "columns", "all columns are hidden", "Show one of them."


def _filter_faults(question: Question, dashboard: Dashboard) -> Iterable[_Fault]:
    try:
        tags = template.tags(question.sql)
    except template.TemplateError:
        return
    for tag, key in question.filters.items():
        place = f"filters.{tag}"
        if key not in dashboard.filters:
            yield place, f"there is no filter '{key}'", _there_are("Filters", dashboard.filters)
        if tag not in tags:
            hint = f"Use it in {_label(question.file)}, or remove the mapping."
            yield place, f"its SQL has no variable {{{{{tag}}}}}", hint


def _click_faults(question: Question, dashboard: Dashboard) -> Iterable[_Fault]:
    click = question.click
    if click and click.column not in question.columns:
        hint = _there_are("Columns", question.columns)
        yield "click.column", f"'{click.column}' is none of the columns", hint
    if click and click.filter not in dashboard.filters:
        hint = _there_are("Filters", dashboard.filters)
        yield "click.filter", f"there is no filter '{click.filter}'", hint


def _grid_problems(dashboard: Dashboard, label: str) -> Iterable[Problem]:
    tiles = dashboard.tiles
    for number, (one, place) in enumerate(tiles):
        right = place.column + place.width
        if right > GRID_COLUMNS:
            message = (
                f"column {place.column} and width {place.width} reach column {right} "
                f"of a grid that has {GRID_COLUMNS}"
            )
            hint = "Make it narrower, or move it to the left."
            yield Problem(label, one.key, "position", message, hint)
        bottom = place.row + place.height
        for other, other_place in tiles[number + 1 :]:
            if place.overlaps(other_place):
                hint = f"Question {one.key} ends before row {bottom} and column {right}."
                message = f"it overlaps question {one.key}"
                yield Problem(label, other.key, "position", message, hint)


def _dashboard_faults(dashboard: Dashboard) -> Iterable[_Fault]:
    used = {key for one in dashboard.questions.values() for key in one.filters.values()}
    filters = _there_are("Filters", dashboard.filters)
    questions = _there_are("Questions", dashboard.questions)
    for key, one in dashboard.filters.items():
        place = f"filters.{key}"
        if key not in used:
            hint = "Map a variable of a question to it, or remove it."
            yield place, "no question uses this filter", hint
        if one.source is None:
            continue
        if one.type == "date":
            hint = "Remove it, or use type: text."
            yield f"{place}.values", "a date is picked from a calendar", hint
        source = dashboard.questions.get(one.source.question)
        if source is None:
            message = f"there is no question '{one.source.question}'"
            yield f"{place}.values.question", message, questions
        elif one.source.column not in source.columns:
            message = f"question {source.key} has no column '{one.source.column}'"
            yield f"{place}.values.column", message, _there_are("Columns", source.columns)
    for key in (dashboard.period.first, dashboard.period.last) if dashboard.period else ():
        if key not in dashboard.filters or dashboard.filters[key].type != "date":
            yield "period", f"there is no date filter '{key}'", filters
    if dashboard.alert and dashboard.alert.question not in dashboard.questions:
        message = f"there is no question '{dashboard.alert.question}'"
        yield "alert.question", message, questions
