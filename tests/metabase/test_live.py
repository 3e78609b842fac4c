"""The same expectations of the stand-in and, when METABASE_URL is set, of a real server.

    METABASE_URL=http://localhost:3000 METABASE_API_KEY=… OCEANRECORDS_TEST_LIVE_DSN=postgresql://… \\
        pytest tests/metabase/test_live.py

OCEANRECORDS_TEST_LIVE_DSN is a loaded warehouse that the server can reach, as a role that may create
roles; METABASE_WAREHOUSE_HOST and METABASE_WAREHOUSE_PORT say how the server reaches it, if that
differs. What the suite makes there has names of its own that begin with 'Suite', and stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from psycopg import conninfo

from metabase import warehouse as warehouses
from metabase.client import Client, Credentials
from metabase.definition import Collection, Dashboard
from metabase.provisioner import Options, Provisioner, new_password
from metabase.warehouse import Warehouse
from tests.metabase import acceptance
from tests.metabase.conftest import ADMIN
from tests.metabase.standin import Standin

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

# Read at once: the tests' environment is emptied of it.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name.startswith("METABASE_")}
_DSN = os.environ.get("OCEANRECORDS_TEST_LIVE_DSN")
_LOGIN = "suite_metabase"

Expectation = Callable[[acceptance.Server], None]


def suite_dashboard(dashboard: Dashboard) -> Dashboard:
    """The definition under names that nobody else uses."""
    return replace(
        dashboard,
        key="suite",
        name="Suite overview",
        group="Suite business users",
        collection=Collection("suite", "Suite", "Made by a test suite."),
    )


@pytest.mark.parametrize("expectation", acceptance.EXPECTATIONS, ids=lambda one: one.__name__)
def test_of_the_stand_in(
    expectation: Expectation,
    standin: Standin,
    provisioner: Callable[..., Provisioner],
    dashboard: Dashboard,
) -> None:
    mine = suite_dashboard(dashboard)

    def make(changed: Dashboard = mine, **options: object) -> Provisioner:
        return provisioner(changed, **options)

    expectation(acceptance.Server(Client(standin.url, ADMIN), mine, make))


@pytest.fixture(scope="module")
def live_password() -> str:
    if not _ENVIRONMENT.get("METABASE_URL"):
        pytest.skip("METABASE_URL is not set: there is no real server to try")
    if not _DSN:
        pytest.skip("OCEANRECORDS_TEST_LIVE_DSN is not set: the server has no warehouse to read")
    password = new_password()
    with psycopg.connect(_DSN, autocommit=True) as connection:
        warehouses.create_role(connection, _LOGIN)
        warehouses.set_password(connection, _LOGIN, password)
    return password


@pytest.mark.parametrize("expectation", acceptance.EXPECTATIONS, ids=lambda one: one.__name__)
def test_of_a_real_server(
    expectation: Expectation, live_password: str, dashboard: Dashboard
) -> None:
    settings = conninfo.conninfo_to_dict(str(_DSN))
    warehouse = Warehouse(
        "Suite warehouse",
        _ENVIRONMENT.get("METABASE_WAREHOUSE_HOST") or str(settings["host"]),
        int(_ENVIRONMENT.get("METABASE_WAREHOUSE_PORT") or settings.get("port") or 5432),
        str(settings["dbname"]),
        _LOGIN,
    )
    credentials = Credentials.from_environment(environment=_ENVIRONMENT)
    client = Client(_ENVIRONMENT["METABASE_URL"], credentials)
    mine = suite_dashboard(dashboard)

    def make(changed: Dashboard = mine, **options: object) -> Provisioner:
        return Provisioner(
            client,
            credentials,
            changed,
            warehouse,
            password=lambda: live_password,
            options=replace(Options(wait_seconds=600), **options),  # type: ignore[arg-type]
        )

    # The login has a new password in each session.
    make(reset_password=True).provision()
    expectation(acceptance.Server(client, mine, make))
