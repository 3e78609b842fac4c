"""What must hold of any server, the stand-in and a real one alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from metabase import identity, payload
from metabase.client import Client
from metabase.definition import Dashboard
from metabase.provisioner import Provisioner, Report

Make = Callable[..., Provisioner]


@dataclass
class Server:
    """A server to try things on.

    Attributes:
        client: its administrator.
        dashboard: the definition, under names of its own.
        make: makes a provisioner: `make()`, `make(changed, prune=True)`.
    """

    client: Client
    dashboard: Dashboard
    make: Make

    def provision(self, *arguments: Dashboard, **options: Any) -> Report:
        return self.make(*arguments, **options).provision()

    def card(self, key: str) -> dict[str, Any]:
        mark = identity.question_key(self.dashboard.key, key)
        rows = [row for f in ("all", "archived") for row in self.client.get("/api/card", f=f)]
        number = min(row["id"] for row in rows if identity.card_key(row) == mark)
        found: dict[str, Any] = self.client.get(f"/api/card/{number}")
        return found


def a_second_provision_changes_nothing(server: Server) -> None:
    server.provision()
    assert server.provision().changes == []
    assert server.make().plan().changes == []


def every_question_answers(server: Server) -> None:
    server.provision()
    one = server.make()
    one.plan()
    answers = one.check()
    assert set(answers) == set(server.dashboard.questions)
    assert all(isinstance(rows, int) for rows in answers.values()), answers


def the_query_is_read_back_as_mbql_5(server: Server) -> None:
    server.provision()
    question = server.dashboard.questions["top_products"]
    query = server.card("top_products")["dataset_query"]
    assert query["lib/type"] == "mbql/query"
    (stage,) = query["stages"]
    assert stage["lib/type"] == "mbql.stage/native"
    sent = payload.dataset_query(server.dashboard, question, query["database"])["stages"][0]
    assert stage["native"] == sent["native"]
    assert set(stage["template-tags"]) == set(sent["template-tags"])


def filters_reach_the_questions(server: Server) -> None:
    report = server.provision()
    number = server.card("top_countries")["id"]
    query = f"/api/card/{number}/query"
    everything = server.client.post(query, {})["data"]["rows"]
    assert everything
    country = everything[0][0]
    parameter = {
        "type": "category",
        "value": country,
        "target": ["variable", ["template-tag", "country"]],
    }
    rows = server.client.post(query, {"parameters": [parameter]})["data"]["rows"]
    assert [row[0] for row in rows] == [country]
    parameter = {
        "type": "date/all-options",
        "value": "2999-01-01~2999-12-31",
        "target": ["dimension", ["template-tag", "period"]],
    }
    assert server.client.post(query, {"parameters": [parameter]})["data"]["rows"] == []
    shown = server.client.get(f"/api/dashboard/{report.ids['dashboard']}")
    mapped = {
        mapping["parameter_id"]
        for tile in shown["dashcards"]
        for mapping in tile["parameter_mappings"]
    }
    assert mapped == {one["id"] for one in shown["parameters"]}


def drift_is_repaired(server: Server) -> None:
    server.provision()
    card = server.card("top_products")
    body = {"name": "Changed by hand", "display": "bar", "visualization_settings": {}}
    server.client.put(f"/api/card/{card['id']}", body)
    (change,) = server.make().plan().changes
    assert (change.action, change.kind) == ("update", "question")
    server.provision()
    again = server.card("top_products")
    assert (again["id"], again["name"], again["display"]) == (card["id"], card["name"], "table")
    assert server.provision().changes == []


def an_archived_question_comes_back(server: Server) -> None:
    server.provision()
    number = server.card("top_products")["id"]
    server.client.put(f"/api/card/{number}", {"archived": True})
    assert "restore" in [change.action for change in server.provision().changes]
    assert not server.card("top_products")["archived"]
    assert server.provision().changes == []


def an_archived_dashboard_comes_back(server: Server) -> None:
    number = server.provision().ids["dashboard"]
    server.client.put(f"/api/dashboard/{number}", {"archived": True})
    assert server.provision().ids["dashboard"] == number
    assert not server.client.get(f"/api/dashboard/{number}")["archived"]
    assert server.make().plan().changes == []


def a_moved_question_and_dashboard_are_found(server: Server) -> None:
    report = server.provision()
    number = server.card("top_products")["id"]
    server.client.put(f"/api/card/{number}", {"collection_id": None})
    server.client.put(f"/api/dashboard/{report.ids['dashboard']}", {"collection_id": None})
    again = server.provision()
    assert again.ids == report.ids
    assert server.card("top_products")["collection_id"] == report.ids["collection"]
    assert server.make().plan().changes == []


def a_copy_is_left_alone(server: Server) -> None:
    number = server.provision().ids["question/top_products"]
    copy = server.client.post(f"/api/card/{number}/copy", {})
    try:
        server.client.put(f"/api/card/{copy['id']}", {"name": "Somebody's own"})
        server.client.put(f"/api/card/{number}", {"archived": True})
        assert server.provision().ids["question/top_products"] == number
        assert server.client.get(f"/api/card/{copy['id']}")["name"] == "Somebody's own"
        assert server.make().plan().changes == []
    finally:
        server.client.put(f"/api/card/{copy['id']}", {"archived": True})


def a_moved_tile_goes_back(server: Server) -> None:
    report = server.provision()
    path = f"/api/dashboard/{report.ids['dashboard']}"
    before = server.client.get(path)["dashcards"]
    keys = ("id", "card_id", "row", "col", "size_x", "size_y", "parameter_mappings")
    moved = [{key: tile[key] for key in keys} for tile in before]
    moved[0]["row"] += 40
    del moved[1]
    server.client.put(path, {"dashcards": moved})
    assert [change.kind for change in server.provision().changes] == ["dashboard"]
    places = {tile["card_id"]: (tile["row"], tile["col"]) for tile in before}
    after = server.client.get(path)["dashcards"]
    assert {tile["card_id"]: (tile["row"], tile["col"]) for tile in after} == places
    assert server.provision().changes == []


def a_renamed_question_stays_the_same(server: Server) -> None:
    server.provision()
    number = server.card("top_products")["id"]
    questions = dict(server.dashboard.questions)
    questions["top_products"] = replace(questions["top_products"], name="Best sellers")
    server.provision(replace(server.dashboard, questions=questions))
    card = server.card("top_products")
    assert (card["id"], card["name"]) == (number, "Best sellers")
    server.provision()
    assert server.card("top_products")["name"] == "Top products"


def an_orphan_is_archived_when_asked(server: Server) -> None:
    server.provision()
    questions = dict(server.dashboard.questions)
    del questions["top_countries"]
    smaller = replace(server.dashboard, questions=questions)
    server.provision(smaller)
    assert not server.card("top_countries")["archived"]
    server.provision(smaller, prune=True)
    assert server.card("top_countries")["archived"]
    server.provision()
    assert not server.card("top_countries")["archived"]


def the_group_reads_the_collection_and_nothing_else(server: Server) -> None:
    report = server.provision()
    group, collection = str(report.ids["group"]), str(report.ids["collection"])
    rights = server.client.get("/api/collection/graph")["groups"][group]
    assert {key: right for key, right in rights.items() if right != "none"} == {collection: "read"}
    graph = server.client.get("/api/permissions/graph")["groups"]
    for given in (graph.get(group) or {}).values():
        assert given.get("create-queries", "no") == "no"
    database = str(report.ids["database"])
    assert (graph.get(group) or {}).get(database, {}).get("view-data") != "blocked"


EXPECTATIONS = (
    a_second_provision_changes_nothing,
    every_question_answers,
    the_query_is_read_back_as_mbql_5,
    filters_reach_the_questions,
    drift_is_repaired,
    an_archived_question_comes_back,
    an_archived_dashboard_comes_back,
    a_moved_question_and_dashboard_are_found,
    a_copy_is_left_alone,
    a_moved_tile_goes_back,
    a_renamed_question_stays_the_same,
    an_orphan_is_archived_when_asked,
    the_group_reads_the_collection_and_nothing_else,
)
