"""Fixtures of the Metabase tests: a warehouse with its read-only login, a stand-in, a way to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from metabase import analysis
from metabase import warehouse as warehouses
from metabase.analysis import Analysts
from metabase.client import Client, Credentials
from metabase.definition import Dashboard, load
from metabase.provisioner import Options, Provisioner, Report
from metabase.warehouse import ANALYST_ROLE, DEFAULT_ROLE, CatalogColumn, Warehouse
from tests.metabase.standin import Standin, State
from tests.support.database import Database, temporary_database
from tests.support.servers import RunningServer

ADMIN = Credentials(user="admin@example.com", password="correct horse battery")
ROLE_PASSWORD = "staple of the warehouse"

Provision = Callable[..., Report]


@pytest.fixture(autouse=True)
def no_server_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them; only the live suite reads it."""
    for name in list(os.environ):
        if name.startswith("METABASE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def dashboard() -> Dashboard:
    """The definition that travels with the program."""
    return load()


@pytest.fixture
def definition_folder(tmp_path: Path) -> Path:
    """A copy of the definition, to change."""
    folder = tmp_path / "metabase"
    source = load().folder
    (folder / "questions").mkdir(parents=True)
    shutil.copy(source / "dashboard.yaml", folder)
    for path in (source / "questions").glob("*.sql"):
        shutil.copy(path, folder / "questions")
    return folder


@pytest.fixture(scope="session")
def kpi_database(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A warehouse with half a year of orders and the dashboard's login; for reading only."""
    template = request.getfixturevalue(f"{server.name}_template").template_dbname
    with temporary_database(server, template) as made:
        seed = ["simulate", "seed", "--orders", "300", "--months", "6", "--seed", "7"]
        subprocess.run(
            [str(Path(sys.executable).with_name("oceanrecords")), "--dsn", made.dsn, *seed],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        made.execute("CALL etl.run()")
        with made.connect() as connection:
            warehouses.create_role(connection, DEFAULT_ROLE)
            warehouses.set_password(connection, DEFAULT_ROLE, ROLE_PASSWORD)
            warehouses.create_role(connection, ANALYST_ROLE, analysis.SCHEMA)
            warehouses.set_password(connection, ANALYST_ROLE, ROLE_PASSWORD)
        yield made


@pytest.fixture
def warehouse(kpi_database: Database) -> Warehouse:
    """The warehouse as Metabase reaches it."""
    return Warehouse(
        "Warehouse", "127.0.0.1", kpi_database.server.port, kpi_database.name, DEFAULT_ROLE
    )


@pytest.fixture
def analysts(kpi_database: Database) -> Analysts:
    """The part for analysts, on the same warehouse."""
    server = kpi_database.server
    reached_as = Warehouse(
        "Warehouse for analysts",
        "127.0.0.1",
        server.port,
        kpi_database.name,
        ANALYST_ROLE,
        schema=analysis.SCHEMA,
    )
    with kpi_database.connect() as connection:
        catalog = warehouses.catalog(connection, analysis.SCHEMA)
    detail = load(analysis.DETAIL)
    return Analysts(analysis.load(), reached_as, lambda: ROLE_PASSWORD, catalog, detail)


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A fresh server."""
    with Standin(State()) as started:
        yield started


@pytest.fixture
def client(standin: Standin) -> Client:
    """The stand-in's administrator, once it is set up."""
    return Client(standin.url, ADMIN)


@pytest.fixture
def provisioner(
    standin: Standin, dashboard: Dashboard, warehouse: Warehouse
) -> Callable[..., Provisioner]:
    """Makes a provisioner for the stand-in: `provisioner()`, `provisioner(changed, prune=True)`."""

    def make(
        changed: Dashboard | None = None,
        *,
        to: Standin = standin,
        credentials: Credentials = ADMIN,
        reached_as: Warehouse = warehouse,
        catalog: Sequence[CatalogColumn] = (),
        analysts: Analysts | None = None,
        **options: object,
    ) -> Provisioner:
        return Provisioner(
            Client(to.url, credentials, timeout=20),
            credentials,
            changed or dashboard,
            reached_as,
            password=lambda: ROLE_PASSWORD,
            options=replace(Options(wait_seconds=10), **options),  # type: ignore[arg-type]
            catalog=catalog,
            analysts=analysts,
        )

    return make


@pytest.fixture
def provision(provisioner: Callable[..., Provisioner]) -> Provision:
    """Provisions the stand-in and returns the report; takes what `provisioner` takes."""

    def run(*arguments: Dashboard, **options: object) -> Report:
        return provisioner(*arguments, **options).provision()

    return run
