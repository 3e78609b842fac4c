"""The page in a real browser: the questions' own numbers, for whatever is chosen, without a network."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from metabase import preview, preview_data
from metabase.definition import CHARTS, Dashboard, Question
from metabase.preview_data import Page
from tests.preview.browser import Browser, Shown
from tests.preview.conftest import NASTY
from tests.support.database import Database

CHOICES: list[dict[str, Any]] = [
    {},
    {"country": "Germany"},
    {"from": 2},
    {"to": 5},
    {"country": "Germany", "product_type": "Vinyl", "from": 1, "to": 6},
    {"country": "United States", "from": 4, "to": 4},
]


def chosen_values(page: Page, choice: dict[str, Any]) -> dict[str, str]:
    """Return the values of the filters; a number stands for the month of that number."""
    return {
        key: page.months[value].isoformat() if isinstance(value, int) else value
        for key, value in choice.items()
    }


def visible(question: Question) -> list[int]:
    """Return the places of the columns that a tile shows, or in a chart that it lists."""
    columns = list(question.columns.values())
    is_figures = any(column.format == "sparkline" for column in columns)
    return [
        place
        for place, column in enumerate(columns)
        if question.display in CHARTS
        or not (column.hidden or (is_figures and column.name == "unit"))
    ]


def assert_shows(
    shown: Shown,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    chosen: dict[str, str],
) -> None:
    """Hold every tile against the answer of its question, and the browser's log against nothing."""
    assert shown.console == []
    assert shown.state == "ready"
    values: dict[str, Any] = {
        key: date.fromisoformat(value) if dashboard.filters[key].type == "date" else value
        for key, value in chosen.items()
    }
    for question, _ in dashboard.tiles:
        answer = preview_data.ask(asking, question, values)
        wanted = [[row[place] for place in visible(question)] for row in answer]
        tile = shown.tiles[question.key]
        assert tile.rows == wanted, question.key
        assert question.name in tile.text
        ignored = [key for key in chosen if key not in question.filters.values()]
        assert bool(tile.scope) is bool(ignored), question.key


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice) or "nothing")
def test_tiles_show_what_the_questions_answer(
    choice: dict[str, Any],
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
) -> None:
    chosen = chosen_values(gathered, choice)
    shown = browser.look(page_file, chosen)
    assert_shows(shown, asking, dashboard, chosen)
    assert all(tile.rows for tile in shown.tiles.values())


def test_charts_are_drawn(browser: Browser, page_file: Path, dashboard: Dashboard) -> None:
    shown = browser.look(page_file)
    for question, _ in dashboard.tiles:
        marks = shown.tiles[question.key].marks
        if question.display in CHARTS:
            mark = "mark-rect" if question.display == "bar" else "mark-line"
            assert any(mark in one for one in marks), question.key
            assert any("mark-text" in one for one in marks), question.key
        if question.goal:
            assert any("mark-rule" in one for one in marks), question.key
            assert question.goal.label in shown.tiles[question.key].text
    assert "(still running)" in shown.dom
    for tile in shown.tiles.values():
        assert not re.search("NaN|undefined|null|Invalid", tile.text)


def test_formats_are_those_of_the_definition(browser: Browser, page_file: Path) -> None:
    shown = browser.look(page_file)
    figures = shown.tiles["kpi_overview"].text
    assert re.search(r"€[\d,]+", figures)
    assert re.search(r"[+\u2212]\d+\.\d\d pp", figures)
    assert re.search(r"\d+\.\d h", figures)
    assert re.search(r"\d+\.\d d", figures)
    assert re.search(r"[▲▼] \d+\.\d %", figures)
    assert re.search(r"[A-Z][a-z]{2} 20\d\d", shown.tiles["lost_order_deviation"].text)
    assert re.search(r"€[\d,]+", shown.tiles["top_products"].text)


def test_up_is_green_where_up_is_good(browser: Browser, page_file: Path) -> None:
    cells = re.findall(r'class="growth (up|down)-(good|bad)"', browser.look(page_file).dom)
    rows = browser.look(page_file).tiles["kpi_overview"].rows
    is_up_good = {"Sales", "Average order value"}
    wanted = [
        (
            "up" if row[3] > 0 else "down",
            "good" if (row[3] > 0) == (row[0] in is_up_good) else "bad",
        )
        for row in rows
        if row[3]
    ]
    assert cells == wanted
    assert len(wanted) == 5


def test_nasty_names_stay_text(browser: Browser, page_file: Path) -> None:
    shown = browser.look(page_file)
    assert shown.tiles["top_products"].rows[0][0] == NASTY
    assert shown.title == "OceanRecords business overview"
    assert not re.search("<img(?![^<]*</script>)", re.sub("(?s)<script.*?</script>", "", shown.dom))


def test_page_asks_for_nothing(html: str) -> None:
    assert "default-src 'none'" in html
    page = html[: html.index('<script type="application/json"')]
    assert re.findall(r'(?:src|href)\s*=\s*"(?!data:|#)', page) == []
    assert "@import" not in page
    assert "url(" not in page
    assert html.count("<script") == 3
    assert html.count("</script>") == 3


