"""What goes into the page, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from metabase import definition, preview_data
from metabase.definition import Dashboard
from metabase.preview_data import Page

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

STYLE = (definition.FOLDER / "templates" / "preview.css").read_text()


def test_a_file_has_the_answer_to_each_choice_that_it_offers(gathered: Page) -> None:
    assert [one.key for one in gathered.filters] == ["country"]
    countries = ["", *gathered.values["country"]]
    spans = {("", "")} | {(f"{p.first_day}", f"{p.last_day}") for p in gathered.clock.periods}
    assert len(spans) > 15
    for tile in gathered.tiles:
        follows = tile.question.follows
        offered = {key for key in ("from", "to", "country") if key in follows}
        ends = {"from", "to"} if tile.cuts else set()
        assert {*tile.choices, *ends} == offered, tile.question.key
        wanted: set[tuple[str, ...]] = {()}
        if "from" in tile.choices:
            wanted = set(spans)
        if "country" in tile.choices:
            wanted = {(*one, country) for one in wanted for country in countries}
        assert set(tile.answers) == wanted, tile.question.key


def test_a_served_page_offers_everything(
    asking: psycopg.Connection[Any], dashboard: Dashboard
) -> None:
    page = preview_data.gather(asking, dashboard, served=True)
    names = ("country", "product_type", "product_subtype", "product_name")
    assert tuple(one.key for one in page.filters) == names
    for tile in page.tiles:
        assert {*tile.choices, *(("from", "to") if tile.cuts else ())} == tile.question.follows
        assert len(tile.answers) == 1


def test_a_filter_without_room_is_not_offered(
    asking: psycopg.Connection[Any], dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_data, "MOST_ANSWERS", 100)
    page = preview_data.gather(asking, dashboard)
    assert page.filters == ()
    assert all(set(tile.choices) <= {"from", "to"} for tile in page.tiles)


def test_bulk_is_plain_gzip_of_json(gathered: Page, html: str) -> None:
    packed = re.search(r'id="bulk">([^<]*)<', html)
    assert packed is not None
    bulk = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    ranking = bulk["answers"]["top_countries"]["\x1f\x1f"]
    tile = next(tile for tile in gathered.tiles if tile.question.key == "top_countries")
    assert ranking == tile.answers[("", "", "")]
    assert bulk["answers"]["kpi_overview"][""][0][0] == "Sales"


def test_page_is_small(html: str) -> None:
    """Eight months are far below the megabyte that two years may take."""
    assert len(html.encode()) < 350_000


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, dict[str, Any], str], Dashboard]:
    """Returns the definition with one more question."""

    def add(key: str, question: dict[str, Any], sql: str) -> Dashboard:
        folder = tmp_path / "metabase"
        shutil.copytree(definition.FOLDER / "questions", folder / "questions")
        raw = yaml.safe_load((definition.FOLDER / definition.FILE).read_text())
        raw["questions"][key] = question
        (folder / definition.FILE).write_text(yaml.safe_dump(raw, sort_keys=False))
        (folder / "questions" / f"{key}.sql").write_text(sql)
        return definition.load(folder)

    return add


def test_a_table_has_an_answer_to_each_period(
    changed: Callable[[str, dict[str, Any], str], Dashboard], asking: psycopg.Connection[Any]
) -> None:
    dashboard = changed(
        "best_month",
        {
            "name": "Best months",
            "description": "Months that sold for most.",
            "display": "table",
            "position": {"row": 60, "column": 0, "width": 8, "height": 4},
            "filters": {"from": "from", "country": "country"},
            "columns": {
                "month_name": {"title": "Month", "format": "text"},
                "sales": {"title": "Sales", "format": "money", "bar": True},
            },
        },
        "SELECT month_name, sales FROM kpi.month_of([[{{country}}]]) WHERE TRUE"
        " [[AND month_start >= {{from}}::date]] ORDER BY sales DESC LIMIT 3",
    )
    page = preview_data.gather(asking, dashboard)
    tile = next(tile for tile in page.tiles if tile.question.key == "best_month")
    assert tile.choices == ("from", "country")
    assert not tile.cuts
    assert tile.answers[("2025-03-01", "Germany")] == preview_data.ask(
        asking, tile.question, {"from": date(2025, 3, 1), "country": "Germany"}
    )


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("selector", [":root {", ':root[data-theme="dark"] {'])
def test_text_stands_out_from_its_ground(selector: str) -> None:
    start = STYLE.index(selector)
    palette = colours(STYLE[start : STYLE.index("}", start)])
    for ink in ("ink", "ink-2", "ink-3", "accent", "good", "bad", "limit"):
        for ground in ("surface", "ground"):
            lights = sorted((luminance(palette[ink]), luminance(palette[ground])))
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, f"{ink} on {ground}"
