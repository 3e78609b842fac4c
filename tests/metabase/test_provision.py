"""Provisioning, against the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from base.errors import UserError
from metabase import identity
from metabase.client import ApiError, Client, Credentials
from metabase.definition import Dashboard
from metabase.provisioner import Provisioner
from metabase.warehouse import Warehouse
from tests.metabase.conftest import ADMIN, Provision
from tests.metabase.standin import Standin, State
from tests.metabase.standin.state import ALL_USERS
from tests.support.database import Database

# Of PostgreSQL it leans on nothing in which the versions differ; test_live.py runs on each.
pytestmark = pytest.mark.server("embedded")


def card_of(standin: Standin, dashboard: Dashboard, key: str) -> dict[str, object]:
    mark = identity.question_key(dashboard.key, key)
    return next(row for row in standin.state.cards.values() if identity.card_key(row) == mark)


def only_dashboard(standin: Standin) -> dict[str, object]:
    (row,) = standin.state.dashboards.values()
    return row


# -- from nothing ---------------------------------------------------------------------------------


def test_a_fresh_server_is_set_up_and_gets_everything(
    standin: Standin, provision: Provision, dashboard: Dashboard, warehouse: Warehouse
) -> None:
    report = provision()
    state = standin.state
    assert [user.email for user in state.users] == [ADMIN.user]
    (database,) = state.databases.values()
    assert database["details"]["user"] == warehouse.user
    assert database["details"]["schema-filters-patterns"] == "kpi"
    assert {row["name"] for row in state.cards.values()} == {
        one.name for one in dashboard.questions.values()
    }
    tiles = only_dashboard(standin)["dashcards"]
    assert len(tiles) == len(dashboard.tiles)
    assert report.dashboard_url == f"{standin.url}/dashboard/{report.ids['dashboard']}"
    assert {change.kind for change in report.changes} == {
        "server",
        "database",
        "collection",
        "question",
        "dashboard",
        "group",
        "permissions",
    }


def test_every_question_answers_as_the_read_only_login(
    standin: Standin, provisioner: Callable[..., Provisioner], dashboard: Dashboard
) -> None:
    one = provisioner()
    one.provision()
    assert set(one.check()) == set(dashboard.questions)
    assert all(isinstance(rows, int) for rows in one.check().values()), one.check()
    (database,) = standin.state.databases.values()
    with standin.state._connect(database["details"]) as connection:
        with pytest.raises(Exception, match="permission denied"):
            connection.execute("SELECT * FROM dwh.fact_order")
        with pytest.raises(Exception, match="read-only transaction"):
            connection.execute("CREATE TABLE kpi.mine (one integer)")


def test_a_plan_writes_nothing_and_a_fresh_server_is_all_to_be_made(
    standin: Standin, provisioner: Callable[..., Provisioner], dashboard: Dashboard
) -> None:
    report = provisioner().plan()
    assert not standin.writes
    assert {change.action for change in report.changes if change.kind != "server"} == {"create"}
    made = [change.name for change in report.changes if change.kind == "question"]
    assert made == [one.name for one in dashboard.questions.values()]


def test_the_plan_says_what_provision_does(
    provisioner: Callable[..., Provisioner], provision: Provision, standin: Standin
) -> None:
    planned = [(one.action, one.kind, one.name) for one in provisioner().plan().changes]
    done = [(one.action, one.kind, one.name) for one in provision().changes]
    # What everybody may do with a new database and collection shows only once they are there.
    assert [one for one in done if one[1] != "permissions"] == [
        one for one in planned if one[1] != "permissions"
    ]
    assert provisioner().plan().changes == []


def test_a_second_provision_writes_nothing(standin: Standin, provision: Provision) -> None:
    provision()
    written, essence = len(standin.writes), standin.state.essence()
    report = provision()
    assert report.changes == []
    assert len(standin.writes) == written
    assert standin.state.essence() == essence


def test_with_an_api_key(provision: Provision) -> None:
    state = State()
    state.add_key("mb_key")
    with Standin(state) as server:
        provision(to=server, credentials=Credentials(api_key="mb_key"))
        assert len(state.dashboards) == 1
        assert not [one for one in server.requests if one.path == "/api/session"]


def test_a_server_that_drops_unknown_keys(provision: Provision) -> None:
    with Standin(State(refuses_unknown_keys=False)) as server:
        provision(to=server)
        assert provision(to=server).changes == []


def test_waits_for_a_slow_start_and_a_slow_sync(provision: Provision) -> None:
    with Standin(State(starting_seconds=0.4, sync_seconds=0.5)) as server:
        provision(to=server)
        asked = [one for one in server.requests if one.path.startswith("/api/database/")]
        assert len(asked) > 2


def test_a_session_that_ended_is_renewed(
    standin: Standin, provisioner: Callable[..., Provisioner]
) -> None:
    one = provisioner()
    one.provision()
    standin.state.sessions.clear()
    assert one.plan().changes == []


# -- drift ----------------------------------------------------------------------------------------


DRIFT: dict[str, dict[str, object]] = {
    "sql": {"dataset_query": "SELECT 1"},
    "name": {"name": "My own name"},
    "display": {"display": "pie"},
    "description": {"description": None},
    "archived": {"archived": True},
    "settings": {"visualization_settings": {"table.pivot": True}},
    "collection": {"collection_id": None},
}


@pytest.mark.parametrize("kind", DRIFT)
def test_drift_of_a_question_is_repaired(
    kind: str,
    standin: Standin,
    client: Client,
    provision: Provision,
    provisioner: Callable[..., Provisioner],
    dashboard: Dashboard,
) -> None:
    provision()
    before = standin.state.essence()
    card = card_of(standin, dashboard, "top_products")
    body = dict(DRIFT[kind])
    if kind == "sql":
        stage = {"lib/type": "mbql.stage/native", "native": body["dataset_query"]}
        query = card["dataset_query"]
        assert isinstance(query, dict)
        body["dataset_query"] = {**query, "stages": [stage]}
    client.put(f"/api/card/{card['id']}", body)
    assert standin.state.essence() != before
    planned = provisioner().plan().changes
    assert ("question", "Top products") in [(one.kind, one.name) for one in planned]
    provision()
    assert standin.state.essence() == before
    assert provision().changes == []


def test_drift_of_the_dashboard_is_repaired(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    before = standin.state.essence()
    row = only_dashboard(standin)
    number = row["id"]
    tiles = client.get(f"/api/dashboard/{number}")["dashcards"]
    sent = [
        {key: tile[key] for key in ("id", "card_id", "row", "col", "size_x", "size_y")}
        for tile in tiles
    ]
    sent[0]["size_x"] -= 1
    del sent[3]
    sent.append({**sent[1], "id": -1, "row": 50})
    client.put(
        f"/api/dashboard/{number}",
        {"dashcards": sent, "name": "Mine", "width": "fixed", "parameters": []},
    )
    ids = {tile["id"] for tile in sent if tile["id"] > 0}
    report = provision()
    assert [change.kind for change in report.changes] == ["dashboard"]
    assert standin.state.essence() == before
    kept = {tile["id"] for tile in client.get(f"/api/dashboard/{number}")["dashcards"]}
    assert ids <= kept, "tiles that were there keep their ids"
    assert provision().changes == []


def test_an_archived_collection_comes_back_with_what_is_in_it(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    before = standin.state.essence()
    (number,) = standin.state.collections
    client.put(f"/api/collection/{number}", {"archived": True})
    report = provision()
    assert ("restore", "collection") in [(one.action, one.kind) for one in report.changes]
    assert standin.state.essence() == before


def test_an_archived_dashboard_comes_back(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    number = only_dashboard(standin)["id"]
    client.put(f"/api/dashboard/{number}", {"archived": True})
    provision()
    row = only_dashboard(standin)
    assert (row["id"], row["archived"]) == (number, False)


def test_a_renamed_question_is_updated_in_place(
    standin: Standin, provision: Provision, dashboard: Dashboard
) -> None:
    provision()
    number = card_of(standin, dashboard, "top_products")["id"]
    renamed = replace(dashboard.questions["top_products"], name="Best sellers")
    changed = replace(dashboard, questions={**dashboard.questions, "top_products": renamed})
    report = provision(changed)
    assert [(one.action, one.name, one.details) for one in report.changes] == [
        ("update", "Best sellers", ("name",))
    ]
    row = card_of(standin, dashboard, "top_products")
    assert (row["id"], row["name"]) == (number, "Best sellers")
    assert len(standin.state.cards) == len(dashboard.questions)


def test_a_renamed_database_is_known_by_its_place(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    (number,) = standin.state.databases
    client.put(f"/api/database/{number}", {"name": "Renamed by hand"})
    report = provision()
    assert [(one.kind, one.details) for one in report.changes] == [("database", ("name",))]
    assert list(standin.state.databases) == [number]


def test_a_view_that_came_later_makes_metabase_look_again(
    standin: Standin, provision: Provision, provisioner: Callable[..., Provisioner]
) -> None:
    provision()
    for number, table in list(standin.state.tables.items()):
        if table["name"] not in ("month", "calendar"):
            del standin.state.tables[number]
    (change,) = provisioner().plan().changes
    assert change.details[0].startswith("sync of ")
    provision()
    assert provision().changes == []


# -- orphans --------------------------------------------------------------------------------------


def without(dashboard: Dashboard, key: str) -> Dashboard:
    rest = {name: one for name, one in dashboard.questions.items() if name != key}
    return replace(dashboard, questions=rest)


def test_an_orphan_is_named_and_archived_only_when_asked(
    standin: Standin, provision: Provision, dashboard: Dashboard
) -> None:
    provision()
    smaller = without(dashboard, "top_countries")
    report = provision(smaller)
    assert [one.kind for one in report.changes] == ["dashboard"]
    assert any("'Top countries'" in one and "--prune" in one for one in report.warnings)
    assert not card_of(standin, dashboard, "top_countries")["archived"]
    report = provision(smaller, prune=True)
    assert [(one.action, one.name) for one in report.changes] == [("archive", "Top countries")]
    assert card_of(standin, dashboard, "top_countries")["archived"]
    assert provision(smaller, prune=True).changes == []
    # And it comes back in place when it is defined again.
    number = card_of(standin, dashboard, "top_countries")["id"]
    provision()
    row = card_of(standin, dashboard, "top_countries")
    assert (row["id"], row["archived"]) == (number, False)


def test_what_people_made_is_never_pruned(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    provision()
    card = dict(card_of(standin, dashboard, "top_countries"))
    copy = {key: card[key] for key in ("dataset_query", "display", "visualization_settings")}
    mine = client.post(
        "/api/card",
        {
            **copy,
            "name": "Top countries - Duplicate",
            "description": card["description"],
            "collection_id": card["collection_id"],
        },
    )
    provision(without(dashboard, "top_countries"), prune=True)
    assert not client.get(f"/api/card/{mine['id']}")["archived"]


# -- ambiguity ------------------------------------------------------------------------------------


def test_two_databases_of_the_name_stop_it_with_both_named(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    (database,) = standin.state.databases.values()
    twin = {key: database[key] for key in ("name", "engine", "details")}
    number = client.post("/api/database", twin)["id"]
    written = len(standin.writes)
    with pytest.raises(UserError) as caught:
        provision()
    assert f"id {database['id']}" in caught.value.message
    assert f"id {number}" in caught.value.message
    assert len(standin.writes) == written


def test_two_collections_with_the_mark_stop_it(
    standin: Standin, client: Client, provision: Provision
) -> None:
    provision()
    (first,) = standin.state.collections.values()
    twin = client.post("/api/collection", {"name": "Copy", "description": first["description"]})
    with pytest.raises(UserError) as caught:
        provision()
    assert f"'OceanRecords' (id {first['id']})" in caught.value.message
    assert f"'Copy' (id {twin['id']})" in caught.value.message


def test_a_strangers_collection_is_taken_over_only_when_asked(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    standin.state.add_user("admin@example.com", str(ADMIN.password), superuser=True)
    theirs = client.post("/api/collection", {"name": dashboard.collection.name})
    written = len(standin.writes)
    with pytest.raises(UserError, match="not created by this tool") as caught:
        provision()
    assert "--adopt" in str(caught.value.hint)
    assert len(standin.writes) == written
    report = provision(adopt=True)
    assert report.ids["collection"] == theirs["id"]
    assert provision().changes == []


def test_a_strangers_dashboard_is_taken_over_only_when_asked(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    provision()
    row = only_dashboard(standin)
    client.put(f"/api/dashboard/{row['id']}", {"caveats": ""})
    with pytest.raises(UserError, match="not created by this tool"):
        provision()
    assert provision(adopt=True).ids["dashboard"] == row["id"]


def test_a_namesake_of_a_question_to_be_made_stops_it(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    smaller = without(dashboard, "top_countries")
    provision(smaller)
    card = dict(card_of(standin, dashboard, "top_products"))
    mine = client.post(
        "/api/card",
        {
            **{key: card[key] for key in ("dataset_query", "display")},
            "visualization_settings": {},
            "name": "Top countries",
            "collection_id": card["collection_id"],
        },
    )
    with pytest.raises(UserError) as caught:
        provision()
    assert "top_countries" in caught.value.message
    assert f"id {mine['id']}" in caught.value.message


# -- what the server does not keep ----------------------------------------------------------------


@pytest.mark.parametrize("key", ["display", "visualization_settings", "description"])
def test_a_key_that_is_not_kept_is_an_error(key: str, provision: Provision) -> None:
    with Standin(State(forgets=set())) as server:
        provision(to=server)
        server.state.forgets.add(key)
        for row in server.state.cards.values():
            row[key] = {} if key == "visualization_settings" else "other"
        with pytest.raises(UserError, match=f"did not keep {key}"):
            provision(to=server)


def test_an_empty_query_stored_with_200_is_an_error(
    provision: Provision, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Standin(State(version="v0.64.6")) as server:
        monkeypatch.setattr(server.state, "_normal_query", lambda query: {})
        with pytest.raises(UserError, match="did not keep dataset_query"):
            provision(to=server)
        monkeypatch.undo()
        provision(to=server)
        assert provision(to=server).changes == []


def test_the_old_envelope_is_stored_empty_when_it_is_mixed_with_the_new(
    standin: Standin, client: Client, provision: Provision
) -> None:
    """The stand-in does what servers do, so that the test above means something."""
    provision()
    standin.state.version = "v0.64.6"
    (database,) = standin.state.databases
    mixed = {
        "lib/type": "mbql/query",
        "type": "native",
        "database": database,
        "stages": [{"lib/type": "mbql.stage/native", "native": "SELECT 1"}],
    }
    card = client.post(
        "/api/card",
        {"name": "x", "display": "table", "dataset_query": mixed, "visualization_settings": {}},
    )
    assert card["dataset_query"] == {}


# -- permissions ----------------------------------------------------------------------------------


def test_a_business_user_reads_the_collection_and_nothing_else(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    report = provision()
    state = standin.state
    group = next(number for number, name in state.groups.items() if name == dashboard.group)
    state.add_user("clerk@example.com", "secret of the clerk", groups=[group])
    clerk = Client(
        standin.url, Credentials(user="clerk@example.com", password="secret of the clerk")
    )
    number = report.ids["question/top_products"]
    assert clerk.get(f"/api/dashboard/{report.ids['dashboard']}")["name"] == dashboard.name
    assert clerk.post(f"/api/card/{number}/query", {})["status"] == "completed"
    own = {
        "lib/type": "mbql/query",
        "database": report.ids["database"],
        "stages": [{"lib/type": "mbql.stage/native", "native": "SELECT 1"}],
    }
    for forbidden in (
        lambda: clerk.post("/api/dataset", own),
        lambda: clerk.put(f"/api/card/{number}", {"name": "mine"}),
        lambda: clerk.put(f"/api/dashboard/{report.ids['dashboard']}", {"name": "mine"}),
        lambda: clerk.post("/api/card", {"name": "mine"}),
        lambda: clerk.get("/api/database"),
    ):
        with pytest.raises(ApiError) as caught:
            forbidden()
        assert caught.value.status == 403


def test_somebody_who_is_not_in_the_group_sees_nothing(
    standin: Standin, provision: Provision
) -> None:
    report = provision()
    standin.state.add_user("other@example.com", "secret of another")
    other = Client(standin.url, Credentials(user="other@example.com", password="secret of another"))
    with pytest.raises(ApiError, match="does not permit"):
        other.get(f"/api/dashboard/{report.ids['dashboard']}")


def test_rights_that_were_added_by_hand_are_taken_back(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    report = provision()
    state = standin.state
    other = client.post("/api/collection", {"name": "Board only"})["id"]
    group = next(number for number, name in state.groups.items() if name == dashboard.group)
    graph = client.get("/api/collection/graph")
    mine = str(report.ids["collection"])
    graph["groups"] = {str(group): {str(other): "read", mine: "write", "root": "read"}}
    client.put("/api/collection/graph", graph)
    graph = client.get("/api/permissions/graph")
    rights = {"view-data": "unrestricted", "create-queries": "query-builder"}
    graph["groups"] = {str(group): {str(report.ids["database"]): rights}}
    client.put("/api/permissions/graph", graph)
    assert {one.kind for one in provision().changes} == {"permissions"}
    assert state.collection_graph[group] == {mine: "read"}
    assert state.data_graph[group][report.ids["database"]]["create-queries"] == "no"
    assert provision().changes == []


def test_what_everybody_may_do_elsewhere_is_left_alone_and_said(
    standin: Standin, provision: Provision
) -> None:
    report = provision()
    assert standin.state.collection_graph[ALL_USERS]["root"] == "write"
    assert any("All Users" in warning for warning in report.warnings)


@pytest.mark.parametrize("graph", ["data", "collection"])
def test_somebody_else_is_faster_once(
    graph: str, standin: Standin, provision: Provision, client: Client
) -> None:
    def faster() -> None:
        standin.state.data_revision += 1
        standin.state.collection_revision += 1

    standin.state.before_graph = faster
    provision()
    assert [one.status for one in standin.requests if one.path.endswith("/graph")].count(409) == 1
    assert provision().changes == []


def test_somebody_else_is_always_faster(standin: Standin, provision: Provision) -> None:
    def faster() -> None:
        standin.state.data_revision += 1
        standin.state.before_graph = faster

    standin.state.before_graph = faster
    with pytest.raises(UserError, match="keeps changing the permissions"):
        provision()
    standin.state.before_graph = None
    provision()
    assert provision().changes == []


# -- errors ---------------------------------------------------------------------------------------


def test_a_warehouse_that_metabase_cannot_use(
    standin: Standin, provision: Provision, warehouse: Warehouse
) -> None:
    with pytest.raises(UserError, match="refuses the warehouse") as caught:
        provision(reached_as=replace(warehouse, user="nobody_of_that_name"))
    assert "nobody_of_that_name" in caught.value.message
    assert caught.value.detail
    assert not standin.state.databases
    provision()
    assert provision().changes == []


def test_a_version_that_is_too_old(provision: Provision) -> None:
    with (
        Standin(State(version="v0.56.9")) as server,
        pytest.raises(UserError, match=r"v0\.56\.9, which is too old"),
    ):
        provision(to=server)
    assert not server.writes


@pytest.mark.parametrize("tag", ["v0.57.0", "v1.58.3", "v0.64.2.2", "vLOCAL_DEV"])
def test_versions_that_will_do(tag: str, provisioner: Callable[..., Provisioner]) -> None:
    with Standin(State(version=tag)) as server:
        assert provisioner(to=server).plan().version == tag


def test_a_fresh_server_and_a_key(standin: Standin, provision: Provision) -> None:
    with pytest.raises(UserError, match="fresh: it has no user"):
        provision(credentials=Credentials(api_key="mb_key"))
    assert not standin.writes


def test_somebody_who_is_no_administrator(standin: Standin, provision: Provision) -> None:
    standin.state.add_user("clerk@example.com", "secret of the clerk")
    with pytest.raises(UserError, match=r"clerk@example.com is no administrator"):
        provision(credentials=Credentials(user="clerk@example.com", password="secret of the clerk"))
    assert not standin.writes


def test_a_sync_that_does_not_end(provision: Provision) -> None:
    with Standin(State(sync_seconds=3600)) as server:
        with pytest.raises(UserError, match="not finished reading the warehouse after 1 seconds"):
            provision(to=server, wait_seconds=1.0)
        for row in server.state.databases.values():
            row["synced_at"] = 0
        provision(to=server)
        assert provision(to=server).changes == []


def test_a_new_password_is_sent_when_asked(standin: Standin, provision: Provision) -> None:
    provision()
    (row,) = standin.state.databases.values()
    row["details"]["password"] = "an old one"
    assert provision().changes == []
    report = provision(reset_password=True)
    assert [one.details for one in report.changes] == [("details.password",)]
    assert row["details"]["password"] != "an old one"


# -- as Metabase's source says --------------------------------------------------------------------


def test_archived_moved_duplicated_and_edited_by_hand(
    standin: Standin,
    client: Client,
    provision: Provision,
    provisioner: Callable[..., Provisioner],
    dashboard: Dashboard,
) -> None:
    report = provision()
    before = standin.state.essence()
    private = client.post("/api/collection", {"name": "Of somebody"})["id"]
    numbers = {key: report.ids[f"question/{key}"] for key in dashboard.questions}
    twin = client.post(f"/api/card/{numbers['top_products']}/copy", {})
    client.put(f"/api/card/{twin['id']}", {"name": "Mine", "display": "bar"})
    mine = client.get(f"/api/card/{twin['id']}")
    client.put(f"/api/card/{numbers['top_products']}", {"archived": True})
    client.put(f"/api/card/{numbers['top_countries']}", {"collection_id": private})
    client.put(f"/api/card/{numbers['sales_growth']}", {"name": "Edited", "display": "bar"})
    client.put(f"/api/card/{numbers['countries']}", {"archived": True})
    client.put(f"/api/dashboard/{report.ids['dashboard']}", {"archived": True})
    second = provision()
    assert {key: second.ids[f"question/{key}"] for key in dashboard.questions} == numbers
    assert second.ids["dashboard"] == report.ids["dashboard"]
    assert provisioner().plan().changes == []
    assert client.get(f"/api/card/{twin['id']}") == mine, "a person's copy is a person's"
    standin.state.cards.pop(twin["id"])
    standin.state.collections.pop(private)
    for rights in standin.state.collection_graph.values():
        rights.pop(str(private), None)
    assert standin.state.essence() == before


def test_the_copy_that_the_dashboard_shows_is_taken(
    client: Client, provision: Provision, provisioner: Callable[..., Provisioner]
) -> None:
    report = provision()
    path = f"/api/dashboard/{report.ids['dashboard']}"
    old = report.ids["question/top_products"]
    twin = client.post(f"/api/card/{old}/copy", {})["id"]
    keys = ("id", "card_id", "row", "col", "size_x", "size_y", "parameter_mappings")
    tiles = [{key: tile[key] for key in keys} for tile in client.get(path)["dashcards"]]
    for tile in tiles:
        if tile["card_id"] == old:
            tile["card_id"] = twin
    client.put(path, {"dashcards": tiles})
    assert provision().ids["question/top_products"] == twin
    assert provisioner().plan().changes == []


def test_a_moved_dashboard_is_found(standin: Standin, client: Client, provision: Provision) -> None:
    report = provision()
    before = standin.state.essence()
    number = report.ids["dashboard"]
    client.put(f"/api/dashboard/{number}", {"collection_id": None})
    (change,) = provision().changes
    assert (change.action, change.kind, change.details) == (
        "update",
        "dashboard",
        ("collection_id",),
    )
    assert standin.state.essence() == before


@pytest.mark.parametrize("deep", [False, True])
def test_a_duplicated_dashboard_is_a_persons(
    deep: bool, client: Client, provision: Provision, provisioner: Callable[..., Provisioner]
) -> None:
    report = provision()
    number = report.ids["dashboard"]
    body = {"is_deep_copy": deep, "collection_id": report.ids["collection"]}
    twin = client.post(f"/api/dashboard/{number}/copy", body)
    assert provisioner().plan().changes == []
    client.put(f"/api/dashboard/{number}", {"archived": True})
    assert provision().ids["dashboard"] == number
    assert client.get(f"/api/dashboard/{twin['id']}") == twin
    assert provisioner().plan().changes == []


def test_readers_see_no_mark(standin: Standin, provision: Provision, dashboard: Dashboard) -> None:
    provision()
    described = [*standin.state.cards.values(), *standin.state.dashboards.values()]
    assert not [row for row in described if "oceanrecords:" in str(row["description"])]
    assert only_dashboard(standin)["description"] == dashboard.description


def test_all_settings_of_a_question_replaced(
    standin: Standin, client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    """Its mark is gone; name, query and place tell that it is ours."""
    report = provision()
    before = standin.state.essence()
    for key, body in {
        "top_products": {"name": "Other", "visualization_settings": {}},
        "countries": {"visualization_settings": {}},
    }.items():
        client.put(f"/api/card/{report.ids[f'question/{key}']}", body)
    provision()
    assert standin.state.essence() == before


def test_encryption_is_never_switched_off(
    provision: Provision, provisioner: Callable[..., Provisioner], warehouse: Warehouse
) -> None:
    with Standin(State(speaks_tls=True)) as server:
        provision(to=server)
        (row,) = server.state.databases.values()
        assert row["details"]["ssl"] is True
        assert provisioner(to=server).plan().changes == []
        provision(to=server, reset_password=True)
        assert row["details"]["ssl"] is True


def test_encryption_is_demanded_when_asked(provision: Provision, warehouse: Warehouse) -> None:
    with Standin(State(speaks_tls=True)) as server:
        provision(to=server)
        (row,) = server.state.databases.values()
        row["details"]["ssl"] = False
        (change,) = provision(to=server, reached_as=replace(warehouse, ssl=True)).changes
        assert change.details == ("details.ssl",)
        assert row["details"]["ssl"] is True


def test_anonymous_tracking_is_off(standin: Standin, provision: Provision) -> None:
    provision()
    assert standin.state.settings["anon-tracking-enabled"] is False
    standin.state.settings["anon-tracking-enabled"] = True
    assert provision().changes == [], "a server that is in use decides for itself"


def test_tracking_of_a_server_that_somebody_else_set_up(provision: Provision) -> None:
    state = State()
    state.add_user(str(ADMIN.user), str(ADMIN.password), superuser=True)
    with Standin(state) as server:
        provision(to=server)
        assert state.settings["anon-tracking-enabled"] is True


def test_enterprise_leaves_out_what_is_blocked(
    provision: Provision, provisioner: Callable[..., Provisioner], dashboard: Dashboard
) -> None:
    with Standin(State(version="v1.65.4")) as server:
        report = provision(to=server)
        state = server.state
        group = report.ids["group"]
        assert state.data_graph[group][report.ids["database"]]["view-data"] == "unrestricted"
        assert provisioner(to=server).plan().changes == []
        state.add_user("clerk@example.com", "secret of the clerk", groups=[group])
        clerk = Client(
            server.url, Credentials(user="clerk@example.com", password="secret of the clerk")
        )
        number = report.ids["question/top_products"]
        assert clerk.post(f"/api/card/{number}/query", {})["status"] == "completed"
        state.data_graph[group][report.ids["database"]]["view-data"] = "blocked"
        with pytest.raises(ApiError):
            clerk.post(f"/api/card/{number}/query", {})
        (change,) = provision(to=server).changes
        assert "view-data=unrestricted" in change.details[0]


def test_the_stand_in_takes_no_tiles_for_a_dashboard_in_the_trash(
    client: Client, provision: Provision
) -> None:
    """The stand-in does what servers do, so that the tests above mean something."""
    path = f"/api/dashboard/{provision().ids['dashboard']}"
    client.put(path, {"archived": True})
    with pytest.raises(ApiError) as caught:
        client.put(path, {"archived": False, "dashcards": []})
    assert caught.value.status == 404


def test_the_stand_in_keeps_no_entity_id(client: Client, provision: Provision) -> None:
    provision()
    sent = "A" * 21
    body = {
        "name": "x",
        "display": "table",
        "visualization_settings": {},
        "entity_id": sent,
        "dataset_query": client.get("/api/card", f="all")[0]["dataset_query"],
    }
    assert client.post("/api/card", body)["entity_id"] != sent
    with pytest.raises(ApiError) as caught:
        client.get(f"/api/card/{sent}")
    assert caught.value.status == 404


def test_one_filter_of_metabase_stands_for_two_dates(
    client: Client, provision: Provision, dashboard: Dashboard, kpi_database: Database
) -> None:
    report = provision()
    shown = client.get(f"/api/dashboard/{report.ids['dashboard']}")
    (period, *others) = shown["parameters"]
    assert (period["type"], period["default"]) == ("date/all-options", "past12months~")
    assert not {"from", "to"} & {one["slug"] for one in others}
    first, last = (
        kpi_database.value(f"SELECT {end}(day) FROM kpi.calendar WHERE day < current_date - 40")
        for end in ("min", "max")
    )
    target = ["dimension", ["template-tag", "period"]]
    for key in ("top_countries", "sales_by_quarter", "top_products"):
        question = dashboard.questions[key]
        text, values = question.compile({"from": first, "to": last})
        with kpi_database.connect() as connection:
            expected = connection.execute(text.encode(), values).fetchall()
        parameter = {"type": period["type"], "value": f"{first}~{last}", "target": target}
        number = report.ids[f"question/{key}"]
        answer = client.post(f"/api/card/{number}/query", {"parameters": [parameter]})
        assert [row[0] for row in answer["data"]["rows"]] == [row[0] for row in expected], key
        parameter["value"] = period["default"]
        answer = client.post(f"/api/card/{number}/query", {"parameters": [parameter]})
        assert answer["status"] == "completed"
        assert answer["data"]["rows"]
    parameter["value"] = "past30days"
    answer = client.post(f"/api/card/{number}/query", {"parameters": [parameter]})
    days = "current_date - 30, current_date - 1"
    assert [row[0] for row in answer["data"]["rows"]] == [
        row["member"]
        for row in kpi_database.rows(f"SELECT member FROM kpi.ranking_of('product', {days})")
    ]
    parameter["value"] = "2999-01-01~2999-12-31"
    answer = client.post(f"/api/card/{number}/query", {"parameters": [parameter]})
    assert answer["data"]["rows"] == []


def test_a_product_filters_the_rankings(
    client: Client, provision: Provision, kpi_database: Database
) -> None:
    report = provision()
    shown = client.get(f"/api/dashboard/{report.ids['dashboard']}")
    assert {"product_subtype", "product_name"} <= {one["slug"] for one in shown["parameters"]}
    name = kpi_database.value("SELECT member FROM kpi.ranking_of('product') LIMIT 1")
    parameter = {
        "type": "category",
        "value": [name],
        "target": ["variable", ["template-tag", "product_name"]],
    }
    number = report.ids["question/top_countries"]
    answer = client.post(f"/api/card/{number}/query", {"parameters": [parameter]})
    assert [row[0] for row in answer["data"]["rows"]] == [
        row["country"]
        for row in kpi_database.rows(
            "SELECT country FROM kpi.product_monthly WHERE product_name = %s"
            " GROUP BY 1 ORDER BY sum(sales) DESC, 1",
            name,
        )
    ]


def test_a_definition_without_a_period_has_its_two_dates(
    client: Client, provision: Provision, dashboard: Dashboard
) -> None:
    report = provision(replace(dashboard, period=None))
    shown = client.get(f"/api/dashboard/{report.ids['dashboard']}")
    assert {"from", "to"} <= {one["slug"] for one in shown["parameters"]}
    assert provision(replace(dashboard, period=None)).changes == []
