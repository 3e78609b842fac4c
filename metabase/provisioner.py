"""Brings a Metabase server to the definition, and tells beforehand what that would change.

Planning and provisioning are the same walk over the server: each thing is looked up, compared with
the definition, and written only if it differs; a plan stops short of the writing. What was written
is read back and compared, for servers drop keys that they do not know and answer 200 all the same.
Each step can be repeated: an interrupted run is mended by the next one.

Things are known again like this: cards by an entity id that follows from their key; collection and
dashboard by a mark in their description, else by name; database and group by name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from driver.errors import UserError
from metabase import identity, payload
from metabase.client import (
    OLDEST_VERSION,
    ApiError,
    Client,
    Credentials,
    Json,
    major_version,
    spoken,
    wait_for,
)
from metabase.compare import covers, differences
from metabase.definition import Dashboard, Question
from metabase.warehouse import SCHEMA, Warehouse, relations

Action = Literal["create", "update", "restore", "archive"]
Kind = Literal["server", "database", "collection", "question", "dashboard", "group", "permissions"]

_CONFLICT = 409
_ATTEMPTS = 5
_NO_QUERIES = "no"
_SYNC = "sync of "


@dataclass(frozen=True)
class Change:
    """One thing that differs from the definition.

    Attributes:
        action: what is or was done.
        kind: of what.
        name: its name.
        details: the keys that differ.
    """

    action: Action
    kind: Kind
    name: str
    details: tuple[str, ...] = ()


@dataclass
class Report:
    """What was found and done.

    Attributes:
        url: the server.
        version: its version.
        changes: in the order of doing.
        warnings: what a person should know, as sentences.
        ids: id on the server by kind and key ('question/top_products').
        checked: answer of each question that was run: rows, or the error.
    """

    url: str
    version: str | None = None
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int | str] = field(default_factory=dict)

    @property
    def dashboard_url(self) -> str | None:
        """Address of the dashboard, once there is one."""
        number = self.ids.get("dashboard")
        return f"{self.url}/dashboard/{number}" if number else None


@dataclass(frozen=True)
class Options:
    """How to go about it.

    Attributes:
        prune: archive questions of this tool that the definition no longer has.
        adopt: take over a collection or dashboard of the right name that this tool did not make.
        reset_password: send the password of the warehouse's login again.
        wait_seconds: how long to wait for the server's start, and for its sync.
        site_name: name of a fresh server.
    """

    prune: bool = False
    adopt: bool = False
    reset_password: bool = False
    wait_seconds: float = 180.0
    site_name: str = "OceanRecords"


class Provisioner:
    """Plans and provisions.

    Parameters:
        client: connection to the server.
        credentials: who it is; on a fresh server its first administrator.
        dashboard: the definition, valid.
        warehouse: how Metabase reaches the warehouse.
        password: returns the password of the warehouse's login when a connection has to be written.
        options: see `Options`.
        progress: called with each change as it is made.
    """

    def __init__(
        self,
        client: Client,
        credentials: Credentials,
        dashboard: Dashboard,
        warehouse: Warehouse,
        *,
        password: Callable[[], str] | None = None,
        options: Options | None = None,
        progress: Callable[[Change], None] | None = None,
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._dashboard = dashboard
        self._warehouse = warehouse
        self._password = password or _no_password
        self._options = options or Options()
        self._progress = progress
        self._secret: str | None = None
        self._writes = False
        self._fresh = False
        self._report = Report(client.url)
        self._items: dict[str, list[dict[str, Any]]] = {}

    def plan(self) -> Report:
        """Return what `provision` would change; nothing is written.

        Raises:
            UserError: if the server cannot be used, or two things might be meant.
        """
        return self._walk(writes=False)

    def provision(self) -> Report:
        """Bring the server to the definition.

        Returns:
            What was changed: nothing, if all was well.

        Raises:
            UserError: see `plan`; also if the server does not keep what was written.
        """
        plan = self._walk(writes=False)
        if not plan.changes:
            return plan
        if any(_needs_password(change) for change in plan.changes):
            # Ask before anything is written, not halfway.
            self._secret = self._password()
        report = self._walk(writes=True)
        report.warnings = list(dict.fromkeys(report.warnings))
        return report

    def check(self) -> dict[str, int | str]:
        """Run every question on the server.

        Returns:
            The number of rows by key of the question, or the error in words.
        """
        result: dict[str, int | str] = {}
        for key in self._dashboard.questions:
            number = self._report.ids.get(f"question/{key}")
            if number is None:
                continue
            answer = self._client.post(f"/api/card/{number}/query", {})
            if answer.get("status") == "completed":
                result[key] = len((answer.get("data") or {}).get("rows", ()))
            else:
                result[key] = spoken(answer) or "it did not complete"
        self._report.checked = result
        return result

    # -- the walk ---------------------------------------------------------------------------------

    def _walk(self, *, writes: bool) -> Report:
        self._writes = writes
        self._report = Report(self._client.url)
        self._items = {}
        self._server()
        database = self._database()
        if database is not None:
            self._sync(database)
        collection = self._collection()
        cards = self._cards(database, collection)
        self._dashboard_and_tiles(collection, cards)
        group = self._group()
        self._data_permissions(group, database)
        self._collection_permissions(group, collection)
        self._orphans(collection)
        return self._report

    def _change(self, action: Action, kind: Kind, name: str, *details: str) -> bool:
        """Record a change, and return whether to make it."""
        change = Change(action, kind, name, details)
        self._report.changes.append(change)
        if self._writes and self._progress:
            self._progress(change)
        return self._writes

    def _read(self, path: str, **params: str | int) -> Json:
        """Return what is at a path; None on a server that has yet to be set up."""
        return None if self._fresh else self._client.find(path, **params)

    # -- server -----------------------------------------------------------------------------------

    def _server(self) -> None:
        self._client.wait_until_ready(self._options.wait_seconds)
        properties = self._client.properties()
        self._check_version(properties)
        token = properties.get("setup-token")
        self._fresh = bool(token) and not properties.get("has-user-setup")
        if self._fresh:
            self._set_up(str(token))
        if not self._fresh:
            user = self._client.get("/api/user/current")
            if not user.get("is_superuser"):
                raise UserError(
                    f"{user.get('email') or 'This key'} is no administrator of Metabase.",
                    "Use a key of the group Administrators, or an administrator's account.",
                )
            if self._report.version is None:
                self._check_version(self._client.get("/api/session/properties"))

    def _check_version(self, properties: Mapping[str, Any]) -> None:
        tag = (properties.get("version") or {}).get("tag")
        self._report.version = tag
        major = major_version(tag)
        if major is not None and major < OLDEST_VERSION:
            raise UserError(
                f"Metabase at {self._client.url} is {tag}, which is too old.",
                f"Version 0.{OLDEST_VERSION} or newer is needed; compose.yaml names one.",
            )

    def _set_up(self, token: str) -> None:
        credentials = self._credentials
        if not credentials.user or not credentials.password:
            raise UserError(
                f"Metabase at {self._client.url} is fresh: it has no user and no key yet.",
                "Set METABASE_USER and METABASE_PASSWORD; they become its first administrator.",
            )
        if not self._change("create", "server", f"first administrator {credentials.user}"):
            return
        body = {
            "token": token,
            "user": {
                "email": credentials.user,
                "password": credentials.password,
                "first_name": None,
                "last_name": None,
            },
            "prefs": {"site_name": self._options.site_name, "allow_tracking": False},
        }
        answer = self._setup_client().post("/api/setup", body)
        self._client.use_session(answer["id"])
        self._fresh = False

    def _setup_client(self) -> Client:
        return Client(self._client.url, sleep=self._client.sleep)

    # -- database ---------------------------------------------------------------------------------

    def _database(self) -> int | None:
        wanted = self._database_wanted()
        name = self._warehouse.name
        found = self._find_database(wanted)
        if found is None:
            if self._change("create", "database", name):
                body = {
                    **wanted,
                    "details": {**wanted["details"], "password": self._secret},
                    "is_full_sync": True,
                    "is_on_demand": False,
                    "auto_run_queries": True,
                }
                answer = self._send_database(self._client.post, "/api/database", body)
                return self._known("database", self._verify_database(answer["id"], wanted))
            return None
        number = int(found["id"])
        changed = differences(wanted, found)
        if self._options.reset_password:
            changed = (*changed, "details.password")
        if changed and self._change("update", "database", name, *changed):
            body = {**wanted, "details": {**wanted["details"], "password": self._secret}}
            self._send_database(self._client.put, f"/api/database/{number}", body)
            self._verify_database(number, wanted)
        return self._known("database", number)

    def _database_wanted(self) -> dict[str, Any]:
        warehouse = self._warehouse
        return {
            "name": warehouse.name,
            "engine": "postgres",
            "details": {
                "host": warehouse.host,
                "port": warehouse.port,
                "dbname": warehouse.database,
                "user": warehouse.user,
                "ssl": warehouse.ssl,
                "tunnel-enabled": False,
                "schema-filters-type": "inclusion",
                "schema-filters-patterns": SCHEMA,
            },
        }

    def _find_database(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        databases = [one for one in _rows(self._read("/api/database")) if not one.get("is_sample")]
        named = [one for one in databases if one["name"] == wanted["name"]]
        if not named:
            place = {key: wanted["details"][key] for key in ("host", "port", "dbname", "user")}
            named = [
                one
                for one in databases
                if one.get("engine") == "postgres" and covers(place, one.get("details") or {})
            ]
        self._only_one(
            "database", named, "Remove one of them, or name another with --database-name."
        )
        if not named:
            return None
        # The list is brief; the details are in the thing itself.
        found: dict[str, Any] = self._client.get(f"/api/database/{named[0]['id']}")
        return found

    def _send_database(
        self, send: Callable[[str, Json], Json], path: str, body: Mapping[str, Any]
    ) -> Json:
        try:
            return send(path, body)
        except ApiError as error:
            if error.status != 400:
                raise
            warehouse = self._warehouse
            raise UserError(
                f"Metabase refuses the warehouse: it cannot use database {warehouse.database} on "
                f"{warehouse.host}:{warehouse.port} as {warehouse.user}.",
                "Name the host as Metabase sees it with --warehouse-host (in compose.yaml: "
                "warehouse), and check the password; --create-role makes the login.",
                detail=error.detail,
            ) from error

    def _verify_database(self, number: int, wanted: Mapping[str, Any]) -> int:
        found = self._client.get(f"/api/database/{number}")
        self._verify("database", self._warehouse.name, differences(wanted, found))
        return int(number)

    def _sync(self, database: int) -> None:
        """Wait until Metabase knows the views that the questions read; ask it to look if not."""
        expected = set(relations(self._dashboard))
        asked = False

        def state() -> tuple[bool, str]:
            nonlocal asked
            found = self._client.get(f"/api/database/{database}", include="tables")
            sync = found.get("initial_sync_status")
            if sync == "aborted":
                raise UserError(
                    f"Metabase gave up reading database {self._warehouse.name}.",
                    "Its log says why; Admin, Databases, Sync starts it again.",
                )
            known = {one["name"] for one in found.get("tables", ()) if one.get("schema") == SCHEMA}
            missing = sorted(expected - known)
            if sync == "complete" and missing and not asked:
                asked = True
                if not self._change(
                    "update", "database", self._warehouse.name, f"{_SYNC}{', '.join(missing)}"
                ):
                    return True, ""
                self._client.post(f"/api/database/{database}/sync_schema", {})
            words = f"{SCHEMA}.{missing[0]} is not known yet" if missing else f"sync is {sync}"
            return not self._writes or (sync == "complete" and not missing), words

        wait_for(
            state,
            self._options.wait_seconds,
            self._client.sleep,
            lambda words: UserError(
                f"Metabase has not finished reading the warehouse after "
                f"{self._options.wait_seconds:.0f} seconds: {words}.",
                "Repeat the command, or give it more time with --wait.",
            ),
        )

    # -- collection -------------------------------------------------------------------------------

    def _collection(self) -> int | None:
        definition = self._dashboard.collection
        wanted = {
            "name": definition.name,
            "description": identity.marked(definition.description, "collection", definition.key),
            "archived": False,
        }
        found = self._find_collection(definition.key, definition.name)
        if found is None:
            if self._change("create", "collection", definition.name):
                body = {key: wanted[key] for key in ("name", "description")}
                answer = self._client.post("/api/collection", body)
                self._verify_at(
                    "collection", definition.name, f"/api/collection/{answer['id']}", wanted
                )
                return self._known("collection", int(answer["id"]))
            return None
        number = int(found["id"])
        changed = differences(wanted, {"archived": False, **found})
        action: Action = "restore" if found.get("archived") else "update"
        if changed and self._change(action, "collection", definition.name, *changed):
            self._client.put(f"/api/collection/{number}", {key: wanted[key] for key in changed})
            self._verify_at("collection", definition.name, f"/api/collection/{number}", wanted)
        return self._known("collection", number)

    def _find_collection(self, key: str, name: str) -> dict[str, Any] | None:
        live = _rows(self._read("/api/collection"))
        archived = _rows(self._read("/api/collection", archived="true"))
        ours = [
            one
            for one in (*live, *archived)
            if isinstance(one.get("id"), int)
            and identity.marker(one.get("description"), "collection") == key
        ]
        ours = list({one["id"]: one for one in ours}.values())
        self._only_one("collection", ours, "Archive or rename one, and take the mark out of it.")
        if ours:
            found: dict[str, Any] | None = self._client.find(f"/api/collection/{ours[0]['id']}")
            return found
        strangers = [
            one
            for one in live
            if isinstance(one.get("id"), int)
            and one["name"] == name
            and one.get("location", "/") == "/"
            and not one.get("personal_owner_id")
        ]
        return self._adopted("collection", strangers, "/api/collection")

    def _adopted(
        self, kind: Kind, strangers: list[dict[str, Any]], path: str
    ) -> dict[str, Any] | None:
        """Return a thing of the right name that was made otherwise, if it may be taken over."""
        self._only_one(kind, strangers, "Rename one of them.")
        if not strangers:
            return None
        if not self._options.adopt:
            raise UserError(
                f"Metabase has a {kind} '{strangers[0]['name']}' (id {strangers[0]['id']}) that "
                "was not made by this tool, and another of that name would stand beside it.",
                "Rename it, or add --adopt to take it over.",
            )
        found: dict[str, Any] = self._client.get(f"{path}/{strangers[0]['id']}")
        return found

    # -- questions --------------------------------------------------------------------------------

    def _cards(self, database: int | None, collection: int | None) -> dict[str, int]:
        cards: dict[str, int] = {}
        for question in self._dashboard.questions.values():
            number = self._card(question, database, collection)
            if number is not None:
                cards[question.key] = self._known(f"question/{question.key}", number)
        return cards

    def _card(self, question: Question, database: int | None, collection: int | None) -> int | None:
        wanted = payload.card(self._dashboard, question, database, collection)
        found = self._find_card(question, collection)
        if found is None:
            self._no_namesake(question, collection)
            if not self._change("create", "question", question.name):
                return None
            key = identity.question_key(self._dashboard.key, question.key)
            body = {**wanted, "entity_id": identity.entity_id("question", key)}
            number = int(self._client.post("/api/card", body)["id"])
        else:
            number = int(found["id"])
            changed = differences({**wanted, "archived": False}, found)
            if not changed:
                return number
            action: Action = "restore" if found.get("archived") else "update"
            if not self._change(action, "question", question.name, *changed):
                return number
            self._client.put(f"/api/card/{number}", {**wanted, "archived": False})
        self._verify_at(
            "question", question.name, f"/api/card/{number}", {**wanted, "archived": False}
        )
        return number

    def _find_card(self, question: Question, collection: int | None) -> dict[str, Any] | None:
        key = identity.question_key(self._dashboard.key, question.key)
        eid = identity.entity_id("question", key)
        found: dict[str, Any] | None = self._read(f"/api/card/{eid}")
        if found is not None:
            return found
        # A server that gives entity ids of its own keeps the mark all the same.
        marked = [
            one
            for one in self._in_collection(collection, "card")
            if identity.marker(one.get("description"), "question") == key
        ]
        self._only_one("question", marked, "Archive one of them.")
        return self._read(f"/api/card/{marked[0]['id']}") if marked else None

    def _no_namesake(self, question: Question, collection: int | None) -> None:
        for one in self._in_collection(collection, "card"):
            if one["name"] == question.name:
                raise UserError(
                    f"Question {question.key} would be made as '{question.name}', but the "
                    f"collection has another one of that name (id {one['id']}).",
                    "Rename or archive the other one in Metabase, or rename the question here.",
                )

    def _in_collection(self, collection: int | None, model: str) -> list[dict[str, Any]]:
        """Return the items of a collection that are not archived, read once in a walk."""
        if collection is None:
            return []
        if model not in self._items:
            answer = self._read(f"/api/collection/{collection}/items", models=model)
            self._items[model] = _rows(answer)
        return self._items[model]

    # -- dashboard --------------------------------------------------------------------------------

    def _dashboard_and_tiles(self, collection: int | None, cards: Mapping[str, int]) -> None:
        definition = self._dashboard
        wanted = {
            "name": definition.name,
            "description": identity.marked(definition.description, "dashboard", definition.key),
            "collection_id": collection,
            "archived": False,
            "width": "full",
            "parameters": payload.parameters(definition, cards),
        }
        found = self._find_dashboard(collection)
        if found is None:
            if not self._change("create", "dashboard", definition.name):
                return
            body = {key: wanted[key] for key in ("name", "description", "collection_id")}
            found = self._client.post("/api/dashboard", body)
            changed: tuple[str, ...] = ("dashcards",)
        else:
            changed = (*differences(wanted, found), *self._tile_differences(found, cards))
            action: Action = "restore" if found.get("archived") else "update"
            if changed and not self._change(action, "dashboard", definition.name, *changed):
                changed = ()
        number = self._known("dashboard", int(found["id"]))
        if not changed:
            return
        body = {**wanted, "dashcards": self._tiles(found, cards), "tabs": []}
        self._client.put(f"/api/dashboard/{number}", body)
        stored = self._client.get(f"/api/dashboard/{number}")
        kept = (*differences(wanted, stored), *self._tile_differences(stored, cards))
        self._verify("dashboard", definition.name, kept)

    def _find_dashboard(self, collection: int | None) -> dict[str, Any] | None:
        live = self._in_collection(collection, "dashboard")
        archived = _rows(self._read("/api/dashboard", f="archived"))
        ours = [
            one
            for one in (*live, *archived)
            if identity.marker(one.get("description"), "dashboard") == self._dashboard.key
        ]
        ours = list({one["id"]: one for one in ours}.values())
        if len(ours) > 1:
            # A person may have archived a copy.
            ours = [one for one in ours if not one.get("archived")] or ours
        self._only_one("dashboard", ours, "Archive one of them, and take the mark out of it.")
        if ours:
            found: dict[str, Any] | None = self._read(f"/api/dashboard/{ours[0]['id']}")
            return found
        strangers = [one for one in live if one["name"] == self._dashboard.name]
        return self._adopted("dashboard", strangers, "/api/dashboard")

    def _tiles(self, found: Mapping[str, Any], cards: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return all tiles as wanted, with the ids of those that are there."""
        existing: dict[int, int] = {}
        for tile in found.get("dashcards") or ():
            if tile.get("card_id") is not None:
                existing.setdefault(tile["card_id"], tile["id"])
        result = []
        for number, (question, position) in enumerate(self._dashboard.tiles, start=1):
            card = cards.get(question.key)
            tile_id = existing.get(card, -number) if card is not None else -number
            result.append(payload.dashcard(question, position, card, tile_id))
        return result

    def _tile_differences(
        self, found: Mapping[str, Any], cards: Mapping[str, int]
    ) -> tuple[str, ...]:
        stored = {tile["id"]: tile for tile in found.get("dashcards") or ()}
        result = []
        for tile, (question, _) in zip(
            self._tiles(found, cards), self._dashboard.tiles, strict=True
        ):
            if tile["id"] < 0:
                result.append(f"tile {question.key}")
                continue
            changed = differences(tile, stored.pop(tile["id"]))
            if changed:
                result.append(f"tile {question.key}: {', '.join(changed)}")
        for tile in stored.values():
            name = (tile.get("card") or {}).get("name") or "a text"
            result.append(f"tile that is not of the definition: {name}")
        if found.get("tabs"):
            result.append("tabs")
        return tuple(result)

    # -- group and permissions --------------------------------------------------------------------

    def _group(self) -> int | None:
        name = self._dashboard.group
        groups = _rows(self._read("/api/permissions/group"))
        named = [one for one in groups if one["name"].casefold() == name.casefold()]
        self._only_one("group", named, "Rename one of them.")
        if named:
            return self._known("group", int(named[0]["id"]))
        if self._change("create", "group", name):
            answer = self._client.post("/api/permissions/group", {"name": name})
            found = self._client.get(f"/api/permissions/group/{answer['id']}")
            self._verify("group", name, differences({"name": name}, found))
            return self._known("group", int(answer["id"]))
        return None

    def _everybody(self) -> int | None:
        """Return the id of the group of which everybody is a member."""
        for one in _rows(self._read("/api/permissions/group")):
            if one.get("magic_group_type") == "all-internal-users" or one["name"] == "All Users":
                return int(one["id"])
        return None

    def _data_permissions(self, group: int | None, database: int | None) -> None:
        """See the results of questions, and query nothing: that for the group, on every database.

        Everybody is a member of All Users as well, so that group loses the warehouse's queries too.
        """
        everybody = self._everybody()

        def missing(graph: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
            groups = graph.get("groups", {})
            result: dict[str, dict[str, dict[str, str]]] = {}
            if database is None:
                return result
            for one in (group, everybody):
                if one is None:
                    continue
                rights = groups.get(str(one)) or {}
                mine = {str(database)} if one == everybody else {str(database), *rights}
                for number in sorted(mine, key=int):
                    given = rights.get(number) or {}
                    wanted = {}
                    if given.get("create-queries", _NO_QUERIES) != _NO_QUERIES:
                        wanted["create-queries"] = _NO_QUERIES
                    view = given.get("view-data")
                    if one == group and number == str(database) and view == "blocked":
                        wanted["view-data"] = "unrestricted"
                    if wanted:
                        result.setdefault(str(one), {})[number] = wanted
            return result

        def merged(graph: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
            return {
                one: {
                    number: {**(graph["groups"].get(one) or {}).get(number, {}), **rights}
                    for number, rights in databases.items()
                }
                for one, databases in wanted.items()
            }

        self._settle("/api/permissions/graph", "data", group, missing, merged)

    def _collection_permissions(self, group: int | None, collection: int | None) -> None:
        """Let the group read the collection, and see no other; let nobody else see it."""
        everybody = self._everybody()

        def missing(graph: Mapping[str, Any]) -> dict[str, dict[str, str]]:
            groups = graph.get("groups", {})
            result: dict[str, dict[str, str]] = {}
            if collection is None:
                return result
            mine = str(collection)
            if group is not None:
                rights = groups.get(str(group)) or {}
                wanted = {key: "none" for key, right in rights.items() if right != "none"}
                wanted.pop(mine, None)
                if rights.get(mine) != "read":
                    wanted[mine] = "read"
                if wanted:
                    result[str(group)] = wanted
            if everybody is not None:
                rights = groups.get(str(everybody)) or {}
                if rights.get(mine, "none") != "none":
                    result[str(everybody)] = {mine: "none"}
                others = [key for key, right in rights.items() if right != "none" and key != mine]
                if others:
                    self._warn_of_everybody(len(others), "root" in others)
            return result

        def merged(_graph: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
            return dict(wanted)

        self._settle("/api/collection/graph", "collections", group, missing, merged)

    def _warn_of_everybody(self, count: int, root: bool) -> None:
        places = "the root collection" if root else f"{count} other collections"
        sentence = (
            f"Members of '{self._dashboard.group}' are in the group All Users as well, which may "
            f"use {places}; this tool leaves what it did not make alone."
        )
        if sentence not in self._report.warnings:
            self._report.warnings.append(sentence)

    def _settle(
        self,
        path: str,
        name: str,
        group: int | None,
        missing: Callable[[Mapping[str, Any]], dict[str, Any]],
        merged: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        """Write what a graph of permissions lacks; again if somebody else was faster."""
        title = f"{name} of '{self._dashboard.group}'"
        if group is None:
            self._change("create", "permissions", title)
            return
        recorded = False
        for _ in range(_ATTEMPTS):
            graph = self._client.get(path)
            wanted = missing(graph)
            if not wanted:
                return
            if not recorded:
                recorded = True
                details = tuple(
                    f"{'All Users' if one != str(group) else self._dashboard.group}: {key}={right}"
                    for one, rights in wanted.items()
                    for key, right in _named_rights(rights)
                )
                if not self._change("update", "permissions", title, *details):
                    return
            try:
                body = {"revision": graph.get("revision"), "groups": merged(graph, wanted)}
                self._client.put(path, body)
            except ApiError as error:
                if error.status != _CONFLICT:
                    raise
                continue
            left = missing(self._client.get(path))
            self._verify("permissions", title, tuple(left))
            return
        raise UserError(
            "Somebody else keeps changing the permissions in Metabase at the same time.",
            "Repeat the command when they have finished.",
        )

    # -- orphans ----------------------------------------------------------------------------------

    def _orphans(self, collection: int | None) -> None:
        defined = {
            identity.question_key(self._dashboard.key, one) for one in self._dashboard.questions
        }
        for one in self._in_collection(collection, "card"):
            key = identity.marker(one.get("description"), "question")
            # A copy that a person made has the mark as well, but another entity id: it stays.
            if key is None or one.get("entity_id") != identity.entity_id("question", key):
                continue
            if key in defined or not key.startswith(f"{self._dashboard.key}."):
                continue
            if not self._options.prune:
                self._report.warnings.append(
                    f"Question '{one['name']}' (id {one['id']}) was made by this tool and is no "
                    "longer in the definition; --prune archives it."
                )
            elif self._change("archive", "question", one["name"]):
                self._client.put(f"/api/card/{one['id']}", {"archived": True})
                self._verify_at(
                    "question", one["name"], f"/api/card/{one['id']}", {"archived": True}
                )

    # -- helpers ----------------------------------------------------------------------------------

    def _known(self, key: str, number: int) -> int:
        self._report.ids[key] = number
        return number

    def _only_one(self, kind: str, found: Iterable[Mapping[str, Any]], hint: str) -> None:
        things = list(found)
        if len(things) > 1:
            names = " and ".join(f"'{one['name']}' (id {one['id']})" for one in things)
            raise UserError(f"It is not clear which {kind} in Metabase is meant: {names}.", hint)

    def _verify_at(self, kind: str, name: str, path: str, wanted: Mapping[str, Any]) -> None:
        self._verify(kind, name, differences(wanted, self._client.get(path)))

    def _verify(self, kind: str, name: str, changed: tuple[str, ...]) -> None:
        if changed:
            raise UserError(
                f"Metabase said yes, but did not keep {', '.join(changed)} of {kind} '{name}'.",
                f"This server ({self._report.version or 'of unknown version'}) may differ from "
                "those known to this tool; `oceanrecords metabase plan` tells where it stands.",
            )


def _needs_password(change: Change) -> bool:
    return change.kind == "database" and not any(one.startswith(_SYNC) for one in change.details)


def _named_rights(rights: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, right in rights.items():
        if isinstance(right, Mapping):
            for inner, value in right.items():
                yield f"database {key} {inner}", str(value)
        else:
            yield f"collection {key}", str(right)


def _rows(answer: Json) -> list[dict[str, Any]]:
    """Return the rows of a list, which some addresses wrap in 'data'."""
    if isinstance(answer, Mapping):
        answer = answer.get("data")
    return list(answer or ())


def _no_password() -> str:
    raise UserError(
        "The password of the warehouse's login is needed, and is not given.",
        "Set METABASE_WAREHOUSE_PASSWORD, or name a file with --warehouse-password-file.",
    )


def new_password() -> str:
    """Return a password that nobody needs to know."""
    return secrets.token_urlsafe(24)
