"""What was changed by hand in Metabase comes back as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import UserError
from metabase import export
from metabase.client import Client
from metabase.definition import Dashboard, load
from metabase.provisioner import Provisioner
from tests.metabase.conftest import Provision
from tests.metabase.standin import Standin

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")


@pytest.fixture
def read(
    client: Client, dashboard: Dashboard, provisioner: Callable[..., Provisioner]
) -> Callable[[], export.Export]:
    return lambda: export.read(client, dashboard, provisioner().plan().ids)


def test_an_untouched_server_gives_the_definition_back(
    provision: Provision, read: Callable[[], export.Export], dashboard: Dashboard
) -> None:
    provision()
    found = read()
    assert found.warnings == []
    assert export.as_dict(found.dashboard) == export.as_dict(dashboard)


def test_changes_by_hand_are_kept_and_provisioned_again_without_a_change(
    standin: Standin,
    client: Client,
    provision: Provision,
    provisioner: Callable[..., Provisioner],
    read: Callable[[], export.Export],
    tmp_path: Path,
) -> None:
    ids = provision().ids
    card = client.get(f"/api/card/{ids['question/sales_by_quarter']}")
    settings = dict(card["visualization_settings"])
    del settings["graph.show_values"]
    settings["graph.y_axis.scale"] = "log"
    settings["column_settings"] = {
        **settings["column_settings"],
        '["name","sales"]': {"decimals": 2},
    }
    query = card["dataset_query"]
    query["stages"][0]["native"] += "\nLIMIT 8"
    body: dict[str, Any] = {
        "name": "Turnover by quarter",
        "description": "In other words.",
        "visualization_settings": settings,
        "dataset_query": query,
    }
    client.put(f"/api/card/{card['id']}", body)
    path = f"/api/dashboard/{ids['dashboard']}"
    tiles = client.get(path)["dashcards"]
    keys = ("id", "card_id", "row", "col", "size_x", "size_y", "parameter_mappings")
    sent = [{key: tile[key] for key in keys} for tile in tiles]
    for tile in sent:
        if tile["row"] == 13:
            tile["size_y"] = 9
    client.put(path, {"dashcards": sent, "name": "Every morning"})
    essence = standin.state.essence()

    found = read()
    assert found.warnings == []
    export.write(found.dashboard, tmp_path / "mine")
    mine = load(tmp_path / "mine")
    changed = mine.questions["sales_by_quarter"]
    assert (changed.name, changed.description) == ("Turnover by quarter", "In other words.")
    assert changed.sql.endswith("LIMIT 8")
    assert changed.visualization["graph.show_values"] is None
    assert mine.name == "Every morning"
    assert provisioner(mine).plan().changes == []
    provision(mine)
    assert standin.state.essence() == essence


def test_what_cannot_be_kept_is_said(
    client: Client, provision: Provision, read: Callable[[], export.Export]
) -> None:
    ids = provision().ids
    client.put(f"/api/card/{ids['question/top_products']}", {"display": "pie"})
    client.put(f"/api/card/{ids['question/countries']}", {"archived": True})
    card = client.get(f"/api/card/{ids['question/top_products']}")
    own = {key: card[key] for key in ("dataset_query", "display", "visualization_settings")}
    mine = client.post("/api/card", {**own, "name": "My own"})
    path = f"/api/dashboard/{ids['dashboard']}"
    keys = ("id", "card_id", "row", "col", "size_x", "size_y", "parameter_mappings")
    sent = [{key: tile[key] for key in keys} for tile in client.get(path)["dashcards"]]
    sent.append({**sent[0], "id": -1, "row": 60, "card_id": mine["id"], "parameter_mappings": []})
    client.put(path, {"dashcards": sent})
    warnings = " ".join(read().warnings)
    assert "top_products is shown as pie" in warnings
    assert "countries is archived" in warnings
    assert "'My own' shows none of the definition's questions" in warnings


def test_nothing_to_export(standin: Standin, read: Callable[[], export.Export]) -> None:
    with pytest.raises(UserError, match="has no dashboard 'OceanRecords business overview'"):
        read()


def test_nothing_is_overwritten_unasked(dashboard: Dashboard, tmp_path: Path) -> None:
    export.write(dashboard, tmp_path)
    with pytest.raises(UserError, match="exists already"):
        export.write(dashboard, tmp_path)
    assert export.write(dashboard, tmp_path, force=True)


def test_a_folder_that_cannot_be_made(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export.write(dashboard, tmp_path / "file" / "folder")
