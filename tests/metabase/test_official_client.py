"""Requests and stand-in, checked by Metabase's own client from npm: an optional job.

The client knows what servers take and give: it has the schema of a query, of the bodies that are
sent, and of the answers. With it at hand, this suite holds every body that provisioning sends
against those schemas, and lets the client read and write on the stand-in.

    npm install --prefix build/npm @metabase/cli@0.3.1
    OCEANRECORDS_TEST_MB=build/npm/node_modules/.bin/mb pytest tests/metabase/test_official_client.py
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from metabase import analysis, payload
from metabase.analysis import Analysts
from metabase.definition import Dashboard
from tests.metabase.conftest import ADMIN, Provision
from tests.metabase.standin import Standin, State

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")

Mb = Callable[..., Any]

KEY = "mb_key_of_the_suite"


@pytest.fixture(scope="module")
def program() -> str:
    found = os.environ.get("OCEANRECORDS_TEST_MB") or shutil.which("mb")
    if not found or not Path(found).exists():
        pytest.skip("Metabase's client from npm is not there; OCEANRECORDS_TEST_MB names it")
    if shutil.which("node") is None:
        pytest.skip("Node.js is not there, which Metabase's client from npm needs")
    return str(Path(found).resolve())


@pytest.fixture
def mb(program: str, tmp_path: Path) -> Mb:
    """Runs the client, and returns what it answers; `status` is what it should end with."""

    def run(*arguments: str, body: object = None, status: int = 0) -> Any:
        done = subprocess.run(
            [program, *arguments],
            input="" if body is None else json.dumps(body),
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CI": "true"},
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


@pytest.fixture
def on(mb: Mb) -> Callable[..., Any]:
    """Runs the client on a server: `on(server, "card", "list")`."""

    def run(server: Standin, *arguments: str, **options: Any) -> Any:
        access = ("--url", server.url, "--api-key", KEY, "--json", "--max-bytes", "0")
        return mb(*arguments, *access, **options)

    return run


def test_every_query_passes_its_dry_run(mb: Mb, dashboard: Dashboard) -> None:
    for question in dashboard.questions.values():
        query = payload.dataset_query(dashboard, question, 1, 7)
        assert mb("query", "--dry-run", "--json", body=query) == {"ok": True, "errors": []}


def test_models_and_metrics_pass_its_dry_run(mb: Mb, analysts: Analysts) -> None:
    definition = analysts.definition
    for model in definition.models.values():
        query = analysis.model_card("key", model, 1, 2)["dataset_query"]
        assert mb("query", "--dry-run", "--json", body=query) == {"ok": True, "errors": []}
    for metric in definition.metrics.values():
        query = analysis.metric_card("key", metric, 1, 2, 3, "EUR")["dataset_query"]
        assert mb("query", "--dry-run", "--json", body=query) == {"ok": True, "errors": []}


def test_the_dry_run_finds_faults(mb: Mb, dashboard: Dashboard) -> None:
    query = payload.dataset_query(dashboard, dashboard.questions["top_products"], 1, 7)
    del query["stages"][0]["template-tags"]["country"]["id"]
    answer = mb("query", "--dry-run", "--json", body=query, status=2)
    assert answer["errors"][0]["path"] == "/stages/0/template-tags/country"


def test_every_body_that_is_sent_fits_the_clients_schemas(
    mb: Mb, provision: Provision, standin: Standin, analysts: Analysts
) -> None:
    provision(analysts=analysts, recipients=("boss@example.com",))
    commands = {
        "POST /api/setup": ("setup",),
        "POST /api/collection": ("collection", "create"),
        "POST /api/card": ("card", "create"),
        "PUT /api/card/ID": ("card", "update"),
        "POST /api/dashboard": ("dashboard", "create"),
        "PUT /api/dashboard/ID": ("dashboard", "update"),
        "POST /api/pulse": ("subscription", "create"),
        "PUT /api/pulse/ID": ("subscription", "update"),
        "POST /api/notification": ("alert", "create"),
        "PUT /api/notification/ID": ("alert", "update"),
        "PUT /api/table/ID": ("table", "update"),
        "PUT /api/field/ID": ("field", "update"),
    }
    for row in standin.state.cards.values():
        row["name"] += " (changed)"
    provision(analysts=analysts, recipients=("new@example.com",))
    schemas = {
        what: mb(*command, "--help", "--json")["inputSchema"] for what, command in commands.items()
    }
    seen = set()
    for request in standin.writes:
        what = f"{request.method} {re.sub(r'/[0-9]+', '/ID', request.path)}"
        if what in schemas:
            seen.add(what)
            jsonschema.validate(request.body, schemas[what])
    assert seen == set(commands)


def test_the_client_sets_the_stand_in_up(on: Callable[..., Any], standin: Standin) -> None:
    body = {
        "token": standin.state.setup_token,
        "user": {"email": ADMIN.user, "password": ADMIN.password},
        "prefs": {"site_name": "By the client"},
    }
    # The client wants a key, though the address needs none.
    assert on(standin, "setup", "--skip-preflight", body=body)["id"]
    assert len(standin.state.users) == 1


def test_the_client_reads_what_was_provisioned(
    on: Callable[..., Any], provision: Provision, dashboard: Dashboard
) -> None:
    state = State()
    state.add_user(str(ADMIN.user), str(ADMIN.password), superuser=True)
    state.add_key(KEY)
    with Standin(state) as server:
        ids = provision(to=server).ids
        shown = on(server, "dashboard", "get", str(ids["dashboard"]), "--full")
        assert len(shown["dashcards"]) == len(dashboard.tiles)
        expected = payload.parameters(dashboard, {})
        assert [one["name"] for one in shown["parameters"]] == [one["name"] for one in expected]
        card = on(server, "card", "get", str(ids["question/top_products"]), "--full")
        assert card["dataset_query"]["lib/type"] == "mbql/query"
        rows = on(server, "card", "query", str(ids["question/kpi_overview"]))
        assert rows["row_count"] == 5
        items = on(server, "collection", "items", str(ids["collection"]))["data"]
        assert len(items) == len(dashboard.questions) + 1
        tables = on(server, "db", "get", str(ids["database"]), "--include", "tables")["tables"]
        assert {"month", "overview"} <= {one["name"] for one in tables}


def test_what_the_client_changed_is_repaired(
    on: Callable[..., Any], provision: Provision, dashboard: Dashboard
) -> None:
    state = State()
    state.add_user(str(ADMIN.user), str(ADMIN.password), superuser=True)
    state.add_key(KEY)
    with Standin(state) as server:
        ids = provision(to=server).ids
        essence = state.essence()
        number = str(ids["question/top_products"])
        card = on(server, "card", "get", number, "--full")
        card["dataset_query"]["stages"][0]["native"] = "SELECT 1 AS changed"
        body = {"name": "By the client", "dataset_query": card["dataset_query"]}
        on(server, "card", "update", number, body=body)
        on(server, "card", "archive", str(ids["question/top_countries"]))
        assert len(provision(to=server).changes) >= 2
        assert state.essence() == essence
