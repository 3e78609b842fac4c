"""What the stand-in keeps, and how it answers each address."""

from __future__ import annotations

import copy
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

Json = Any
Row = dict[str, Any]

ALL_USERS, ADMINISTRATORS = 1, 2
_SECRET = "**MetabasePass**"
_NANO_ID = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"

# The keys that each address knows, from its schema in Metabase's source.
_CARD = {
    "name",
    "type",
    "dataset_query",
    "parameters",
    "parameter_mappings",
    "description",
    "display",
    "visualization_settings",
    "collection_id",
    "collection_position",
    "result_metadata",
    "cache_ttl",
    "dashboard_id",
    "dashboard_tab_id",
}
_KNOWN = {
    "POST card": _CARD | {"entity_id", "size", "source_card_id"},
    "PUT card": _CARD | {"archived", "enable_embedding", "embedding_params", "collection_preview"},
    "POST collection": {"name", "description", "parent_id", "namespace", "authority_level"},
    "PUT collection": {"name", "description", "archived", "parent_id", "authority_level"},
    "POST dashboard": {
        "name",
        "description",
        "parameters",
        "cache_ttl",
        "collection_id",
        "collection_position",
        "dashcards",
        "tabs",
    },
    "PUT dashboard": {
        "name",
        "description",
        "archived",
        "caveats",
        "parameters",
        "width",
        "auto_apply_filters",
        "cache_ttl",
        "collection_id",
        "collection_position",
        "dashcards",
        "tabs",
    },
    "dashcard": {
        "id",
        "size_x",
        "size_y",
        "row",
        "col",
        "card_id",
        "action_id",
        "dashboard_tab_id",
        "parameter_mappings",
        "visualization_settings",
        "inline_parameters",
        "series",
    },
    "POST database": {
        "name",
        "engine",
        "details",
        "is_full_sync",
        "is_on_demand",
        "schedules",
        "auto_run_queries",
        "cache_ttl",
        "connection_source",
    },
    "PUT database": {
        "name",
        "engine",
        "details",
        "is_full_sync",
        "is_on_demand",
        "description",
        "schedules",
        "auto_run_queries",
        "cache_ttl",
        "settings",
    },
    "template-tag": {"id", "name", "display-name", "type", "default", "required", "widget-type"},
    "parameter": {
        "id",
        "name",
        "slug",
        "type",
        "sectionId",
        "target",
        "default",
        "required",
        "values_query_type",
        "values_source_type",
        "values_source_config",
        "filteringParameters",
    },
}
_PARAMETER_TYPES = {"date/single", "category", "string/=", "number/=", "id", "date/all-options"}


class RefusedError(Exception):
    """An answer that is not 200.

    Parameters:
        status: HTTP status.
        body: JSON, or a text.
    """

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass
class User:
    """Somebody who may log in, or a key."""

    id: int
    email: str
    password: str
    is_superuser: bool
    groups: set[int]


