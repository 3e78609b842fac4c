"""The page in a real browser: the questions' own numbers, for whatever is chosen, without a network."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
import pytest
import waitress  # type: ignore[import-untyped]

from base.errors import UserError
from metabase import analysis, definition, preview, preview_data
from metabase.definition import CHARTS, Dashboard, Question
from metabase.preview_data import Page
from metabase.serve import ROLE, Site, open_pool
from simulator.seed import seed
from tests.kpi.expected import next_month
from tests.preview.browser import Browser, Shown
from tests.preview.conftest import NASTY, TODAY, set_today
from tests.support.database import Database
from tests.warehouse.play import Play

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ONE_DAY = timedelta(days=1)

CHOICES: list[dict[str, str]] = [
    {},
    {"country": "Germany"},
    {"period": "Last 12 full months"},
    {"period": "2025 Q1"},
    {"country": "Germany", "period": "This month"},
    {"country": "United States", "period": "May 2025"},
]
# What a file does not offer.
SERVED: list[dict[str, Any]] = [
    {"country": ["Germany", "France"]},
    {"from": "2025-02-01"},
    {"to": "2025-05-31", "product_subtype": "Amplifier"},
    {"country": ["Germany"], "product_type": ["Vinyl"], "from": "2025-01-01", "to": "2025-06-30"},
    {"product_name": [NASTY]},
]


def chosen_values(page: Page, choice: dict[str, str]) -> dict[str, str]:
    """Return the values of the filters: both ends in place of a period."""
    chosen = dict(choice)
    name = chosen.pop("period", None)
    for one in page.clock.periods:
        if one.period == name:
            chosen |= {"from": f"{one.first_day}", "to": f"{one.last_day}"}
    return chosen


FIGURES = ("kpi", "month_to_date", "last_month", "monthly_average", "change", "trend")


def wanted_rows(question: Question, answer: list[list[Any]]) -> list[list[Any]]:
    """Return what a tile shows of an answer, or what a chart and the headline list."""
    columns = list(question.columns)
    if question.key == "kpi_overview":
        named = [dict(zip(columns, row, strict=True)) for row in answer]
        for row in named:
            row["change"] = row["change_points"] if row["unit"] == "pp" else row["growth_percent"]
        return [[row[name] for name in FIGURES] for row in named]
    shown = [n for n, column in enumerate(question.columns.values()) if not column.hidden]
    return [[row[n] for n in shown] for row in answer]


def assert_shows(
    shown: Shown,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    chosen: dict[str, Any],
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
        wanted = wanted_rows(question, answer)
        tile = shown.tiles[question.key]
        assert tile.rows == wanted, question.key
        assert question.name in tile.text
        ignored = [key for key in chosen if key not in question.filters.values()]
        if "change" in question.columns and not answer:
            assert "No two full periods" in tile.text
        first, last = values.get("from"), values.get("to")
        is_whole = (not first or first.day == 1) and (not last or (last + ONE_DAY).day == 1)
        cuts = not is_whole and bool(question.x)
        assert bool(tile.scope) is (bool(ignored) or cuts), question.key


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice) or "nothing")
def test_tiles_show_what_the_questions_answer(
    choice: dict[str, str],
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
) -> None:
    chosen = chosen_values(gathered, choice)
    shown = browser.look(page_file, chosen)
    assert_shows(shown, asking, dashboard, chosen)
    assert all(tile.rows for key, tile in shown.tiles.items() if not key.startswith("moved_"))


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
    for tile in shown.tiles.values():
        assert not re.search("NaN|undefined|null|Invalid", tile.text)


def test_numbers_can_be_read(browser: Browser, page_file: Path) -> None:
    shown = browser.look(page_file)
    figures = shown.tiles["kpi_overview"].text
    assert re.search(r"\d{2,3},\d{3}\u202f€", figures)
    assert re.search(r"[+\u2212]\d+\.\d\d\u202fpp", figures)
    assert re.search(r"\d+\.\d\u202fh", figures)
    assert re.search(r"[▲▼] \d+\.\d\u202f%", figures)
    assert re.search(r"[▲▼] \d+\.\d\d\u202fpp", figures)
    assert re.search(r"[A-Z][a-z]{2} 20\d\d", shown.tiles["lost_order_deviation"].text)
    # Three significant digits and the unit.
    labels = re.findall(r"([\d.]+)(k|M)?\u202f€", shown.tiles["sales_by_quarter"].text)
    assert any(mark and len(digits.replace(".", "").lstrip("0")) <= 3 for digits, mark in labels)
    assert re.search(r"\d,\d{3}\u202f€", shown.tiles["top_products"].text)
    assert re.search(r"\d\.\d\u202f%", shown.tiles["top_products"].text)


def test_a_currency_without_cents(
    browser: Browser, asking: psycopg.Connection[Any], dashboard: Dashboard, tmp_path: Path
) -> None:
    setting = "UPDATE etl.setting SET value = %s WHERE name = 'currency'"
    asking.execute(setting, ["JPY"])
    try:
        html = preview.render(asking, dashboard, served=True)
    finally:
        asking.execute(setting, ["EUR"])
    page = tmp_path / "page.html"
    preview.write(html, page)
    shown = browser.look(page)
    figures = shown.tiles["kpi_overview"].text
    assert len(re.findall(r"\d\u202f¥", figures)) > 5
    assert not re.search(r"\d\.\d+\u202f¥", figures + shown.tiles["headline"].text)


def test_up_is_green_where_up_is_good(browser: Browser, page_file: Path, gathered: Page) -> None:
    cells = re.findall(r'class="growth (up|down)-(good|bad)"', browser.look(page_file).dom)
    tile = next(tile for tile in gathered.tiles if tile.question.key == "kpi_overview")
    columns = list(tile.question.columns)
    wanted = []
    for row in tile.answers[("",)]:
        named = dict(zip(columns, row, strict=True))
        change = named["change_points"] if named["unit"] == "pp" else named["growth_percent"]
        if change:
            is_good = (change > 0) == named["is_up_good"]
            wanted.append(("up" if change > 0 else "down", "good" if is_good else "bad"))
    assert cells == wanted
    assert len(wanted) == 4


def test_young_figures_are_marked(browser: Browser, page_file: Path) -> None:
    shown = browser.look(page_file)
    assert shown.tiles["kpi_overview"].text.count("prov.") >= 3
    assert "expected" in shown.tiles["kpi_overview"].text
    assert "running" in {row[-1] for row in shown.tiles["lost_share"].rows}


def test_definitions_are_those_of_the_catalog(
    browser: Browser, page_file: Path, asking: psycopg.Connection[Any]
) -> None:
    text = browser.look(page_file).tiles["kpi_overview"].text
    known = asking.execute("SELECT kpi, definition, leaves_out FROM kpi.definition").fetchall()
    assert len(known) == 4
    for row in known:
        for part in row:
            assert part in text


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
    assert "connect-src" not in html


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


def acting_on(html: str, script: str) -> str:
    """Return a page in which something is done once it is ready."""
    waiting = f"""
        <script>
        const act = () => {{ {script} }};
        const wait = setInterval(() => {{
            if (document.body.dataset.state !== "ready") return;
            clearInterval(wait);
            act();
        }}, 20);
        </script></body>"""
    before, _, after = html.rpartition("</body>")
    return before + waiting + after


def with_script(page: Path, script: str, folder: Path) -> Path:
    """Return a copy of the page in which something is done once it is ready."""
    copy = folder / "acting.html"
    copy.write_text(acting_on(page.read_text(), script))
    return copy


@contextmanager
def listening(site: Site) -> Iterator[str]:
    """Serve a site, and return its address."""
    server = waitress.create_server(site, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/"
    finally:
        server.close()
        thread.join()


class Acting(Site):
    """A site on whose pages something is done once they are ready."""

    script = ""

    def page(self, path: str = "/") -> bytes:
        return acting_on(super().page(path).decode(), self.script).encode()


@pytest.fixture(scope="module")
def site(warehouse: Database, dashboard: Dashboard) -> Iterator[tuple[Acting, str]]:
    """The dashboard over HTTP, and its address."""
    with open_pool(warehouse.dsn) as pool:
        made = Acting(pool, dashboard, ["127.0.0.1"])
        with listening(made) as address:
            yield made, address


@pytest.fixture
def acting(site: tuple[Acting, str], browser: Browser) -> Iterator[Callable[[str], Shown]]:
    """Returns what the served page shows when something has been done."""

    def look(script: str) -> Shown:
        site[0].script = script
        return browser.read(site[1])

    yield look
    site[0].script = ""


def choose(key: str, value: str) -> str:
    return f"""
        var list = document.getElementById("{key}") || document.getElementById("filter-{key}");
        if (list.tagName === "SELECT") {{ list.value = "{value}"; list.dispatchEvent(new Event("change", {{ bubbles: true }})); }}
        else list.querySelector('input[value="{value}"]').click();"""


def test_choosing_a_filter_changes_the_tiles(
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    chosen = chosen_values(gathered, {"country": "France", "period": "2025 Q2"})
    period = f"{chosen['from']},{chosen['to']}"
    script = choose("country", "Germany") + choose("country", "France") + choose("period", period)
    acting = with_script(page_file, script, tmp_path)
    assert_shows(browser.look(acting), asking, dashboard, chosen)
    acting = with_script(
        page_file,
        choose("country", "France") + 'document.getElementById("reset").click();',
        tmp_path,
    )
    assert_shows(browser.look(acting), asking, dashboard, {})


def test_a_range_never_ends_before_it_begins(
    acting: Callable[[str], Shown], asking: psycopg.Connection[Any], dashboard: Dashboard
) -> None:
    shown = acting(choose("from", "2025-04-01") + choose("to", "2025-02-28"))
    assert_shows(shown, asking, dashboard, {"from": "2025-02-01", "to": "2025-02-28"})
    shown = acting(choose("to", "2025-02-28") + choose("from", "2025-04-01"))
    assert_shows(shown, asking, dashboard, {"from": "2025-04-01", "to": "2025-04-30"})


def test_unknown_values_in_the_address_are_left_out(
    browser: Browser, page_file: Path, asking: psycopg.Connection[Any], dashboard: Dashboard
) -> None:
    shown = browser.look(
        page_file, {"country": "Atlantis", "from": "2025-03-01", "to": "2025-13-99", "other": "1"}
    )
    assert_shows(shown, asking, dashboard, {})


@pytest.mark.parametrize("width", [360, 390, 600, 699, 700, 760, 1000, 1120, 1280])
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


HOVER = """
    const told = [];
    for (const svg of document.querySelectorAll(".chart svg, .spark")) {
        svg.scrollIntoView({ block: "center" });
        const box = svg.getBoundingClientRect();
        for (const share of [0.1, 0.5, 0.9]) {
            const [x, y] = [box.left + box.width * share, box.top + box.height / 2];
            svg.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
            const tip = document.getElementById("tooltip");
            const at = tip.getBoundingClientRect();
            const isNear = Math.abs(at.left + at.width / 2 - x) < 250 && Math.abs(at.top + at.height / 2 - y) < 120;
            const isWithin = at.left >= 0 && at.top >= 0 && at.right <= innerWidth && at.bottom <= innerHeight;
            told.push([!tip.hidden, getComputedStyle(tip).position, isNear, isWithin, tip.innerText]);
        }
        svg.dispatchEvent(new PointerEvent("pointerleave"));
        told.push([document.getElementById("tooltip").hidden]);
    }
    document.title = JSON.stringify(told);
