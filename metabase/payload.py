"""The definition in the words of Metabase's API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from metabase import identity
from metabase.definition import CHARTS, Column, Dashboard, Filter, Position, Question
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


def dataset_query(
    dashboard: Dashboard, question: Question, database: int | None, period: int | None = None
) -> dict[str, Any]:
    """Return a question's query: MBQL 5, with one native stage.

    Parameters:
        dashboard: the definition.
        question: one of its questions.
        database: id of the warehouse on the server.
        period: id of the column on the server that the period is a filter of.
    """
    native = with_period(dashboard, question)
    stage: dict[str, Any] = {"lib/type": "mbql.stage/native", "native": native}
    template_tags: dict[str, Any] = {
        tag: {
            "id": identity.tag_id(question.key, tag),
            "name": tag,
            "display-name": filter_.name,
            "type": _TYPES[filter_.type][0],
        }
        for tag, filter_ in _tag_filters(dashboard, question).items()
    }
    if _has_period(dashboard, question):
        assert dashboard.period is not None
        clause = identity.clause_id(question.key, PERIOD)
        template_tags[PERIOD] = {
            "id": identity.tag_id(question.key, PERIOD),
            "name": PERIOD,
            "display-name": dashboard.period.name,
            "type": "dimension",
            "dimension": ["field", {"lib/uuid": clause}, period],
            "widget-type": _PERIOD_TYPE,
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
    """Return the card of a question.

    Parameters:
        dashboard: the definition.
        question: one of its questions.
        database: id of the warehouse on the server.
        collection: id of the collection on the server.
        period: id of the column on the server that the period is a filter of.
    """
    key = identity.question_key(dashboard.key, question.key)
    return {
        "name": question.name,
        "description": question.description,
        "display": display(question),
        "type": "question",
        "collection_id": collection,
        "dataset_query": dataset_query(dashboard, question, database, period),
        "visualization_settings": {
            **visualization_settings(dashboard, question),
            identity.CARD_MARK: key,
        },
        "parameters": _card_parameters(dashboard, question),
    }


def _card_parameters(dashboard: Dashboard, question: Question) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = [
        {
            "id": identity.tag_id(question.key, tag),
            "type": _TYPES[filter_.type][1],
            "name": filter_.name,
            "slug": tag,
            "target": ["variable", ["template-tag", tag]],
        }
        for tag, filter_ in _tag_filters(dashboard, question).items()
    ]
    if _has_period(dashboard, question):
        assert dashboard.period is not None
        result.append(
            {
                "id": identity.tag_id(question.key, PERIOD),
                "type": _PERIOD_TYPE,
                "name": dashboard.period.name,
                "slug": PERIOD,
                "target": ["dimension", ["template-tag", PERIOD]],
            }
        )
    return result


def _ends(dashboard: Dashboard) -> dict[str, str]:
    """Return SQL's word for each end of the period, by the key of its filter."""
    if dashboard.period is None:
        return {}
    return {dashboard.period.first: "min", dashboard.period.last: "max"}


def _has_period(dashboard: Dashboard, question: Question) -> bool:
    used = {question.filters.get(tag) for tag in tags(question.sql)}
    return bool(used & set(_ends(dashboard)))


def with_period(dashboard: Dashboard, question: Question) -> str:
    """Return a question's SQL for Metabase, in which one filter stands for two dates."""
    text, ends = question.sql, _ends(dashboard)
    for tag, key in question.filters.items():
        if key in ends:
            end = ends[key]
            replacement = _PERIOD_END.format(end=end, none=_NO_DAY[end])
            text = re.sub(rf"\{{\{{\s*{tag}\s*\}}\}}", replacement, text)
    return text


def without_period(dashboard: Dashboard, question: Question, text: str) -> str:
    """Return a question's SQL as it stands in its file."""
    ends = _ends(dashboard)
    for tag, key in question.filters.items():
        if key in ends:
            end = ends[key]
            replacement = _PERIOD_END.format(end=end, none=_NO_DAY[end])
            text = text.replace(replacement, f"{{{{{tag}}}}}")
    return text