@dataclass
class State:
    """All that a server remembers.

    Attributes:
        version: what it calls itself.
        sync_seconds: how long reading a database takes.
        refuses_unknown_keys: answer 400 to them, instead of dropping them.
        gives_own_entity_ids: do not take the entity id that is sent.
        forgets: keys of cards that it drops without a word.
        before_graph: called before a graph is written; a test changes it there, to be faster.
    """

    version: str = "v0.58.4"
    sync_seconds: float = 0.05
    refuses_unknown_keys: bool = False
    gives_own_entity_ids: bool = False
    forgets: set[str] = field(default_factory=set)
    before_graph: Callable[[], None] | None = None
    starting_seconds: float = 0.0
    setup_token: str | None = field(default_factory=lambda: str(uuid.uuid4()))
    users: list[User] = field(default_factory=list)
    keys: dict[str, User] = field(default_factory=dict)
    sessions: dict[str, User] = field(default_factory=dict)
    databases: dict[int, Row] = field(default_factory=dict)
    collections: dict[int, Row] = field(default_factory=dict)
    cards: dict[int, Row] = field(default_factory=dict)
    dashboards: dict[int, Row] = field(default_factory=dict)
    groups: dict[int, str] = field(
        default_factory=lambda: {ALL_USERS: "All Users", ADMINISTRATORS: "Administrators"}
    )
    data_graph: dict[int, dict[int, Row]] = field(default_factory=dict)
    data_revision: int = 1
    collection_graph: dict[int, dict[str, str]] = field(
        default_factory=lambda: {ALL_USERS: {"root": "write"}, ADMINISTRATORS: {"root": "write"}}
    )
    collection_revision: int = 1
    last_id: int = 100
    started: float = field(default_factory=time.monotonic)

    # -- what a test or a person at the console does ----------------------------------------------

    def add_user(
        self, email: str, password: str, *, superuser: bool = False, groups: Iterable[int] = ()
    ) -> User:
        """Add somebody who may log in."""
        user = User(self._next(), email, password, superuser, {ALL_USERS, *groups})
        if superuser:
            user.groups.add(ADMINISTRATORS)
        self.users.append(user)
        self.setup_token = None
        return user

    def add_key(self, key: str, *, superuser: bool = True) -> None:
        """Add an API key; the server counts as set up from then on."""
        if not self.users:
            self.add_user("owner@example.com", secrets.token_hex(), superuser=True)
        groups = {ALL_USERS, ADMINISTRATORS} if superuser else {ALL_USERS}
        self.keys[key] = User(self._next(), f"{key[:4]}@api-key.invalid", "", superuser, groups)

    def essence(self) -> Json:
        """Return all that a person could see, without numbers that depend on the order of doing."""

        def named(rows: dict[int, Row]) -> dict[int, str]:
            return {number: row["name"] for number, row in rows.items()}

        cards, collections = named(self.cards), named(self.collections)
        databases = named(self.databases)

        def renamed(value: Json, key: str = "") -> Json:
            if isinstance(value, dict):
                return {
                    inner: renamed(one, inner)
                    for inner, one in sorted(value.items())
                    if inner not in ("id", "creator_id", "dashboard_id", "updated", "synced_at")
                }
            if isinstance(value, list):
                return [renamed(one) for one in value]
            if key == "card_id":
                return cards.get(value, value)
            if key == "collection_id":
                return collections.get(value, value)
            if key in ("database", "database_id"):
                return databases.get(value, value)
            return value

        def rows(things: dict[int, Row]) -> list[Json]:
            shown = [renamed(row) for row in things.values()]
            if things is not self.cards:
                for row in shown:
                    row.pop("entity_id", None)
            return sorted(shown, key=lambda row: row["name"])

        dashboards = rows(self.dashboards)
        for row in dashboards:
            row["dashcards"].sort(key=lambda tile: (tile["row"], tile["col"]))
            for tile in row["dashcards"]:
                del tile["entity_id"]
        return {
            "users": sorted((one.email, one.is_superuser) for one in self.users),
            "databases": rows(self.databases),
            "collections": rows(self.collections),
            "cards": rows(self.cards),
            "dashboards": dashboards,
            "groups": sorted(self.groups.values()),
            "data": {
                self.groups[group]: {databases[number]: rights for number, rights in each.items()}
                for group, each in sorted(self.data_graph.items())
            },
            "permissions": {
                self.groups[group]: {
                    collections.get(int(key), key) if key != "root" else key: right
                    for key, right in sorted(each.items())
                }
                for group, each in sorted(self.collection_graph.items())
            },
        }

    def _next(self) -> int:
        self.last_id += 1
        return self.last_id

    # -- who --------------------------------------------------------------------------------------

    def user(self, headers: Json) -> User | None:
        """Return who sent a request."""
        key = headers.get("X-API-KEY")
        if key is not None:
            return self.keys.get(key)
        return self.sessions.get(headers.get("X-Metabase-Session") or "")

    def health(self) -> Json:
        if time.monotonic() - self.started < self.starting_seconds:
            raise RefusedError(503, {"status": "initializing", "progress": 0.3})
        return {"status": "ok"}

    def properties(self) -> Json:
        return {
            "setup-token": self.setup_token,
            "has-user-setup": bool(self.users),
            "version": {"tag": self.version, "hash": "0000000", "branch": "stand-in"},
            "site-name": "Stand-in",
            "engines": {"postgres": {"driver-name": "PostgreSQL"}},
        }

    def log_in(self, body: Row) -> Json:
        for user in self.users:
            if user.email == body.get("username") and user.password == body.get("password"):
                return {"id": self._open(user)}
        raise RefusedError(401, {"errors": {"password": "did not match stored password"}})

    def _open(self, user: User) -> str:
        session = str(uuid.uuid4())
        self.sessions[session] = user
        return session

    def set_up(self, body: Row) -> Json:
        if self.users:
            raise RefusedError(
                403,
                "The /api/setup route can only be used to create the first user, however a user "
                "currently exists.",
            )
        if body.get("token") != self.setup_token:
            raise RefusedError(400, {"errors": {"token": "Token does not match the setup token."}})
        user = body.get("user") or {}
        if "@" not in str(user.get("email")):
            raise RefusedError(
                400, {"errors": {"user": {"email": "value must be an email address."}}}
            )
        if len(str(user.get("password") or "")) < 6:
            raise RefusedError(400, {"errors": {"user": {"password": "password is too common."}}})
        if not (body.get("prefs") or {}).get("site_name"):
            raise RefusedError(
                400, {"errors": {"prefs": {"site_name": "must be a non-blank string."}}}
            )
        return {"id": self._open(self.add_user(user["email"], user["password"], superuser=True))}

    # -- databases --------------------------------------------------------------------------------

    def list_databases(self, _user: User) -> Json:
        rows = [self._shown_database(row) for row in self.databases.values()]
        return {"data": rows, "total": len(rows)}

    def get_database(self, number: int, *, tables: bool = False) -> Json:
        row = self._existing(self.databases, number)
        shown = self._shown_database(row)
        if tables:
            shown["tables"] = self._tables(row)
        return shown

    def _shown_database(self, row: Row) -> Row:
        shown = copy.deepcopy({key: row[key] for key in row if key not in ("synced_at", "tables")})
        if "password" in shown["details"]:
            shown["details"]["password"] = _SECRET
        done = time.monotonic() >= row["synced_at"]
        shown["initial_sync_status"] = "complete" if done else "incomplete"
        shown["is_sample"] = False
        return shown

    def _tables(self, row: Row) -> list[Row]:
        if time.monotonic() < row["synced_at"]:
            return []
        if row["tables"] is None:
            row["tables"] = self._read_tables(row)
        return [
            {
                "id": number,
                "db_id": row["id"],
                "schema": schema,
                "name": name,
                "display_name": name.replace("_", " ").title(),
                "description": None,
                "entity_type": "entity/GenericTable",
                "active": True,
                "visibility_type": None,
                "field_order": "database",
                "initial_sync_status": "complete",
            }
            for number, (schema, name) in enumerate(row["tables"], start=1)
        ]

    def _read_tables(self, row: Row) -> list[tuple[str, str]]:
        wanted = row["details"].get("schema-filters-patterns")
        with self._connect(row["details"]) as connection:
            found = connection.execute(
                """
                SELECT namespace.nspname, relation.relname
                FROM pg_class AS relation
                INNER JOIN pg_namespace AS namespace
                    ON namespace.oid = relation.relnamespace
                WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
                    AND namespace.nspname NOT IN ('pg_catalog', 'information_schema')
                    AND has_schema_privilege(namespace.oid, 'USAGE')
                    AND has_table_privilege(relation.oid, 'SELECT')
                ORDER BY 1, 2
                """
            ).fetchall()
        return [(schema, name) for schema, name in found if wanted in (None, schema)]

    def create_database(self, body: Row) -> Json:
        body = self._known("POST database", body)
        self._try(body.get("details") or {})
        number = self._next()
        self.databases[number] = {
            "id": number,
            **body,
            "synced_at": time.monotonic() + self.sync_seconds,
            "tables": None,
        }
        self.data_graph.setdefault(ALL_USERS, {})[number] = {
            "view-data": "unrestricted",
            "create-queries": "query-builder-and-native",
            "download": {"schemas": "full"},
        }
        for group in self.groups:
            if group > ADMINISTRATORS:
                self.data_graph.setdefault(group, {})[number] = {"view-data": "unrestricted"}
        return self._shown_database(self.databases[number])

    def update_database(self, number: int, body: Row) -> Json:
        row = self._existing(self.databases, number)
        body = self._known("PUT database", body)
        if "details" in body:
            details = {**row["details"], **body["details"]}
            if details.get("password") == _SECRET:
                details["password"] = row["details"].get("password")
            self._try(details)
            body = {**body, "details": details}
        row.update(body)
        return self._shown_database(row)

    def sync(self, number: int) -> Json:
        row = self._existing(self.databases, number)
        row["synced_at"] = time.monotonic() + self.sync_seconds
        row["tables"] = None
        return {"status": "ok"}

    def _connect(self, details: Row) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=details.get("host"),
            port=details.get("port"),
            dbname=details.get("dbname"),
            user=details.get("user"),
            password=details.get("password"),
            sslmode="require" if details.get("ssl") else "prefer",
            connect_timeout=5,
            autocommit=True,
            application_name="Metabase stand-in",
        )

    def _try(self, details: Row) -> None:
        try:
            self._connect(details).close()
        except psycopg.Error as error:
            words = str(error).strip().splitlines()[-1]
            raise RefusedError(
                400, {"message": words, "errors": {"host": "check your host settings"}}
            ) from error

    # -- collections ------------------------------------------------------------------------------

    def list_collections(self, user: User, *, archived: bool) -> Json:
        rows = [row for row in self.collections.values() if row["archived"] is archived]
        rows = [row for row in rows if self._right(user, row["id"]) != "none"]
        root = {"id": "root", "name": "Our analytics", "is_personal": False}
        return copy.deepcopy(rows if archived else [root, *rows])

    def create_collection(self, body: Row) -> Json:
        body = self._known("POST collection", body)
        self._not_blank(body, "name")
        number = self._next()
        self.collections[number] = {
            "id": number,
            "description": None,
            **body,
            "archived": False,
            "location": "/",
            "personal_owner_id": None,
            "entity_id": _nano_id(),
        }
        # A new collection inherits what everybody may do in the one above.
        for rights in self.collection_graph.values():
            rights[str(number)] = rights.get("root", "none")
        return copy.deepcopy(self.collections[number])

    def update_collection(self, number: int, body: Row) -> Json:
        row = self._existing(self.collections, number)
        body = self._known("PUT collection", body)
        if "archived" in body and body["archived"] != row["archived"]:
            for things in (self.cards, self.dashboards):
                for one in things.values():
                    if one["collection_id"] == number and not one["archived_directly"]:
                        one["archived"] = body["archived"]
        row.update(body)
        return copy.deepcopy(row)

    def items(self, number: int, models: list[str]) -> Json:
        self._existing(self.collections, number)
        found = [
            {key: row.get(key) for key in ("id", "name", "description", "entity_id", "display")}
            | {"model": model, "archived": False, "collection_id": number}
            for model, things in (("card", self.cards), ("dashboard", self.dashboards))
            for row in things.values()
            if row["collection_id"] == number and not row["archived"]
            if not models or model in models
        ]
        return {"total": len(found), "data": found, "models": models}

    # -- cards ------------------------------------------------------------------------------------

    def get_card(self, reference: str) -> Json:
        return copy.deepcopy(self._card(reference))

    def _card(self, reference: str) -> Row:
        if reference.isdigit():
            return self._existing(self.cards, int(reference))
        for row in self.cards.values():
            if row["entity_id"] == reference:
                return row
        raise RefusedError(404, "Not found.")

    def create_card(self, body: Row) -> Json:
        body = self._known("POST card", body)
        for key in ("name", "display"):
            self._not_blank(body, key)
        if not isinstance(body.get("visualization_settings"), dict):
            raise RefusedError(400, {"errors": {"visualization_settings": "value must be a map"}})
        entity = None if self.gives_own_entity_ids else body.pop("entity_id", None)
        body.pop("entity_id", None)
        if entity is not None and not re.fullmatch(r"[A-Za-z0-9_-]{21}", entity):
            raise RefusedError(400, {"errors": {"entity_id": "value must be a NanoID"}})
        if any(row["entity_id"] == entity for row in self.cards.values()):
            raise RefusedError(500, {"message": "Unique index violation: report_card.entity_id"})
        number = self._next()
        self.cards[number] = {
            "id": number,
            "description": None,
            "type": "question",
            "collection_id": None,
            "parameters": [],
            **self._card_values(body),
            "archived": False,
            "archived_directly": False,
            "entity_id": entity or _nano_id(),
            "creator_id": 1,
            "query_type": "native",
            "table_id": None,
        }
        return copy.deepcopy(self.cards[number])

    def update_card(self, reference: str, body: Row) -> Json:
        row = self._card(reference)
        body = self._known("PUT card", body)
        if "archived" in body:
            row["archived_directly"] = bool(body["archived"])
        row.update(self._card_values(body))
        return copy.deepcopy(row)

    def _card_values(self, body: Row) -> Row:
        values = copy.deepcopy({key: one for key, one in body.items() if key not in self.forgets})
        if values.get("collection_id") is not None:
            self._existing(self.collections, values["collection_id"])
        if "dataset_query" in values:
            values["dataset_query"] = self._normal_query(values["dataset_query"])
            values["database_id"] = values["dataset_query"].get("database")
        if values.get("parameters"):
            values["parameters"] = self._normal_parameters(values["parameters"])
        return values

    def _normal_query(self, query: Json) -> Row:
        """Return a query as MBQL 5; what is neither that nor the old form becomes empty, with 200."""
        if not isinstance(query, dict):
            raise RefusedError(400, {"errors": {"dataset_query": "value must be a map"}})
        database = query.get("database")
        if database is not None and database not in self.databases:
            raise RefusedError(404, "Not found.")
        if query.get("type") == "native" and "lib/type" not in query and "stages" not in query:
            native = query.get("native") or {}
            stage = {"native": native.get("query"), "template-tags": native.get("template-tags")}
            return self._mbql(database, stage)
        stages = query.get("stages")
        if (
            query.get("lib/type") != "mbql/query"
            or "type" in query
            or not isinstance(stages, list)
            or len(stages) != 1
            or stages[0].get("lib/type") != "mbql.stage/native"
        ):
            return {}
        return self._mbql(database, stages[0])

    def _mbql(self, database: int | None, stage: Row) -> Row:
        if not stage.get("native"):
            return {}
        kept: Row = {"lib/type": "mbql.stage/native", "native": stage["native"]}
        tags = stage.get("template-tags") or {}
        for name, tag in tags.items():
            if tag.get("name") != name or not tag.get("id") or not tag.get("type"):
                raise RefusedError(
                    400, {"errors": {"dataset_query": f"invalid template tag {name}"}}
                )
        if tags:
            kept["template-tags"] = {
                name: self._known("template-tag", tag) for name, tag in tags.items()
            }
        return {"lib/type": "mbql/query", "database": database, "stages": [kept]}

    def _normal_parameters(self, parameters: list[Row]) -> list[Row]:
        for one in parameters:
            if not one.get("id") or one.get("type") not in _PARAMETER_TYPES:
                raise RefusedError(
                    400, {"errors": {"parameters": f"invalid parameter {one.get('id')}"}}
                )
        return [self._known("parameter", one) for one in parameters]

    def run_card(self, reference: str, body: Row) -> Json:
        row = self._card(reference)
        values = {}
        for one in (body or {}).get("parameters") or []:
            values[one["target"][1][1]] = one["value"]
        return self.run_query(row["dataset_query"], values)

    def run_query(self, query: Row, values: Row | None = None) -> Json:
        """Run a native query on its database, with the login that the database was given."""
        if not query:
            return _failed("Query is empty")
        database = self._existing(self.databases, query["database"])
        text = _filled(query["stages"][0]["native"], values or {})
        try:
            with self._connect(database["details"]) as connection:
                cursor = connection.execute(text)  # type: ignore[call-overload]
                columns = [column.name for column in cursor.description or ()]
                rows = [[_shown(cell) for cell in row] for row in cursor.fetchall()]
        except psycopg.Error as error:
            return _failed(str(error).splitlines()[0])
        cols = [{"name": name, "display_name": name} for name in columns]
        return {"status": "completed", "row_count": len(rows), "data": {"rows": rows, "cols": cols}}

    # -- dashboards -------------------------------------------------------------------------------

    def archived_dashboards(self) -> Json:
        return [self._shown_dashboard(row) for row in self.dashboards.values() if row["archived"]]

    def get_dashboard(self, number: int) -> Json:
        return self._shown_dashboard(self._existing(self.dashboards, number))

    def _shown_dashboard(self, row: Row) -> Row:
        shown = copy.deepcopy(row)
        tiles = []
        for tile in shown["dashcards"]:
            card = self.cards.get(tile["card_id"] or -1)
            if card is None or not card["archived"]:
                tile["card"] = copy.deepcopy(card)
                tiles.append(tile)
        shown["dashcards"] = tiles
        return shown

    def create_dashboard(self, body: Row) -> Json:
        body = self._known("POST dashboard", body)
        self._not_blank(body, "name")
        if body.get("collection_id") is not None:
            self._existing(self.collections, body["collection_id"])
        number = self._next()
        self.dashboards[number] = {
            "id": number,
            "description": None,
            "collection_id": None,
            "parameters": [],
            "width": "fixed",
            "auto_apply_filters": True,
            "enable_embedding": False,
            "public_uuid": None,
            "cache_ttl": None,
            "tabs": [],
            "archived": False,
            "archived_directly": False,
            "entity_id": _nano_id(),
            "creator_id": 1,
            **{key: one for key, one in body.items() if key not in ("dashcards", "tabs")},
            "dashcards": [],
        }
        return self._shown_dashboard(self.dashboards[number])

    def update_dashboard(self, number: int, body: Row) -> Json:
        row = self._existing(self.dashboards, number)
        body = self._known("PUT dashboard", body)
        values = copy.deepcopy({k: one for k, one in body.items() if k != "dashcards"})
        if values.get("parameters"):
            values["parameters"] = self._normal_parameters(values["parameters"])
        if "width" in values and values["width"] not in ("fixed", "full"):
            raise RefusedError(400, {"errors": {"width": "enum of fixed, full"}})
        tiles = None
        if body.get("dashcards") is not None:
            tiles = self._replaced(row, body["dashcards"])
        if "archived" in values:
            row["archived_directly"] = bool(values["archived"])
        row.update(values)
        if tiles is not None:
            row["dashcards"] = tiles
        return self._shown_dashboard(row)

    def _replaced(self, row: Row, dashcards: list[Row]) -> list[Row]:
        """Return all tiles anew: those with a known id changed, negative ones made, others gone."""
        existing = {tile["id"]: tile for tile in row["dashcards"]}
        result = []
        for one in dashcards:
            one = self._known("dashcard", one)
            for key in ("id", "size_x", "size_y", "row", "col"):
                if not isinstance(one.get(key), int):
                    raise RefusedError(
                        400, {"errors": {"dashcards": f"{key}: value must be an integer"}}
                    )
            card = one.get("card_id")
            if card is not None and self._existing(self.cards, card)["archived"]:
                raise RefusedError(404, {"message": "The object has been archived."})
            if one["id"] >= 0 and one["id"] not in existing:
                raise RefusedError(404, "Not found.")
            tile = existing.get(one["id"]) or {
                "id": self._next(),
                "dashboard_id": row["id"],
                "parameter_mappings": [],
                "visualization_settings": {},
                "series": [],
                "dashboard_tab_id": None,
                "inline_parameters": [],
                "entity_id": _nano_id(),
            }
            result.append({**tile, **copy.deepcopy(one), "id": tile["id"]})
        return result

    # -- groups and permissions -------------------------------------------------------------------

    def list_groups(self) -> Json:
        magic = {ALL_USERS: "all-internal-users", ADMINISTRATORS: "admin"}
        return [
            {"id": number, "name": name, "magic_group_type": magic.get(number), "member_count": 0}
            for number, name in self.groups.items()
        ]

    def get_group(self, number: int) -> Json:
        if number not in self.groups:
            raise RefusedError(404, "Not found.")
        return {"id": number, "name": self.groups[number], "members": []}

    def create_group(self, body: Row) -> Json:
        self._not_blank(body, "name")
        if body["name"].casefold() in (name.casefold() for name in self.groups.values()):
            raise RefusedError(400, {"errors": {"name": "A group with that name already exists."}})
        number = self._next()
        self.groups[number] = body["name"]
        self.data_graph[number] = {one: {"view-data": "unrestricted"} for one in self.databases}
        self.collection_graph[number] = {
            "root": "none",
            **{str(one): "none" for one in self.collections},
        }
        return self.get_group(number)

    def get_data_graph(self) -> Json:
        groups = {
            str(group): {str(number): rights for number, rights in each.items()}
            for group, each in self.data_graph.items()
        }
        return copy.deepcopy({"revision": self.data_revision, "groups": groups})

    def put_data_graph(self, body: Row) -> Json:
        self._graph_revision(body, lambda: self.data_revision)
        for group, each in body["groups"].items():
            if int(group) not in self.groups:
                raise RefusedError(400, "Invalid group")
            for number, rights in (each or {}).items():
                self._existing(self.databases, int(number))
                self.data_graph.setdefault(int(group), {})[int(number)] = copy.deepcopy(rights)
        self.data_revision += 1
        return self.get_data_graph()

    def get_collection_graph(self) -> Json:
        groups = {str(group): dict(each) for group, each in self.collection_graph.items()}
        return {"revision": self.collection_revision, "groups": groups}

    def put_collection_graph(self, body: Row) -> Json:
        self._graph_revision(body, lambda: self.collection_revision)
        for group, each in body["groups"].items():
            for key, right in each.items():
                if right not in ("read", "write", "none"):
                    raise RefusedError(400, {"errors": {"groups": "enum of write, read, none"}})
                self.collection_graph[int(group)][key] = right
        self.collection_revision += 1
        return self.get_collection_graph()

    def _graph_revision(self, body: Row, current: Callable[[], int]) -> None:
        if self.before_graph:
            faster, self.before_graph = self.before_graph, None
            faster()
        if body.get("revision") != current():
            raise RefusedError(
                409,
                "Looks like someone else edited the permissions and your data is out of date. "
                "Please fetch new data and try again.",
            )

    def _right(self, user: User, collection: int | None) -> str:
        """Return what somebody may do in a collection: 'write', 'read' or 'none'."""
        if user.is_superuser:
            return "write"
        key = "root" if collection is None else str(collection)
        rights = {self.collection_graph.get(group, {}).get(key, "none") for group in user.groups}
        return next((one for one in ("write", "read") if one in rights), "none")

    def may(self, user: User, what: str, collection: int | None) -> None:
        """Refuse somebody who may not read or write in a collection."""
        right = self._right(user, collection)
        if right == "none" or (what == "write" and right != "write"):
            raise RefusedError(403, "You don't have permissions to do that.")

    def may_query(self, user: User, database: int) -> None:
        """Refuse somebody who may not write queries of their own."""
        rights = {
            self.data_graph.get(group, {}).get(database, {}).get("create-queries", "no")
            for group in user.groups
        }
        if not user.is_superuser and "query-builder-and-native" not in rights:
            raise RefusedError(403, "You don't have permissions to do that.")

    # -- helpers ----------------------------------------------------------------------------------

    def _known(self, schema: str, body: Json) -> Row:
        if not isinstance(body, dict):
            raise RefusedError(400, {"errors": {"_": "value must be a map"}})
        unknown = sorted(set(body) - _KNOWN[schema])
        if unknown and self.refuses_unknown_keys:
            raise RefusedError(400, {"errors": dict.fromkeys(unknown, "disallowed key")})
        return {key: value for key, value in body.items() if key in _KNOWN[schema]}

    def _not_blank(self, body: Row, key: str) -> None:
        if not str(body.get(key) or "").strip():
            raise RefusedError(400, {"errors": {key: "value must be a non-blank string."}})

    def _existing(self, things: dict[int, Row], number: int) -> Row:
        if number not in things:
            raise RefusedError(404, "Not found.")
        return things[number]


def _nano_id() -> str:
    return "".join(secrets.choice(_NANO_ID) for _ in range(21))


def _filled(text: str, values: Row) -> bytes:
    """Put values into a query as Metabase does: as literals, empty optional clauses dropped."""

    def literal(name: str) -> str:
        value = values[name]
        several = value if isinstance(value, list) else [value]
        return ", ".join(sql.Literal(one).as_string(None) for one in several)

    def names(part: str) -> list[str]:
        return re.findall(r"\{\{\s*(\w+)\s*\}\}", part)

    def optional(match: re.Match[str]) -> str:
        return match[1] if all(values.get(name) for name in names(match[1])) else ""

    text = re.sub(r"\[\[(.*?)\]\]", optional, text, flags=re.DOTALL)
    text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: literal(match[1]), text)
    return text.encode()


def _failed(words: str) -> Row:
    return {"status": "failed", "error": words, "data": {"rows": [], "cols": []}, "row_count": 0}


def _shown(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bool | int | float | str) else str(cell)
