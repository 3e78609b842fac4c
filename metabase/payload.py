"""The definition in the words of Metabase's API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from metabase import identity
from metabase.definition import CHARTS, Column, Dashboard, Position, Question
from metabase.questions import tags

# type of a variable, of the widget of a question, of the dashboard's filter, and the filter's
# section
_TYPES = {
    "date": ("date", "date/single", "date/single", "date"),
    "text": ("text", "category", "string/=", "string"),
}
# The tag and the filter that stand for two dates in Metabase. Its date filters that know 'the last
# 12 months' work on a column alone: the days that the column has in the period give the dates.
PERIOD = "period"
PERIOD_ID = identity.parameter_id(PERIOD)
PERIOD_TABLE, PERIOD_COLUMN = "calendar", "day"
_PERIOD_TYPE = "date/all-options"
# A period without a day in it has ends that nothing lies between.
_PERIOD_END = "(SELECT coalesce({end}(day), '{none}') FROM kpi.calendar WHERE {{{{period}}}})"
_NO_DAY = {"min": "infinity", "max": "-infinity"}
_CHART_SETTINGS: dict[str, Any] = {
    "graph.x_axis.labels_enabled": False,
    "graph.y_axis.labels_enabled": False,
}


@dataclass(frozen=True)
class _Variable:
    """A variable of a question's SQL, as its query, its card and its tile name it.

    Attributes:
        name: name in the SQL.
        label: name of the filter.
        filter: id of the dashboard's filter.
        tag: what its template tag says beyond names.
        widget: type of the widget of the question.
    """

    name: str
    label: str
    filter: str
    tag: Mapping[str, Any]
    widget: str

    @property
    def target(self) -> list[Any]:
        """What a filter is mapped to."""
        kind = "dimension" if self.tag["type"] == "dimension" else "variable"
        return [kind, ["template-tag", self.name]]


def _variables(
    dashboard: Dashboard, question: Question, period: int | None = None
) -> list[_Variable]:
    ends = _ends(dashboard)
    keys = [(tag, question.filters[tag]) for tag in tags(question.sql)]
    result = []
    for tag, key in keys:
        if key not in ends:
            filter_ = dashboard.filters[key]
            kind, widget, *_ = _TYPES[filter_.type]
            id_ = identity.parameter_id(key)
            result.append(_Variable(tag, filter_.name, id_, {"type": kind}, widget))
    if dashboard.period and any(key in ends for _, key in keys):
        field = {"lib/uuid": identity.clause_id(question.key, PERIOD)}
        tag_ = {
            "type": "dimension",
            "dimension": ["field", field, period],
            "widget-type": _PERIOD_TYPE,
        }
        result.append(_Variable(PERIOD, dashboard.period.name, PERIOD_ID, tag_, _PERIOD_TYPE))
    return result


def dataset_query(
    dashboard: Dashboard, question: Question, database: int | None, period: int | None = None
) -> dict[str, Any]:
    """Return a question's query: MBQL 5, with one native stage.

    Parameters:
        dashboard, question: the definition, and one of its questions.
        database: id of the warehouse on the server.
        period: id of the column on the server that the period is a filter of.
    """
    native = with_period(dashboard, question)
    stage: dict[str, Any] = {"lib/type": "mbql.stage/native", "native": native}
    template_tags = {
        one.name: {
            "id": identity.tag_id(question.key, one.name),
            "name": one.name,
            "display-name": one.label,
            **one.tag,
        }
        for one in _variables(dashboard, question, period)
    }
    if template_tags:
        stage["template-tags"] = template_tags
    return {"lib/type": "mbql/query", "database": database, "stages": [stage]}


def card(
    dashboard: Dashboard,
    question: Question,
    database: int | None,
    collection: int | None,
    period: int | None = None,
) -> dict[str, Any]:
    """Return the card of a question; for the parameters see `dataset_query`."""
    key = identity.question_key(dashboard.key, question.key)
    settings = visualization_settings(dashboard, question)
    return {
        "name": question.name,
        "description": question.description,
        "display": display(question),
        "type": "question",
        "collection_id": collection,
        "dataset_query": dataset_query(dashboard, question, database, period),
        "visualization_settings": {**settings, identity.CARD_MARK: key},
        "parameters": [
            {
                "id": identity.tag_id(question.key, one.name),
                "type": one.widget,
                "name": one.label,
                "slug": one.name,
                "target": one.target,
            }
            for one in _variables(dashboard, question)
        ],
    }


def _ends(dashboard: Dashboard) -> dict[str, str]:
    """Return SQL's word for each end of the period, by the key of its filter."""
    if dashboard.period is None:
        return {}
    return {dashboard.period.first: "min", dashboard.period.last: "max"}


def _period_places(dashboard: Dashboard, question: Question) -> Iterator[tuple[str, str]]:
    """Yield the variables that are an end of the period, and what stands for each in Metabase."""
    ends = _ends(dashboard)
    for tag, key in question.filters.items():
        if key in ends:
            yield tag, _PERIOD_END.format(end=ends[key], none=_NO_DAY[ends[key]])


def with_period(dashboard: Dashboard, question: Question) -> str:
    """Return a question's SQL for Metabase, in which one filter stands for two dates."""
    text = question.sql
    for tag, replacement in _period_places(dashboard, question):
        text = re.sub(rf"\{{\{{\s*{tag}\s*\}}\}}", replacement, text)
    return text


def without_period(dashboard: Dashboard, question: Question, text: str) -> str:
    """Return a question's SQL as it stands in its file."""
    for tag, replacement in _period_places(dashboard, question):
        text = text.replace(replacement, f"{{{{{tag}}}}}")
    return text