def test_foot_tells_age_and_runs(
    browser: Browser, page_file: Path, asking: psycopg.Connection[Any]
) -> None:
    run = asking.execute("SELECT max(run_id) FROM etl.run").fetchone()
    assert run is not None
    foot = browser.look(page_file).foot
    assert f"no. {run[0]}, succeeded" in foot
    assert re.search(r"Complete until \d+ \w+ 20\d\d, \d\d:\d\d, (just now|\d+ minutes? ago)", foot)
    assert "UTC" in foot
    assert "EUR" in foot


def with_script(page: Path, script: str, folder: Path) -> Path:
    """Return a copy of the page in which something is done once it is ready."""
    copy = folder / "acting.html"
    waiting = f"""
        <script>
        const act = () => {{ {script} }};
        const wait = setInterval(() => {{
            if (document.body.dataset.state !== "ready") return;
            clearInterval(wait);
            act();
        }}, 20);
        </script></body>"""
    before, _, after = page.read_text().rpartition("</body>")
    copy.write_text(before + waiting + after)
    return copy


def choose(key: str, value: str) -> str:
    return f"""
        var field = document.getElementById("filter-{key}");
        field.value = "{value}";
        field.dispatchEvent(new Event("change", {{ bubbles: true }}));"""


def test_choosing_a_filter_changes_the_tiles(
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    chosen = chosen_values(gathered, {"country": "France", "from": 3})
    acting = with_script(page_file, "".join(choose(*one) for one in chosen.items()), tmp_path)
    assert_shows(browser.look(acting), asking, dashboard, chosen)
    acting = with_script(
        page_file,
        choose("country", "France") + 'document.getElementById("reset").click();',
        tmp_path,
    )
    assert_shows(browser.look(acting), asking, dashboard, {})


def test_a_range_never_ends_before_it_begins(
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    early, late = (month.isoformat() for month in (gathered.months[2], gathered.months[5]))
    acting = with_script(page_file, choose("from", late) + choose("to", early), tmp_path)
    assert_shows(browser.look(acting), asking, dashboard, {"from": early, "to": early})


def test_unknown_values_in_the_address_are_left_out(
    browser: Browser, page_file: Path, asking: psycopg.Connection[Any], dashboard: Dashboard
) -> None:
    shown = browser.look(page_file, {"country": "Atlantis", "from": "2025-13-99", "other": "1"})
    assert_shows(shown, asking, dashboard, {})


@pytest.mark.parametrize("width", [360, 390, 760, 1000, 1280])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, page_file: Path, tmp_path: Path, width: int
) -> None:
    telling = with_script(
        page_file,
        "parent.postMessage([document.documentElement.scrollWidth, innerWidth], '*');",
        tmp_path,
    )
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<body><script>addEventListener('message', (event) => {"
        " document.title = event.data.join(' of '); })</script>"
        f'<iframe src="{telling.name}" width="{width}" height="900" style="border:0"></iframe></body>'
    )
    assert browser.look(frame).title == f"{width} of {width}"


def test_dark_and_light_can_be_switched(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    told = "document.title = getComputedStyle(document.body).backgroundColor;"
    click = 'document.getElementById("theme").click();'
    seen = {
        browser.look(with_script(page_file, script + told, tmp_path)).title
        for script in ("", click, click + click)
    }
    assert len(seen) == 2


def test_earlier_months_are_summed_up_when_there_is_too_much(
    browser: Browser,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    page = preview_data.gather(asking, dashboard, most_cells=1500)
    assert page.cube.has_earlier
    assert page.months[0] == page.cube.months[0]
    assert 1 < len(page.months) < 8
    path = tmp_path / "small.html"
    preview.write(preview.render_page(page), path)
    for choice in ({}, {"country": "Germany"}, {"from": 0, "product_type": "Vinyl"}, {"to": 0}):
        chosen = chosen_values(page, choice)
        assert_shows(browser.look(path, chosen), asking, dashboard, chosen)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_empty_warehouse(
    database: Database, browser: Browser, dashboard: Dashboard, tmp_path: Path, is_loaded: bool
) -> None:
    if is_loaded:
        database.execute("CALL etl.run()")
    asking = database.connect()
    path = tmp_path / "empty.html"
    preview.write(preview.render(asking, dashboard), path)
    shown = browser.look(path)
    assert_shows(shown, asking, dashboard, {})
    assert "Nothing for this choice." in shown.tiles["top_products"].text
    assert ("not loaded yet" in shown.foot) is not is_loaded


def test_today_follows_the_setting(
    new_database: Any, browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    database = new_database()
    day = date.today() - timedelta(days=400)
    database.execute(
        "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", day.isoformat()
    )
    path = tmp_path / "page.html"
    preview.write(preview.render(database.connect(), dashboard), path)
    shown = browser.look(path)
    assert f"{day.day} {day:%b %Y}" in shown.foot
