"""The page on days that are special in the calendar: every tile shows what its question answers on that day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from metabase import preview
from metabase.definition import Dashboard
from simulator.seed import seed
from tests.kpi.expected import next_month
from tests.preview.browser import Browser
from tests.preview.conftest import set_today
from tests.preview.test_page import assert_shows, preset, preset_days, with_script
from tests.support.database import temporary_database
from tests.support.servers import RunningServer

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ONE_DAY = timedelta(days=1)
DAYS = [
    date(2023, 12, 1),  # the 30 days before are a month
    date(2024, 1, 1),
    date(2024, 2, 29),
    date(2024, 3, 1),
    date(2024, 3, 31),  # the 30 days before begin with the month
]


@pytest.fixture(scope="module")
def history(
    server: RunningServer, request: pytest.FixtureRequest
) -> Iterator[psycopg.Connection[Any]]:
    """A warehouse with nine months of orders, some of them on each of the days."""
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, template.template_dbname) as made, made.connect() as connection:
        seed(connection, orders=1200, months=9, seed=5, until=date(2024, 4, 2))
        connection.execute("CALL etl.run()")
        yield connection


def moved(first: date, last: date) -> str:
    """Return what the movements say that they compare."""
    if first.day == 1 and last == next_month(first) - ONE_DAY:
        return f"{first:%b %Y} against {first - ONE_DAY:%b %Y}"
    days = (last - first).days + 1
    return f"{first.day} {first:%b %Y} to {last.day} {last:%b %Y} against the {days} days before"


@pytest.mark.parametrize("today", DAYS, ids=str)
def test_the_page_on_a_special_day(
    history: psycopg.Connection[Any],
    browser: Browser,
    dashboard: Dashboard,
    tmp_path: Path,
    today: date,
) -> None:
    set_today(history, today)
    path = tmp_path / "page.html"
    preview.write(preview.render(history, dashboard), path)

    shown = browser.look(path)
    assert_shows(shown, history, dashboard, {})
    told = shown.tiles["kpi_overview"].text.lower() + shown.tiles["headline"].text.lower()
    assert ("no full day yet" in told) is (today.day == 1)
    assert (today - ONE_DAY).strftime("%b %Y") in shown.tiles["headline"].text
    looks = [shown]
    for name in ("Last 30 days", "This month", "Last 3 full months"):
        shown = browser.look(with_script(path, preset(name), tmp_path))
        first, last = preset_days(name, today)
        chosen = {"from": first.isoformat(), "to": last.isoformat()}
        assert_shows(shown, history, dashboard, chosen)
        assert re.search(f'<option value="[^"]*">{name}</option>', shown.dom)
        if name == "Last 30 days":
            for key in ("moved_countries", "moved_subtypes", "moved_products"):
                assert moved(first, last) in shown.tiles[key].text
        looks.append(shown)
    for shown in looks:
        for tile in shown.tiles.values():
            assert not re.search("NaN|undefined|null|Invalid|Infinity", tile.text)
