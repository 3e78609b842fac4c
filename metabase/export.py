"""Turns what a server has back into files, so that what was changed there by hand can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from metabase.warehouse import DEFINED


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
        client: connection to the server.
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
        y = tuple(settings.get("graph.metrics") or y)
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
    """Return a description without the definitions of figures, which the catalog adds."""
    return description.partition(DEFINED)[0]


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
        dashboard: the definition.
        folder: where; it is made if it is not there.
        force: overwrite what is there.

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


def as_dict(dashboard: Dashboard) -> dict[str, Any]:
    """Return a definition as it stands in `dashboard.yaml`."""
    result: dict[str, Any] = {
        "key": dashboard.key,
        "name": dashboard.name,
        "description": dashboard.description,
        "group": dashboard.group,
        "collection": {
            "key": dashboard.collection.key,
            "name": dashboard.collection.name,
            "description": dashboard.collection.description,
        },
        "filters": {key: _filter_dict(one) for key, one in dashboard.filters.items()},
        "questions": {key: _question_dict(one) for key, one in dashboard.questions.items()},
    }
    if dashboard.period:
        result["period"] = {
            "name": dashboard.period.name,
            "first": dashboard.period.first,
            "last": dashboard.period.last,
            "default": dashboard.period.default,
        }
    if dashboard.subscription:
        result["subscription"] = {"hour": dashboard.subscription.hour}
    if dashboard.alert:
        result["alert"] = {"question": dashboard.alert.question, "hour": dashboard.alert.hour}
    return result


def _filter_dict(one: Filter) -> dict[str, Any]:
    result: dict[str, Any] = {"name": one.name, "type": one.type}
    if one.source:
        result["values"] = {"question": one.source.question, "column": one.source.column}
    return result


def _question_dict(one: Question) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": one.name,
        "description": one.description,
        "display": one.display,
    }
    if one.position:
        result["position"] = {
            "row": one.position.row,
            "column": one.position.column,
            "width": one.position.width,
            "height": one.position.height,
        }
    if one.filters:
        result["filters"] = dict(one.filters)
    if one.click:
        result["click"] = {"column": one.click.column, "filter": one.click.filter}
    if one.x:
        result["x"] = one.x
    if one.y:
        result["y"] = list(one.y)
    if one.goal:
        result["goal"] = {"value": one.goal.value, "label": one.goal.label}
    if one.figures:
        result["figures"] = list(one.figures)
    if one.ranking:
        result["ranking"] = {"dimension": one.ranking.dimension, "limit": one.ranking.limit}
        if one.ranking.movement:
            result["ranking"]["movement"] = True
    if one.visualization:
        result["visualization"] = dict(one.visualization)
    result["columns"] = {name: _column_dict(column) for name, column in one.columns.items()}
    return result


def _column_dict(column: Column) -> dict[str, Any]:
    result: dict[str, Any] = {"title": column.title, "format": column.format}
    if column.decimals != default_decimals(column.format):
        result["decimals"] = column.decimals
    if column.hidden:
        result["hidden"] = True
    if column.bar:
        result["bar"] = True
    return result