def display(question: Question) -> str:
    """Return Metabase's name of a display; cards are drawn by the offline page alone."""
    return "table" if question.display == "cards" else question.display


def visualization_settings(dashboard: Dashboard, question: Question) -> dict[str, Any]:
    """Return how a question is shown: what its display and formats say, and its own settings."""
    settings = derived_settings(dashboard, question)
    settings.update(question.visualization)
    return {key: value for key, value in settings.items() if value is not None}


def derived_settings(dashboard: Dashboard, question: Question) -> dict[str, Any]:
    """Return how a question is shown, without its own settings."""
    settings: dict[str, Any] = {
        "column_settings": {
            _column_reference(column.name): _column(dashboard, column)
            for column in question.columns.values()
        }
    }
    if display(question) == "table":
        settings["table.columns"] = [
            {"name": column.name, "enabled": not column.hidden}
            for column in question.columns.values()
        ]
        return settings
    settings |= _CHART_SETTINGS
    settings["graph.dimensions"] = [question.x]
    settings["graph.metrics"] = list(question.y)
    settings["series_settings"] = {
        name: {"title": question.columns[name].title} for name in question.y
    }
    if question.display == "bar":
        settings["graph.show_values"] = True
        settings["graph.label_value_formatting"] = "compact"
    if question.goal:
        settings["graph.show_goal"] = True
        settings["graph.goal_value"] = question.goal.value
        settings["graph.goal_label"] = question.goal.label
    return settings


_SUFFIXES = {"percent": " %", "share": " %", "points": " pp", "hours": " h"}


def _column(dashboard: Dashboard, column: Column) -> dict[str, Any]:
    settings: dict[str, Any] = {"column_title": column.title}
    match column.format:
        case "money" | "change" | "number" | "percent" | "share" | "points" | "hours":
            settings |= {"number_style": "decimal", "decimals": column.decimals}
            if column.format in ("money", "change") and dashboard.currency:
                settings["number_style"] = "currency"
                settings |= {"currency": dashboard.currency, "currency_in_header": False}
            elif column.format in _SUFFIXES:
                settings["suffix"] = _SUFFIXES[column.format]
        case "date":
            settings |= {"date_style": "MMMM D, YYYY", "time_enabled": None}
        case "month":
            settings |= {"date_style": "MMMM, YYYY", "time_enabled": None}
    if column.bar:
        settings["show_mini_bar"] = True
    return settings


def parameters(dashboard: Dashboard, cards: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the dashboard's filters, given the ids on the server by key of the question."""
    result: list[dict[str, Any]] = []
    if dashboard.period:
        result.append(
            {
                "id": PERIOD_ID,
                "name": dashboard.period.name,
                "slug": PERIOD,
                "type": _PERIOD_TYPE,
                "sectionId": "date",
                "default": dashboard.period.default,
            }
        )
    for one in dashboard.filters.values():
        if one.key in _ends(dashboard):
            continue
        *_, type_, section = _TYPES[one.type]
        parameter: dict[str, Any] = {
            "id": identity.parameter_id(one.key),
            "name": one.name,
            "slug": one.key,
            "type": type_,
            "sectionId": section,
        }
        if one.source:
            field = ["field", one.source.column, {"base-type": "type/Text"}]
            card_id = cards.get(one.source.question)
            parameter |= {
                "values_query_type": "list",
                "values_source_type": "card",
                "values_source_config": {"card_id": card_id, "value_field": field},
            }
        result.append(parameter)
    return result


def dashcard(
    dashboard: Dashboard,
    question: Question,
    position: Position,
    card_id: int | None,
    dashcard_id: int,
    orders: int | None = None,
) -> dict[str, Any]:
    """Return a question's tile.

    Parameters:
        dashboard, question, position: the definition, the question and its place.
        card_id: its id on the server.
        dashcard_id: id of the tile there, or a negative number for a new one.
        orders: id on the server of the dashboard with the orders behind the figures.
    """
    return {
        "id": dashcard_id,
        "card_id": card_id,
        "row": position.row,
        "col": position.column,
        "size_x": position.width,
        "size_y": position.height,
        "dashboard_tab_id": None,
        "series": [],
        "visualization_settings": _click_settings(question, orders),
        "parameter_mappings": [
            {"parameter_id": one.filter, "card_id": card_id, "target": one.target}
            for one in _variables(dashboard, question)
        ],
    }


def _passed(kind: str, source: str, filter_key: str) -> dict[str, Any]:
    """Return how a click passes a column or a filter on to a filter."""
    parameter = identity.parameter_id(filter_key)
    mapping = {
        "id": parameter,
        "source": {"type": kind, "id": source, "name": source},
        "target": {"type": "parameter", "id": parameter},
    }
    return {parameter: mapping}


def _click_settings(question: Question, orders: int | None) -> dict[str, Any]:
    """Return the settings of a tile: what a click on a value does.

    A chart of months leads to the orders of the month and of the countries that are chosen.
    """
    if question.click is None:
        if not orders or question.x is None or question.columns[question.x].format != "month":
            return {}
        chosen = _passed("parameter", identity.parameter_id("country"), "country")
        return {
            "click_behavior": {
                "type": "link",
                "linkType": "dashboard",
                "targetId": orders,
                "parameterMapping": {**_passed("column", question.x, "month"), **chosen},
            }
        }
    column = question.click.column
    behaviour = {
        "type": "crossfilter",
        "parameterMapping": _passed("column", column, question.click.filter),
    }
    if question.display in CHARTS:
        return {"click_behavior": behaviour}
    # Of a table, each column has a behaviour of its own.
    return {"column_settings": {_column_reference(column): {"click_behavior": behaviour}}}


def _column_reference(name: str) -> str:
    """Return how settings name a column."""
    return json.dumps(["name", name], separators=(",", ":"))
