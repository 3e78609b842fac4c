"""What goes into the page, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from metabase import definition, preview_cube, preview_data
from metabase.definition import Dashboard
from metabase.preview_data import Page
from tests.preview.conftest import TODAY

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

STYLE = (definition.FOLDER / "templates" / "preview.css").read_text()


def test_every_tile_follows_its_filters(gathered: Page) -> None:
    for tile in gathered.tiles:
        followed = {*tile.choices, *tile.bounds}
        assert followed == set(tile.question.filters.values()), tile.question.key
        assert not tile.ignored
    rankings = {tile.question.key for tile in gathered.tiles if tile.ranking}
    assert rankings == {
        f"{kind}_{level}"
        for kind, levels in (
            ("top", ("products", "product_subtypes", "countries")),
            ("moved", ("products", "subtypes", "countries")),
        )
        for level in levels
    }


def test_ends_of_the_range_are_told_apart(gathered: Page) -> None:
    for tile in gathered.tiles:
        assert dict(tile.bounds) in ({}, {"from": "lower", "to": "upper"})


def test_bulk_is_plain_gzip_of_json(gathered: Page, html: str) -> None:
    packed = re.search(r'id="bulk">([^<]*)<', html)
    assert packed is not None
    bulk = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    cube = bulk["cube"]
    columns = [cube[name] for name in ("month", "country", "item", "quantity", "sales")]
    assert gathered.cube is not None
    assert list(zip(*columns, strict=True)) == list(gathered.cube.cells)
    assert bulk["answers"]["kpi_overview"][""][0][0] == "Sales"


def test_page_is_small(html: str) -> None:
    """Eight months are far below the megabyte that two years may take."""
    assert len(html.encode()) < 350_000


def test_sums_are_exact(gathered: Page, asking: psycopg.Connection[Any]) -> None:
    total = asking.execute("SELECT sum(quantity), sum(sales) FROM kpi.product_monthly").fetchone()
    assert gathered.cube is not None
    cells = gathered.cube.cells
    assert total == (sum(cell[3] for cell in cells), Decimal(sum(cell[4] for cell in cells)) / 100)


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


def test_what_the_page_cannot_calculate_it_does_not_pretend_to(
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
    assert tile.choices == ("country",)
    assert tile.ignored == ("from",)
    assert tile.ranking is None
    assert tile.answers[("Germany",)] == preview_data.ask(
        asking, tile.question, {"country": "Germany"}
    )


def test_cube_keeps_the_latest_months(asking: psycopg.Connection[Any]) -> None:
    cube = preview_cube.load(asking, most_cells=1)
    assert len(cube.months) == 1
    assert cube.has_earlier
    latest = asking.execute("SELECT max(month_start) FROM kpi.product_monthly").fetchone()
    assert latest == (cube.months[0],)


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


def test_page_has_the_months_of_the_year(gathered: Page) -> None:
    assert all(month.day == 1 for month in gathered.months)
    assert list(gathered.months) == sorted(set(gathered.months))
    assert gathered.months[-1] == TODAY.replace(day=1)
