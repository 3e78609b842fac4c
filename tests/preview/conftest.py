"""A warehouse to show, and a real browser to look at its page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from metabase import definition, preview, preview_data
from metabase.definition import Dashboard
from metabase.preview_data import Page
from simulator.seed import seed
from tests.preview.browser import Browser, Shown
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

# The day on which the page is looked at: whatever it shows does not depend on when the tests run.
TODAY = date(2025, 7, 17)

NASTY = """</script><img src=x onerror="document.title='taken'"> & "Ü" 'x' \\u003c %s"""

Look = Callable[..., Shown]


def set_today(connection: psycopg.Connection[Any], today: date) -> None:
    """Make a day the business's today."""
    connection.execute(
        "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [today.isoformat()]
    )


@pytest.fixture(scope="session")
def dashboard() -> Dashboard:
    """The definition that travels with the program."""
    return definition.load()


@pytest.fixture(scope="session")
def warehouse(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A warehouse with eight months of orders, whose best product has a nasty name; to read only."""
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with temporary_database(server, template.template_dbname) as made:
        with made.connect() as connection:
            seed(connection, orders=1500, months=8, seed=3, until=TODAY)
            connection.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")
            set_today(connection, TODAY)
            connection.execute("CALL etl.run()")
            connection.execute(
                "UPDATE oceanrecords.products SET name = %s WHERE product_id = (SELECT product_id"
                " FROM kpi.product_monthly GROUP BY product_id ORDER BY sum(sales) DESC LIMIT 1)",
                [NASTY],
            )
            connection.execute("CALL etl.run()")
        yield made


@pytest.fixture
def asking(warehouse: Database) -> psycopg.Connection[Any]:
    """A connection to the warehouse."""
    return warehouse.connect()


@pytest.fixture(scope="session")
def gathered(warehouse: Database, dashboard: Dashboard) -> Page:
    """What the page shows."""
    with warehouse.connect() as connection:
        return preview_data.gather(connection, dashboard)


@pytest.fixture(scope="session")
def html(gathered: Page) -> str:
    """The page."""
    return preview.render_page(gathered)


@pytest.fixture(scope="session")
def page_file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page in a file."""
    path = tmp_path_factory.mktemp("page") / "dashboard.html"
    preview.write(html, path)
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Chromium, without a screen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert "Chromium" in version.stdout
    return Browser(program, tmp_path_factory.mktemp("browser"))
