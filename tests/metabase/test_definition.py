"""The definition's files, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from base.errors import UserError
from metabase import export, payload, warehouse
from metabase.definition import GRID_COLUMNS, Dashboard, DefinitionError, load

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

Edit = Callable[[dict[str, Any]], None]


def edited(folder: Path, edit: Edit) -> Path:
    path = folder / "dashboard.yaml"
    raw = yaml.safe_load(path.read_text())
    edit(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def wrong(folder: Path) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        load(folder)
    return caught.value


def test_the_layout(dashboard: Dashboard) -> None:
    """The headline on top, then figures and lost orders, growth and quarters below, tables last."""
    places = {question.key: position for question, position in dashboard.tiles}
    headline = places["headline"]
    assert (headline.row, headline.column, headline.width) == (0, 0, GRID_COLUMNS)
    top_left, top_right = places["kpi_overview"], places["lost_order_deviation"]
    row = headline.height
    assert (top_left.row, top_left.column) == (row, 0)
    assert (top_right.row, top_right.column + top_right.width) == (row, GRID_COLUMNS)
    displays = {key: dashboard.questions[key].display for key in places}
    assert displays["kpi_overview"] == "table"
    assert displays["lost_order_deviation"] == displays["sales_growth"] == "line"
    assert displays["sales_by_quarter"] == displays["customers_by_quarter"] == "bar"
    middle = [
        places[key].row for key in ("sales_growth", "sales_by_quarter", "customers_by_quarter")
    ]
    tables = [places[key].row for key in ("top_products", "top_product_subtypes", "top_countries")]
    assert top_left.row < min(middle) <= max(middle) < min(tables)
    assert {displays[key] for key in ("top_products", "top_product_subtypes", "top_countries")} == {
        "table"
    }


def test_rows_of_tiles_fill_the_grid(dashboard: Dashboard) -> None:
    for row in {position.row for _, position in dashboard.tiles}:
        widths = [position.width for _, position in dashboard.tiles if position.row == row]
        assert sum(widths) == GRID_COLUMNS


def test_filters(dashboard: Dashboard) -> None:
    levels = ["country", "product_type", "product_subtype", "product_name"]
    assert list(dashboard.filters) == ["from", "to", *levels]
    used = {one.key for one in dashboard.filters_of(dashboard.questions["top_products"])}
    assert used == {"from", "to", *levels}


def test_all_views_are_of_schema_kpi(dashboard: Dashboard) -> None:
    assert "subtype_monthly" in warehouse.relations(dashboard)
    assert "overview_of" not in warehouse.relations(dashboard), "a function is no view"
    for question in dashboard.questions.values():
        assert "kpi." in question.sql
        assert "dwh." not in question.sql


def test_what_is_exported_is_read_back_the_same(dashboard: Dashboard, tmp_path: Path) -> None:
    export.write(dashboard, tmp_path / "copy")
    again = load(tmp_path / "copy")
    assert export.as_dict(again) == export.as_dict(dashboard)
    assert [one.sql for one in again.questions.values()] == [
        one.sql for one in dashboard.questions.values()
    ]


FAULTS: dict[str, tuple[Edit, str, str | None, str | None]] = {
    "unknown key": (
        lambda raw: raw["questions"]["top_products"].update(colour="red"),
        "unknown key colour",
        "top_products",
        None,
    ),
    "missing key": (
        lambda raw: raw["questions"]["top_products"].pop("name"),
        "name is missing",
        "top_products",
        None,
    ),
    "display": (
        lambda raw: raw["questions"]["top_products"].update(display="pie"),
        '"pie" is none of table, line',
        "top_products",
        "display",
    ),
    "type": (
        lambda raw: raw["questions"]["top_products"]["position"].update(width="8"),
        '"8" is not of type integer',
        "top_products",
        "position.width",
    ),
    "currency": (lambda raw: raw.update(currency="Euro"), "not of the form", None, "currency"),
    "beyond the grid": (
        lambda raw: raw["questions"]["top_countries"]["position"].update(width=9),
        "column 16 and width 9 reach column 25 of a grid that has 24",
        "top_countries",
        "position",
    ),
    "overlap": (
        lambda raw: raw["questions"]["top_product_subtypes"]["position"].update(column=7),
        "it overlaps question top_products",
        "top_product_subtypes",
        "position",
    ),
    "unused filter": (
        lambda raw: raw["filters"].update(segment={"name": "Segment", "type": "text"}),
        "no question uses this filter",
        None,
        "filters.segment",
    ),
    "unmapped variable": (
        lambda raw: raw["questions"]["headline"]["filters"].pop("country"),
        "the variable {{country}} is mapped to no filter",
        "headline",
        "filters",
    ),
    "mapping without a variable": (
        lambda raw: raw["questions"]["countries"].update(filters={"country": "country"}),
        "its SQL has no variable {{country}}",
        "countries",
        "filters.country",
    ),
    "mapping to nothing": (
        lambda raw: raw["questions"]["headline"]["filters"].update(country="land"),
        "there is no filter 'land'",
        "headline",
        "filters.country",
    ),
    "values of nothing": (
        lambda raw: raw["filters"]["country"]["values"].update(question="lands"),
        "there is no question 'lands'",
        None,
        "filters.country.values.question",
    ),
    "values of no column": (
        lambda raw: raw["filters"]["country"]["values"].update(column="land"),
        "question countries has no column 'land'",
        None,
        "filters.country.values.column",
    ),
    "values of a date": (
        lambda raw: raw["filters"]["from"].update(
            values={"question": "countries", "column": "country"}
        ),
        "a date is picked from a calendar",
        None,
        "filters.from.values",
    ),
    "no axis": (
        lambda raw: raw["questions"]["sales_growth"].pop("x"),
        "a line chart needs it",
        "sales_growth",
        "x",
    ),
    "axis that is no column": (
        lambda raw: raw["questions"]["sales_growth"].update(y=["growth"]),
        "'growth' is none of the columns",
        "sales_growth",
        "y",
    ),
    "axis of a table": (
        lambda raw: raw["questions"]["top_products"].update(x="sales"),
        "a table has none",
        "top_products",
        "x",
    ),
    "same name": (
        lambda raw: raw["questions"]["top_products"].update(name="TOP COUNTRIES"),
        "is called 'Top countries' too",
        "top_countries",
        "name",
    ),
    "all hidden": (
        lambda raw: raw["questions"]["countries"]["columns"]["country"].update(hidden=True),
        "all columns are hidden",
        "countries",
        "columns",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_file_question_and_key(fault: str, definition_folder: Path) -> None:
    edit, message, question, key = FAULTS[fault]
    error = wrong(edited(definition_folder, edit))
    found = [
        (problem.question, problem.key) for problem in error.problems if message in problem.message
    ]
    assert found == [(question, key)], [str(problem) for problem in error.problems]
    for problem in error.problems:
        assert problem.hint
        assert problem.file.startswith("metabase/")


def test_all_faults_are_told_at_once(definition_folder: Path) -> None:
    def edit(raw: dict[str, Any]) -> None:
        raw["questions"]["top_countries"]["position"]["width"] = 9
        raw["filters"]["segment"] = {"name": "Segment", "type": "text"}

    error = wrong(edited(definition_folder, edit))
    assert len(error.problems) == 2
    assert "also: " in str(error.detail)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "the file is empty"),
        ("SELECT 1;", "ends with a semicolon"),
        ("SELECT {{country}}", "stands outside of an optional clause"),
        ("SELECT 1 [[AND {{country}}", "is not closed"),
    ],
)
def test_faults_of_sql(sql: str, message: str, definition_folder: Path) -> None:
    (definition_folder / "questions" / "top_products.sql").write_text(sql)
    error = wrong(definition_folder)
    (found,) = [problem for problem in error.problems if message in problem.message]
    assert found.file == "metabase/questions/top_products.sql"
    assert found.question == "top_products"


def test_a_file_without_a_question(definition_folder: Path) -> None:
    (definition_folder / "questions" / "lost.sql").write_text("SELECT 1")
    assert "no question of the dashboard has this file" in wrong(definition_folder).message


def test_a_question_without_a_file(definition_folder: Path) -> None:
    (definition_folder / "questions" / "top_products.sql").unlink()
    with pytest.raises(UserError, match=r"metabase/questions/top_products\.sql does not exist"):
        load(definition_folder)


def test_no_definition(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dashboard\.yaml does not exist"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key: [1", "line "),
        ("key: a\nkey: b\n", "line 2: the key 'key' stands there twice"),
        ("- a\n", "is not of type object"),
    ],
)
def test_broken_yaml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dashboard.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert message in caught.value.message


def test_own_settings_win_and_null_removes(definition_folder: Path) -> None:
    own = {"graph.show_values": None, "graph.y_axis.scale": "log"}
    edited(
        definition_folder,
        lambda raw: raw["questions"]["sales_by_quarter"].update(visualization=own),
    )
    dashboard = load(definition_folder)
    settings = payload.visualization_settings(dashboard, dashboard.questions["sales_by_quarter"])
    assert settings["graph.y_axis.scale"] == "log"
    assert "graph.show_values" not in settings