"""


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_tooltips_are_near_the_mouse(
    browser: Browser, page_file: Path, tmp_path: Path, dashboard: Dashboard, width: int
) -> None:
    shown = browser.look(with_script(page_file, HOVER, tmp_path), width=width)
    told = json.loads(shown.title)
    charts = sum(question.display in CHARTS for question, _ in dashboard.tiles)
    assert len(told) == 4 * (charts + 4)
    for answer in told:
        if len(answer) == 1:
            assert answer == [True]
            continue
        assert answer[:4] == [True, "fixed", True, True], answer
        assert not re.search("undefined|NaN|null", answer[4])
        assert len(answer[4].splitlines()) >= 2


def after_click(selector: str) -> str:
    return f'document.querySelector("{selector}").click();'


def test_a_click_on_a_country_filters_everything(
    browser: Browser,
    page_file: Path,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    first = browser.look(page_file).tiles["top_countries"].rows[0][0]
    click = after_click("#tile-top_countries .pick")
    shown = browser.look(with_script(page_file, click, tmp_path))
    assert_shows(shown, asking, dashboard, {"country": first})
    # A second click takes it back.
    again = click + "setTimeout(() => {" + click + "}, 300);"
    assert_shows(browser.look(with_script(page_file, again, tmp_path)), asking, dashboard, {})


def test_a_click_on_a_product_filters_what_has_products(
    acting: Callable[[str], Shown],
    browser: Browser,
    page_file: Path,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
) -> None:
    file = browser.look(page_file)
    subtype = file.tiles["top_product_subtypes"].rows[0][0]
    shown = acting(after_click("#tile-top_product_subtypes .pick"))
    assert_shows(shown, asking, dashboard, {"product_subtype": [subtype]})
    assert [row[0] for row in shown.tiles["top_product_subtypes"].rows] == [subtype]
    assert "subtype" in shown.tiles["kpi_overview"].scope
    assert not shown.tiles["top_products"].scope
    assert f"Product subtype: {subtype}" in shown.dom
    # A file does not offer what it has no answers for.
    clicks = re.findall('class="pick" title="Show only ([^"]*)"', file.dom)
    countries = {row[0] for row in asking.execute("SELECT country FROM kpi.country")}
    assert clicks
    assert set(clicks) <= countries
    assert 'id="filter-product_subtype"' not in file.dom


def test_a_click_on_a_bar_filters_its_quarter(
    browser: Browser,
    page_file: Path,
    gathered: Page,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
) -> None:
    script = """
        const svg = document.querySelector("#tile-sales_by_quarter .chart svg");
        const bar = svg.querySelectorAll(".bar")[1].getBoundingClientRect();
        svg.dispatchEvent(new MouseEvent("click", { clientX: bar.left + bar.width / 2, clientY: bar.top + 2, bubbles: true }));
    """
    name = browser.look(page_file).tiles["sales_by_quarter"].rows[1][0]
    shown = browser.look(with_script(page_file, script, tmp_path))
    assert_shows(shown, asking, dashboard, chosen_values(gathered, {"period": name}))
    assert f"Period: {name}" in shown.dom


def preset(name: str) -> str:
    return f"""
        const field = document.getElementById("period");
        field.selectedIndex = [...field.options].findIndex((one) => one.text === "{name}");
        field.dispatchEvent(new Event("change", {{ bubbles: true }}));
    """


def preset_days(name: str, today: date) -> tuple[date, date]:
    """Return the first and the last day of a preset."""
    month = today.replace(day=1)
    if name == "Last 30 days":
        return today - 30 * ONE_DAY, today - ONE_DAY
    if name == "This month":
        return month, next_month(month) - ONE_DAY
    first = (month - ONE_DAY).replace(day=1)
    for _ in range(2):
        first = (first - ONE_DAY).replace(day=1)
    return first, month - ONE_DAY


@pytest.mark.parametrize("name", ["Last 30 days", "This month", "Last 3 full months"])
@pytest.mark.parametrize("country", [None, "Germany"])
def test_presets(
    browser: Browser,
    page_file: Path,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
    tmp_path: Path,
    name: str,
    country: str | None,
) -> None:
    clicks = choose("country", country) if country else ""
    shown = browser.look(with_script(page_file, clicks + preset(name), tmp_path))
    first, last = preset_days(name, TODAY)
    chosen = {"from": first.isoformat(), "to": last.isoformat()}
    assert_shows(shown, asking, dashboard, chosen | ({"country": country} if country else {}))
    if name == "Last 30 days":
        assert shown.tiles["top_products"].rows
        assert "30 days before" in shown.tiles["moved_countries"].text
        assert "Shows whole periods." in shown.tiles["lost_share"].scope


def test_a_long_list_can_be_searched(acting: Callable[[str], Shown]) -> None:
    script = """
        const list = document.getElementById("filter-product_name");
        const field = list.querySelector("input[type=search]");
        field.value = "amplifier";
        field.dispatchEvent(new Event("input"));
        const left = [...list.querySelectorAll("label")].filter((one) => !one.hidden);
        document.title = JSON.stringify(left.map((one) => [one.textContent.trim(), getComputedStyle(one).display]));
    """
    found = json.loads(acting(script).title)
    assert found
    assert all("amplifier" in name.lower() and display != "none" for name, display in found)


def test_tiles_link_to_the_orders_behind_them(
    browser: Browser, gathered: Page, tmp_path: Path
) -> None:
    path = tmp_path / "linked.html"
    preview.write(preview.render_page(gathered, orders="https://bi.example/dashboard/9"), path)
    chosen = chosen_values(gathered, {"country": "Germany", "period": "Mar 2025"})
    dom = browser.look(path, chosen).dom
    links = dict(re.findall(r'data-orders="(\w+)"[^>]*href="([^"]+)"', dom))
    month = "2025-03-01"
    assert links["top_products"] == (
        f"https://bi.example/dashboard/9?country=Germany&amp;month={month}"
    )
    assert links["kpi_overview"].endswith(f"&amp;month={TODAY.replace(day=1)}")
    assert "freshness" not in links
    plain = re.findall(r"<a class=.orders.[^>]*>", preview.render_page(gathered))
    assert plain
    assert all("hidden" in one and "href" not in one for one in plain)


@pytest.mark.parametrize("chosen", SERVED, ids=lambda choice: "-".join(choice))
def test_served_page_asks_for_what_it_does_not_carry(
    chosen: dict[str, Any],
    site: tuple[Acting, str],
    browser: Browser,
    asking: psycopg.Connection[Any],
    dashboard: Dashboard,
) -> None:
    shown = browser.read(f"{site[1]}#{urlencode(chosen, doseq=True)}")
    assert_shows(shown, asking, dashboard, chosen)
    assert all(tile.rows for key, tile in shown.tiles.items() if not key.startswith("moved_"))


def test_orders_behind_a_figure_are_those_that_the_login_sees(
    browser: Browser, new_database: Any, dashboard: Dashboard
) -> None:
    database = new_database()
    with database.connect() as connection:
        seed(connection, orders=300, months=3, seed=3, until=TODAY)
        set_today(connection, TODAY)
        connection.execute("CALL etl.run()")
        login = f"suite_{uuid4().hex[:8]}"
        connection.execute("CALL etl.add_user(%s, '{analyst}', p_is_service => true)", [login])
        try:
            connection.execute("CALL etl.set_user_rows(%s, '{DE}')", [login])
            with (
                open_pool(database.dsn) as pool,
                open_pool(database.dsn, login, analysis.SCHEMA) as analysts,
            ):
                orders = (definition.load(analysis.DETAIL), analysts)
                site = Site(pool, dashboard, ["127.0.0.1"], orders)
                with listening(site) as address:
                    start = browser.read(address).dom
                    link = re.search(r'data-orders="kpi_overview"[^>]*href="([^"]+)"', start)
                    assert link is not None
                    month = TODAY.replace(day=1)
                    assert link[1] == f"orders/?month={month}"
                    shown = browser.read(address + link[1])
                    everything = browser.read(address + "orders/")
            wanted = connection.execute(
                "SELECT count(*) FROM dwh.fact_order AS f JOIN dwh.dim_address AS a USING (address_key)"
                " WHERE a.country = 'Germany' AND f.ordered_at >= %s AT TIME ZONE 'UTC'",
                [month],
            ).fetchone()
        finally:
            connection.execute(f'DROP OWNED BY "{login}"; DROP ROLE "{login}"'.encode())
    assert shown.state == everything.state == "ready"
    assert shown.console == everything.console == []
    rows = shown.tiles["orders_in_detail"].rows
    assert wanted == (len(rows),)
    assert rows
    assert {row[2] for row in rows} == {"Germany"}
    assert {row[0][:7] for row in rows} == {month.isoformat()[:7]}
    assert {row[0] for row in everything.tiles["orders_by_country"].rows} == {"Germany"}
    assert len(everything.tiles["orders_by_month"].rows) > 1


def test_orders_need_a_login_that_may_see_them(database: Database) -> None:
    with pytest.raises(UserError, match="may not read schema analysis"):
        open_pool(database.dsn, ROLE, analysis.SCHEMA)


def test_csv_of_a_tile(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    script = """
        const made = [];
        URL.createObjectURL = (blob) => { blob.text().then((text) => { document.title = JSON.stringify(text); }); return "#"; };
        document.querySelector('[data-csv="top_products"]').click();
    """
    shown = browser.look(with_script(page_file, script, tmp_path))
    lines = list(csv.reader(io.StringIO(json.loads(shown.title).lstrip("\ufeff"))))
    assert lines[0] == ["member", "quantity", "sales", "share_percent"]
    rows = [[row[0], *map(float, row[1:])] for row in lines[1:]]
    assert rows == [[row[0], *map(float, row[1:])] for row in shown.tiles["top_products"].rows]


def test_years_are_on_the_axis(browser: Browser, page_file: Path) -> None:
    shown = browser.look(page_file)
    years = set(re.findall(r'class="mark-text year"[^>]*>(20\d\d)<', shown.dom))
    assert years == {str(TODAY.year - 1), str(TODAY.year)}


def test_it_prints_on_paper(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.pdf"
    browser.run(page_file.as_uri(), f"--print-to-pdf={out}", "--no-pdf-header-footer")
    pdf = out.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4


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
    connection = database.connect()
    set_today(connection, TODAY)
    path = tmp_path / "page.html"
    preview.write(preview.render(connection, dashboard), path)
    shown = browser.look(path)
    assert f"{TODAY.day} {TODAY:%b %Y}" in shown.foot


def test_movements_compare_at_equal_age(
    new_database: Any, browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    """On an early day of a month many losses of the month before the last one came late."""
    database = new_database()
    connection = database.connect()
    seed(connection, orders=1500, months=6, seed=3, until=date(2025, 4, 3))
    set_today(connection, date(2025, 4, 3))
    connection.execute("CALL etl.run()")
    page = preview_data.gather(connection, dashboard)
    path = tmp_path / "april.html"
    preview.write(preview.render_page(page), path)
    choices: tuple[dict[str, str], ...] = ({}, {"period": "Feb 2025"}, {"country": "Germany"})
    for choice in choices:
        chosen = chosen_values(page, choice)
        assert_shows(browser.look(path, chosen), connection, dashboard, chosen)
    (growth,) = connection.execute(
        "SELECT sum(change) FROM kpi.movement_of('country', p_limit => 1000)"
    ).fetchall()
    assert (
        growth
        == connection.execute(
            "SELECT known_sales - before_sales FROM kpi.month WHERE month_start = '2025-03-01'"
        ).fetchone()
    )


def test_a_shop_with_one_order(
    database: Database, browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    """It is so small that a file offers all filters."""
    play = Play.on(database.connect)
    play.shop.now = datetime(2025, 3, 4, 12, tzinfo=UTC)
    play.open()
    play.shop.connection.execute(
        "DELETE FROM oceanrecords.order_lines; DELETE FROM oceanrecords.orders"
    )
    play.shop.order(play.customer, play.address, {play.product: 1})
    set_today(play.loader, date(2025, 3, 10))
    play.run()
    page = preview_data.gather(play.loader, dashboard)
    assert [one.key for one in page.filters] == [
        key for key in dashboard.filters if key not in page.ends
    ]
    path = tmp_path / "small.html"
    preview.write(preview.render_page(page), path)
    name = page.values["product_name"][0]
    for choice in (
        {},
        {"product_name": name, "period": "Mar 2025"},
        {"country": page.values["country"][0]},
    ):
        chosen = chosen_values(page, choice)
        assert_shows(browser.look(path, chosen), play.loader, dashboard, chosen)
