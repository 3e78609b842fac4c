"""Turns what a server has back into files, so that what was changed there by hand can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from base.errors import UserError
from metabase import identity, payload
from metabase.client import Client
from metabase.definition import (
    CHARTS,
    FILE,
    Column,
    Dashboard,
    Display,
    Filter,
    Position,
    Question,
    default_decimals,
)
from metabase.questions import TemplateError, tags
from metabase.warehouse import DEFINED, FOLLOWED


@dataclass
class Export:
    """What was read.

    Attributes:
        dashboard: the definition as the server has it.
        warnings: what could not be taken over, as sentences.
    """

    dashboard: Dashboard
    warnings: list[str] = field(default_factory=list)


def read(client: Client, dashboard: Dashboard, ids: Mapping[str, int]) -> Export:
    """Read a definition from a server.

    Parameters:
        dashboard: the definition from which the server was provisioned: it tells what to look
            for, and keeps what a server does not know, such as formats.
        ids: id on the server by kind and key, as a plan reports them.

    Raises:
        UserError: if the server has no such dashboard.
    """
    number = ids.get("dashboard")
    if number is None:
        raise UserError(
            f"Metabase at {client.url} has no dashboard '{dashboard.name}' of this definition.",
            "Make it first: oceanrecords metabase provision",
        )
    found = client.get(f"/api/dashboard/{number}")
    tiles = {tile["card_id"]: tile for tile in found.get("dashcards") or () if tile.get("card_id")}
    export = Export(dashboard)
    questions: dict[str, Question] = {}
    for question in dashboard.questions.values():
        card_id = ids.get(f"question/{question.key}")
        if card_id is None:
            export.warnings.append(f"Question {question.key} is not on the server; kept as it was.")
            questions[question.key] = question
            continue
        card = client.get(f"/api/card/{card_id}")
        if card.get("archived"):
            export.warnings.append(f"Question {question.key} is archived there; kept as it was.")
            questions[question.key] = question
            continue
        tile = tiles.pop(card_id, None)
        questions[question.key] = _question(dashboard, question, card, tile, export)
    for tile in tiles.values():
        name = (tile.get("card") or {}).get("name", "?")
        export.warnings.append(
            f"The tile '{name}' shows none of the definition's questions; left out."
        )
    export.dashboard = replace(
        dashboard,
        name=found["name"],
        description=identity.unmarked(found.get("description")),
        filters=_filters(dashboard, found),
        questions=questions,
    )
    return export


def _filters(dashboard: Dashboard, found: Mapping[str, Any]) -> dict[str, Filter]:
    names = {one["id"]: one.get("name") for one in found.get("parameters") or ()}
    return {
        key: replace(one, name=names.get(identity.parameter_id(key)) or one.name)
        for key, one in dashboard.filters.items()
    }


def _question(
    dashboard: Dashboard,
    question: Question,
    card: Mapping[str, Any],
    tile: Mapping[str, Any] | None,
    export: Export,
) -> Question:
    display: Display = question.display
    if card["display"] == payload.display(question):
        pass
    elif card["display"] in get_args(Display):
        display = card["display"]
    else:
        export.warnings.append(
            f"Question {question.key} is shown as {card['display']} there, which the definition "
            f"does not know; kept as {display}."
        )
    settings = dict(card.get("visualization_settings") or {})
    settings.pop(identity.CARD_MARK, None)
    x, y = question.x, question.y
    if display in CHARTS:
        x = next(iter(settings.get("graph.dimensions") or ()), x)
        metrics = settings.get("graph.metrics")
        # Metabase may draw other series than the offline page: those stay under visualization.
        if metrics and metrics != question.visualization.get("graph.metrics"):
            y = tuple(metrics)
    else:
        x, y = None, ()
    stages = card["dataset_query"].get("stages") or [{}]
    read_back = replace(
        question,
        name=card["name"],
        description=undefined(identity.unmarked(card.get("description"))),
        display=display,
        sql=payload.without_period(
            dashboard, question, str(stages[0].get("native", question.sql)).strip()
        ),
        position=_position(tile),
        x=x,
        y=y,
        goal=question.goal if display in CHARTS else None,
        visualization={},
    )
    derived = payload.visualization_settings(dashboard, read_back)
    own = {
        key: settings.get(key)
        for key in (*derived, *settings)
        if _without_null(settings.get(key)) != _without_null(derived.get(key))
    }
    return replace(
        read_back, visualization=own, filters=_mapping(dashboard, read_back, tile, export)
    )


def undefined(description: str) -> str:
    """Return a description without what `metabase.warehouse.resolve` adds."""
    return description.partition(FOLLOWED)[0].partition(DEFINED)[0]


def _position(tile: Mapping[str, Any] | None) -> Position | None:
    if tile is None:
        return None
    return Position(tile["row"], tile["col"], tile["size_x"], tile["size_y"])


def _mapping(
    dashboard: Dashboard, question: Question, tile: Mapping[str, Any] | None, export: Export
) -> dict[str, str]:
    if tile is None:
        return dict(question.filters)
    by_id = {identity.parameter_id(key): key for key in dashboard.filters}
    result: dict[str, str] = {}
    for mapping in tile.get("parameter_mappings") or ():
        target: list[Any] = list(mapping.get("target") or ())
        if dashboard.period and mapping["parameter_id"] == payload.PERIOD_ID:
            ends = (dashboard.period.first, dashboard.period.last)
            result |= {tag: key for tag, key in question.filters.items() if key in ends}
        elif len(target) > 1 and target[0] == "variable" and mapping["parameter_id"] in by_id:
            result[target[1][1]] = by_id[mapping["parameter_id"]]
    try:
        unmapped = [tag for tag in tags(question.sql) if tag not in result]
    except TemplateError as error:
        export.warnings.append(
            f"The SQL of question {question.key} cannot be read: {error.message}."
        )
        return result
    for tag in unmapped:
        export.warnings.append(
            f"The variable {{{{{tag}}}}} of question {question.key} is mapped to no filter there."
        )
    return result


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return value


# -- writing --------------------------------------------------------------------------------------


def write(dashboard: Dashboard, folder: Path, *, force: bool = False) -> list[Path]:
    """Write a definition as files: `dashboard.yaml` and `questions/*.sql`.

    Parameters:
        folder: where; it is made if it is not there.

    Returns:
        The files.

    Raises:
        UserError: if there is a definition already, or the folder cannot be written.
    """
    target = folder / FILE
    if target.exists() and not force:
        raise UserError(
            f"{target} exists already.", "Name another folder with --out, or add --force."
        )
    try:
        (folder / "questions").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(
            as_dict(dashboard), sort_keys=False, allow_unicode=True, width=100, indent=2
        )
        target.write_text(text, encoding="utf-8")
        written = [target]
        for question in dashboard.questions.values():
            path = folder / "questions" / f"{question.key}.sql"
            path.write_text(question.sql + "\n", encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    return written


# What a definition holds beyond dashboard.yaml: names that are keys there, and the SQL's file.
_ELSEWHERE: Mapping[type, tuple[str, ...]] = {
    Dashboard: ("currency", "folder"),
    Filter: ("key",),
    Question: ("key", "sql", "file"),
    Column: ("name",),
}


def as_dict(dashboard: Dashboard) -> dict[str, Any]:
    """Return a definition as it stands in `dashboard.yaml`; what equals its default is left out."""
    result: dict[str, Any] = _plain(dashboard)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if not is_dataclass(value):
        return value
    found = {}
    for one in fields(value):
        inner = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if isinstance(value, Column) and one.name == "decimals":
            default = default_decimals(value.format)
        if one.name not in _ELSEWHERE.get(type(value), ()) and inner != default:
            found["values" if one.name == "source" else one.name] = _plain(inner)
    return found
