"""All that provisioning asks for, against each version of Metabase that the stand-in knows.

docs/metabase-requests.md has the table that this makes. After a change of the requests:

    OCEANRECORDS_TEST_WRITE_TABLES=1 pytest tests/metabase/test_versions.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from metabase import identity
from metabase import warehouse as warehouses
from metabase.analysis import Analysts
from metabase.client import OLDEST_VERSION, Client
from metabase.definition import Dashboard
from metabase.provisioner import Provisioner
from tests.metabase.conftest import ADMIN, Provision
from tests.metabase.standin import Standin, State
from tests.metabase.standin.server import Request
from tests.metabase.standin.state import NEWEST
from tests.support.database import Database

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")

PAGE = Path(__file__).parents[2] / "docs" / "metabase-requests.md"
NEWEST_MAJOR = State(version=NEWEST).major
COMMUNITY = [f"v0.{major}.0" for major in range(OLDEST_VERSION, NEWEST_MAJOR)] + [NEWEST]
VERSIONS = [*COMMUNITY, f"v1.{OLDEST_VERSION}.0", NEWEST.replace("v0.", "v1.")]

# Read at once: the tests' environment is emptied of it.
WRITES = bool(os.environ.get("OCEANRECORDS_TEST_WRITE_TABLES"))

Everything = Callable[[str], list[Request]]

# What a version was asked, for the table.
_asked: dict[str, list[Request]] = {}


@pytest.fixture
def everything(
    provision: Provision,
    provisioner: Callable[..., Provisioner],
    analysts: Analysts,
    kpi_database: Database,
    dashboard: Dashboard,
) -> Everything:
    """Lets all that can happen happen on a server of a version, and returns the requests."""
    # The definition leaves the currency to the warehouse.
    mine = replace(dashboard, currency="EUR")
    with kpi_database.connect() as connection:
        catalog = warehouses.catalog(connection, "kpi")

    def run(version: str) -> list[Request]:
        # The newest refuse a key that they do not know, older ones drop it.
        state = State(version=version, refuses_unknown_keys=version.endswith(NEWEST[2:]))
        options = {"analysts": analysts, "catalog": catalog, "recipients": ("a@example.com",)}
        with Standin(state) as server:
            provision(mine, to=server, **{**options, "recipients": ("b@example.com",)})
            report = provision(mine, to=server, **options)
            one = provisioner(mine, to=server, **options)
            assert one.plan().changes == []
            assert all(isinstance(rows, int) for rows in one.check().values())
            before = state.essence()
            number = len(server.requests)
            with Client(server.url, ADMIN) as client:
                client.put(f"/api/dashboard/{report.ids['dashboard']}", {"archived": True})
                client.put(f"/api/card/{report.ids['question/countries']}", {"archived": True})
                client.put(f"/api/collection/{report.ids['collection']}", {"archived": True})
                client.put(f"/api/database/{report.ids['database']}", {"name": "Renamed"})
                for row in state.pulses.values():
                    row["archived"] = True
                for row in state.tables.values():
                    row["description"] = None
                card = state.cards[report.ids["question/top_products"]]
                mark = {identity.CARD_MARK: identity.card_key(card)}
                card |= {"name": "x", "description": "x", "display": "pie", "type": "model"}
                card |= {"parameters": [], "dataset_query": {}, "visualization_settings": mark}
            others = server.requests[number:]
            provision(mine, to=server, **options)
            assert state.essence() == before
            last = provisioner(mine, to=server, **options)
            assert last.plan().changes == []
            last._client.close()
            by_hand = {id(request) for request in others}
            _asked[version] = [one for one in server.requests if id(one) not in by_hand]
            return _asked[version]

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_works_and_a_second_time_there_is_nothing_to_do(
    version: str, everything: Everything
) -> None:
    requests = everything(version)
    assert {request.status for request in requests} <= {200, 204}


def test_the_table_of_requests_is_up_to_date(everything: Everything) -> None:
    page = table({version: _asked.get(version) or everything(version) for version in COMMUNITY})
    if WRITES:
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, (
        "OCEANRECORDS_TEST_WRITE_TABLES=1 writes it anew"
    )


def table(found: Mapping[str, list[Request]]) -> str:
    """Return the page: a row per request, a column per version with what was answered."""
    answers: dict[str, dict[str, set[int]]] = {}
    keys: dict[str, set[str]] = {}
    for version, requests in found.items():
        for one in requests:
            path = re.sub(r"/\d+", "/:id", one.path)
            name = f"{one.method} {path}"
            answers.setdefault(name, {}).setdefault(version, set()).add(one.status)
            if isinstance(one.body, dict):
                keys.setdefault(name, set()).update(one.body)
    names = [version.removeprefix("v").rsplit(".", 1)[0] for version in COMMUNITY[:-1]]
    names.append(NEWEST.removeprefix("v"))
    lines = [
        "# Requests to Metabase, by version",
        "",
        "Every request that `oceanrecords metabase` sends, with the keys of its body and the status",
        "that the stand-in of the tests answers for each version of Metabase. The stand-in follows",
        "Metabase's published source ([what it cannot show](../tests/metabase/standin/__init__.py));",
        "no status here comes from a real server. `tests/metabase/test_versions.py` generates this",
        "page and fails when it is out of date.",
        "",
        f"| Request | Keys sent | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for name in sorted(answers, key=lambda one: (one.split()[1], one)):
        sent = ", ".join(f"`{key}`" for key in sorted(keys.get(name, ())))
        cells = [
            ", ".join(str(status) for status in sorted(answers[name].get(version, ()))) or "-"
            for version in COMMUNITY
        ]
        lines.append(f"| `{name}` | {sent} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