def _tag_filters(dashboard: Dashboard, question: Question) -> dict[str, Filter]:
    return {
        tag: dashboard.filters[question.filters[tag]]
        for tag in tags(question.sql)
        if question.filters[tag] not in _ends(dashboard)
    }


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


def _column(dashboard: Dashboard, column: Column) -> dict[str, Any]:
    settings: dict[str, Any] = {"column_title": column.title}
    match column.format:
        case "money" | "change" if dashboard.currency:
            settings |= {
                "number_style": "currency",
                "currency": dashboard.currency,
                "currency_in_header": False,
                "decimals": column.decimals,
            }
        case "money" | "change":
            settings |= {"number_style": "decimal", "decimals": column.decimals}
        case "number":
            settings |= {"number_style": "decimal", "decimals": column.decimals}
        case "percent" | "share":
            settings |= {"number_style": "decimal", "decimals": column.decimals, "suffix": " %"}
        case "points":
            settings |= {"number_style": "decimal", "decimals": column.decimals, "suffix": " pp"}
        case "hours":
            settings |= {"number_style": "decimal", "decimals": column.decimals, "suffix": " h"}
        case "date":
            settings |= {"date_style": "MMMM D, YYYY", "time_enabled": None}
        case "month":
            settings |= {"date_style": "MMMM, YYYY", "time_enabled": None}
    if column.bar:
        settings["show_mini_bar"] = True
    return settings


def parameters(dashboard: Dashboard, cards: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the dashboard's filters.

    Parameters:
        dashboard: the definition.
        cards: id on the server by key of the question.
    """
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
        _, _, type_, section = _TYPES[one.type]
        parameter: dict[str, Any] = {
            "id": identity.parameter_id(one.key),
            "name": one.name,
            "slug": one.key,
            "type": type_,
            "sectionId": section,
        }
        if one.source:
            parameter["values_query_type"] = "list"
            parameter["values_source_type"] = "card"
            parameter["values_source_config"] = {
                "card_id": cards.get(one.source.question),
                "value_field": ["field", one.source.column, {"base-type": "type/Text"}],
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
        dashboard: the definition.
        question: the question.
        position: its place.
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
        "parameter_mappings": _mappings(dashboard, question, card_id),
    }


def _mappings(
    dashboard: Dashboard, question: Question, card_id: int | None
) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = [
        {
            "parameter_id": identity.parameter_id(filter_.key),
            "card_id": card_id,
            "target": ["variable", ["template-tag", tag]],
        }
        for tag, filter_ in _tag_filters(dashboard, question).items()
    ]
    if _has_period(dashboard, question):
        target = ["dimension", ["template-tag", PERIOD]]
        result.append({"parameter_id": PERIOD_ID, "card_id": card_id, "target": target})
    return result


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
    if question.click is None and orders and question.x and _is_monthly(question):
        country = identity.parameter_id("country")
        return {
            "click_behavior": {
                "type": "link",
                "linkType": "dashboard",
                "targetId": orders,
                "parameterMapping": {
                    **_passed("column", question.x, "month"),
                    **_passed("parameter", country, "country"),
                },
            }
        }
    if question.click is None:
        return {}
    column = question.click.column
    behaviour = {
        "type": "crossfilter",
        "parameterMapping": _passed("column", column, question.click.filter),
    }
    if question.display in CHARTS:
        return {"click_behavior": behaviour}
    # Of a table, each column has a behaviour of its own.
    return {"column_settings": {_column_reference(column): {"click_behavior": behaviour}}}


def _is_monthly(question: Question) -> bool:
    return question.x is not None and question.columns[question.x].format == "month"


def _column_reference(name: str) -> str:
    """Return how settings name a column."""
    return json.dumps(["name", name], separators=(",", ":"))
