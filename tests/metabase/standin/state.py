"""What the stand-in keeps, and how it answers each address.

Behaviour that was read in Metabase's source names the file there. Unless another version is named,
the file was read on Metabase's main branch after 0.64, which became 0.65; all paths begin with
`src/metabase/`.
"""

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

from tests.metabase.standin import schemas

Json = Any
Row = dict[str, Any]

ALL_USERS, ADMINISTRATORS = 1, 2
TRASH = 13
NEWEST = "v0.65.4"
_SECRET = "**MetabasePass**"
_NANO_ID = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"

# permissions_rest/data_permissions/graph.clj, `ellide?`: the least permissive value is left out.
_LEAST = {"view-data": "blocked", "create-queries": "no"}


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
        version: what it calls itself; v1 is the Enterprise edition.
        sync_seconds: how long reading a database takes.
        refuses_unknown_keys: answer 400 to them, as the newest servers do, instead of dropping them.
        speaks_tls: what the first try of a connection, with encryption, comes to; None tries it.
        sends_mail: whether an e-mail server is configured.
        forgets: keys of cards that it drops without a word.
        before_graph: called before a graph is written; a test changes it there, to be faster.
    """

    version: str = NEWEST
    sync_seconds: float = 0.05
    refuses_unknown_keys: bool = True
    speaks_tls: bool | None = None
    sends_mail: bool = True
    forgets: set[str] = field(default_factory=set)
    before_graph: Callable[[], None] | None = None
    starting_seconds: float = 0.0
    setup_token: str | None = field(default_factory=lambda: str(uuid.uuid4()))
    settings: Row = field(default_factory=lambda: {"anon-tracking-enabled": True})
    users: list[User] = field(default_factory=list)
    keys: dict[str, User] = field(default_factory=dict)
    sessions: dict[str, User] = field(default_factory=dict)
    databases: dict[int, Row] = field(default_factory=dict)
    tables: dict[int, Row] = field(default_factory=dict)
    fields: dict[int, Row] = field(default_factory=dict)
    collections: dict[int, Row] = field(default_factory=dict)
    cards: dict[int, Row] = field(default_factory=dict)
    dashboards: dict[int, Row] = field(default_factory=dict)
    pulses: dict[int, Row] = field(default_factory=dict)
    notifications: dict[int, Row] = field(default_factory=dict)
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

    @property
    def major(self) -> int:
        found = re.match(r"v[01]\.(\d+)", self.version)
        return int(found[1]) if found else 99

    @property
    def is_enterprise(self) -> bool:
        return self.version.startswith("v1.")

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

        def named(rows: dict[int, Row]) -> dict[Any, str]:
            return {number: row["name"] for number, row in rows.items()}

        collections, databases = named(self.collections), named(self.databases)
        fields = {
            number: f"{self.tables[row['table_id']]['name']}.{row['name']}"
            for number, row in self.fields.items()
        }
        names = {
            "card_id": named(self.cards),
            "source-card": named(self.cards),
            "collection_id": collections,
            "database": databases,
            "database_id": databases,
            "db_id": databases,
            "targetId": named(self.dashboards),
            "table_id": named(self.tables),
            "source-table": named(self.tables),
            "fk_target_field_id": fields,
        }
        dropped = {"id", "creator_id", "dashboard_id", "synced_at", "entity_id", "stale", "cards"}

        def renamed(value: Json, key: str = "") -> Json:
            if isinstance(value, dict):
                return {
                    inner: renamed(one, inner)
                    for inner, one in sorted(value.items())
                    if inner not in dropped or (inner == "id" and isinstance(one, str))
                }
            if isinstance(value, list):
                return [renamed(one) for one in value]
            return names[key].get(value, value) if key in names else value

        def rows(things: dict[int, Row]) -> list[Json]:
            return sorted((renamed(row) for row in things.values()), key=repr)

        dashboards = rows(self.dashboards)
        for row in dashboards:
            row["dashcards"].sort(key=lambda tile: (tile["row"], tile["col"]))
        return {
            "users": sorted((one.email, one.is_superuser) for one in self.users),
            "settings": dict(sorted(self.settings.items())),
            "databases": rows(self.databases),
            "tables": rows(self.tables),
            "fields": rows(self.fields),
            "collections": rows(self.collections),
            "cards": rows(self.cards),
            "dashboards": dashboards,
            "pulses": rows(self.pulses),
            "notifications": rows(self.notifications),
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

    def properties(self, user: User | None) -> Json:
        # session/api.clj, GET /properties: what the user may read. appearance/settings.clj: the
        # site's name has `:visibility :settings-manager`; the others here are public.
        shown = {
            "setup-token": self.setup_token,
            "has-user-setup": bool(self.users),
            "version": {"tag": self.version, "hash": "0000000", "branch": "stand-in"},
            "anon-tracking-enabled": self.settings["anon-tracking-enabled"],
            "email-configured?": self.sends_mail,
            "engines": {"postgres": {"driver-name": "PostgreSQL"}},
        }
        if user and user.is_superuser:
            shown["site-name"] = self.settings.get("site-name", "Metabase")
        return shown

    def log_in(self, body: Row) -> Json:
        for user in self.users:
            if user.email == body.get("username") and user.password == body.get("password"):
                return {"id": self._open(user)}
        raise RefusedError(401, {"errors": {"password": "did not match stored password"}})

    def log_out(self, headers: Json) -> Json:
        # session/api.clj, DELETE /: 404 for a session that there is not, otherwise 204.
        if self.sessions.pop(headers.get("X-Metabase-Session") or "", None) is None:
            raise RefusedError(404, "Not found.")
        return None

    def _open(self, user: User) -> str:
        session = str(uuid.uuid4())
        self.sessions[session] = user
        return session

    def set_up(self, body: Row) -> Json:
        # setup_rest/api.clj: only for the first user; `setup-set-settings!` calls
        # `(analytics/anon-tracking-enabled! true)` whatever `allow_tracking` asks for.
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
        self.settings |= {"anon-tracking-enabled": True, "site-name": body["prefs"]["site_name"]}
        return {"id": self._open(self.add_user(user["email"], user["password"], superuser=True))}

    def change_setting(self, key: str, body: Row) -> Json:
        # settings_rest/api.clj, PUT /:key: {"value": …}, answered with 204.
        self.settings[key] = body["value"]
        return None

    # -- databases --------------------------------------------------------------------------------

    def list_databases(self, _user: User) -> Json:
        rows = [self._shown_database(row) for row in self.databases.values()]
        return {"data": rows, "total": len(rows)}

    def get_database(self, number: int, *, tables: bool = False) -> Json:
        row = self._existing(self.databases, number)
        shown = self._shown_database(row)
        if tables:
            shown["tables"] = self._tables(row, hidden=False)
        return shown

    def get_metadata(self, number: int, *, hidden: bool) -> Json:
        # warehouses_rest/api.clj, GET /:id/metadata: hidden tables and sensitive or retired fields
        # are there only with include_hidden.
        row = self._existing(self.databases, number)
        shown = self._shown_database(row)
        shown["tables"] = [
            {
                **table,
                "fields": [
                    copy.deepcopy(one)
                    for one in self.fields.values()
                    if one["table_id"] == table["id"]
                    and (hidden or one["visibility_type"] not in ("sensitive", "retired"))
                ],
            }
            for table in self._tables(row, hidden=hidden)
        ]
        return shown

    def _shown_database(self, row: Row) -> Row:
        shown = copy.deepcopy({key: row[key] for key in row if key not in ("synced_at", "stale")})
        if "password" in shown["details"]:
            shown["details"]["password"] = _SECRET
        done = time.monotonic() >= row["synced_at"]
        shown["initial_sync_status"] = "complete" if done else "incomplete"
        shown["is_sample"] = False
        return shown

    def _tables(self, row: Row, *, hidden: bool) -> list[Row]:
        if time.monotonic() >= row["synced_at"] and row["stale"]:
            self._read_tables(row)
            row["stale"] = False
        return [
            copy.deepcopy(table)
            for table in self.tables.values()
            if table["db_id"] == row["id"] and (hidden or table["visibility_type"] is None)
        ]

    def _read_tables(self, row: Row) -> None:
        """Take in what the login sees; what is known already keeps its number and its metadata."""
        wanted = row["details"].get("schema-filters-patterns")
        known = {(one["db_id"], one["schema"], one["name"]): one for one in self.tables.values()}
        with self._connect(row["details"]) as connection:
            found = connection.execute(
                """
                SELECT namespace.nspname, relation.relname, attribute.attname, attribute.attnum,
                    format_type(attribute.atttypid, NULL)
                FROM pg_class AS relation
                INNER JOIN pg_namespace AS namespace
                    ON namespace.oid = relation.relnamespace
                INNER JOIN pg_attribute AS attribute
                    ON attribute.attrelid = relation.oid AND attribute.attnum > 0
                        AND NOT attribute.attisdropped
                WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
                    AND namespace.nspname NOT IN ('pg_catalog', 'information_schema')
                    AND has_schema_privilege(namespace.oid, 'USAGE')
                    AND has_table_privilege(relation.oid, 'SELECT')
                ORDER BY 1, 2, 4
                """
            ).fetchall()
        for schema, name, column, position, kind in found:
            if wanted not in (None, schema):
                continue
            table = known.get((row["id"], schema, name))
            if table is None:
                table = {
                    "id": self._next(),
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
                self.tables[table["id"]] = table
                known[row["id"], schema, name] = table
            if any(
                one["table_id"] == table["id"] and one["name"] == column
                for one in self.fields.values()
            ):
                continue
            number = self._next()
            # Metabase's sync may take over comments as descriptions; here it finds out nothing.
            self.fields[number] = {
                "id": number,
                "table_id": table["id"],
                "name": column,
                "display_name": column.replace("_", " ").title(),
                "description": None,
                "position": position - 1,
                "database_type": kind,
                "base_type": _BASE_TYPES.get(kind, "type/Text"),
                "semantic_type": None,
                "visibility_type": "normal",
                "fk_target_field_id": None,
                "settings": None,
                "active": True,
            }

    def create_database(self, body: Row) -> Json:
        body = self._known("POST database", body)
        # warehouses/util.clj, `test-connection-details`: without ssl: true it tries ssl: true
        # first, and what worked is stored.
        details = dict(body.get("details") or {})
        if details.get("ssl") is not True:
            encrypted = {**details, "ssl": True}
            details = encrypted if self._speaks_tls(encrypted) else {**details, "ssl": False}
        self._try(details)
        number = self._next()
        self.databases[number] = {
            "id": number,
            **body,
            "details": details,
            "synced_at": time.monotonic() + self.sync_seconds,
            "stale": True,
        }
        self.data_graph.setdefault(ALL_USERS, {})[number] = {
            "view-data": "unrestricted",
            "create-queries": "query-builder-and-native",
            "download": {"schemas": "full"},
        }
        for group in self.groups:
            if group > ADMINISTRATORS:
                self.data_graph.setdefault(group, {})[number] = self._new_rights()
        return self._shown_database(self.databases[number])

    def _new_rights(self) -> Row:
        """Return what a group may do with a database that it has to do with for the first time."""
        return {"view-data": "blocked" if self.is_enterprise else "unrestricted"}

    def update_database(self, number: int, body: Row) -> Json:
        row = self._existing(self.databases, number)
        body = self._known("PUT database", body)
        if "details" in body:
            # warehouses_rest/api.clj, `upsert-sensitive-fields`: merged over what is there.
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
        row["stale"] = True
        return {"status": "ok"}

    def update_table(self, number: int, body: Row) -> Json:
        row = self._existing(self.tables, number)
        row.update(self._known("PUT table", body))
        return copy.deepcopy(row)

    def update_field(self, number: int, body: Row) -> Json:
        # warehouse_schema_rest/api/field.clj, PUT /:id: the target must exist; display_name,
        # visibility_type and settings are not taken when they are null.
        row = self._existing(self.fields, number)
        body = self._known("PUT field", body)
        if body.get("visibility_type", "normal") not in schemas.VISIBILITY_TYPES:
            raise RefusedError(400, {"errors": {"visibility_type": "enum of …"}})
        if body.get("semantic_type") and not str(body["semantic_type"]).startswith("type/"):
            raise RefusedError(400, {"errors": {"semantic_type": "value must be a valid type"}})
        for key in ("description", "display_name"):
            if key in body and body[key] is not None:
                self._not_blank(body, key)
        target = body.get("fk_target_field_id")
        if target is not None and target not in self.fields:
            raise RefusedError(400, {"errors": {"fk_target_field_id": "Invalid target field"}})
        keep = ("display_name", "visibility_type", "settings")
        row.update(
            copy.deepcopy({k: one for k, one in body.items() if k not in keep or one is not None})
        )
        if "semantic_type" in body and body["semantic_type"] != "type/FK":
            row["fk_target_field_id"] = None
        return copy.deepcopy(row)

    def _speaks_tls(self, details: Row) -> bool:
        if self.speaks_tls is not None:
            return self.speaks_tls
        try:
            self._connect(details).close()
        except psycopg.Error:
            return False
        return True

    def _connect(self, details: Row) -> psycopg.Connection[Any]:
        encrypted = details.get("ssl") and not self.speaks_tls
        return psycopg.connect(
            host=details.get("host"),
            port=details.get("port"),
            dbname=details.get("dbname"),
            user=details.get("user"),
            password=details.get("password"),
            sslmode="require" if encrypted else "prefer",
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
        # collections_rest/api.clj, `select-collections`: the Trash is among the archived ones.
        rows = [row for row in self.collections.values() if row["archived"] is archived]
        rows = [row for row in rows if self._right(user, row["id"]) != "none"]
        root = {"id": "root", "name": "Our analytics", "is_personal": False}
        trash = {"id": TRASH, "name": "Trash", "type": "trash", "archived": False, "location": "/"}
        return copy.deepcopy([*rows, trash] if archived else [root, *rows])

    def create_collection(self, body: Row) -> Json:
        body = self._known("POST collection", body)
        self._not_blank(body, "name")
        if body.get("description") is not None:
            self._not_blank(body, "description")
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
            if "root" in rights:
                rights[str(number)] = rights["root"]
        return copy.deepcopy(self.collections[number])

    def update_collection(self, number: int, body: Row) -> Json:
        row = self._existing(self.collections, number)
        body = self._known("PUT collection", body)
        if "archived" in body and body["archived"] != row["archived"]:
            for things in (self.cards, self.dashboards):
                for one in things.values():
                    if one["collection_id"] == number and not one["archived_directly"]:
                        one["archived"] = body["archived"]
            # collections_rest/api.clj, `maybe-send-archived-notifications!`: the alerts are gone.
            for one in self.cards.values():
                if one["collection_id"] == number:
                    self._drop_notifications(one["id"])
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

    def list_cards(self, filter_: str) -> Json:
        # queries_rest/api/card.clj, GET /: whole cards of all collections; f=archived for those in
        # the Trash, all others otherwise.
        if filter_ not in ("all", "archived"):
            raise RefusedError(400, {"errors": {"f": "enum of …"}})
        rows = [row for row in self.cards.values() if row["archived"] is (filter_ == "archived")]
        return copy.deepcopy(sorted(rows, key=lambda row: row["name"].lower()))

    def get_card(self, reference: str) -> Json:
        return self._in_trash(self._card(reference))

    def _in_trash(self, row: Row) -> Row:
        # api/common.clj, `present-in-trash-if-archived-directly`
        shown = copy.deepcopy(row)
        if shown["archived_directly"]:
            shown["collection_id"] = TRASH
        return shown

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
        if body.get("description") is not None:
            self._not_blank(body, "description")
        if not isinstance(body.get("visualization_settings"), dict):
            raise RefusedError(400, {"errors": {"visualization_settings": "value must be a map"}})
        self._savable(body)
        # queries/models/card.clj, `create-card!`: `select-keys` over a list without entity_id, and
        # `:entity_id (u/generate-nano-id)`. What is sent is never kept.
        body = {key: one for key, one in body.items() if key not in schemas.NOT_STORED}
        number = self._next()
        self.cards[number] = {
            "id": number,
            "description": None,
            "type": "question",
            "collection_id": None,
            "parameters": [],
            **self._card_values(body, is_new=True),
            "archived": False,
            "archived_directly": False,
            "entity_id": _nano_id(),
            "creator_id": 1,
            "table_id": None,
        }
        return copy.deepcopy(self.cards[number])

    def copy_card(self, reference: str) -> Json:
        # queries_rest/api/card.clj, POST /:id/copy: 'Copy of …', everything else as it is.
        row = self._card(reference)
        kept = {key: row[key] for key in schemas.COPIED if key in row}
        return self.create_card({**kept, "name": f"Copy of {row['name']}"})

    def update_card(self, reference: str, body: Row) -> Json:
        row = self._card(reference)
        body = self._known("PUT card", body)
        self._savable(body)
        if "archived" in body and body["archived"] != row["archived"]:
            # api/common.clj, `updates-with-archived-directly`: what is archived is not moved too.
            row["archived_directly"] = bool(body["archived"])
            if body["archived"]:
                body = {key: one for key, one in body.items() if key != "collection_id"}
                # notification/card.clj, `delete-card-notifications-and-notify!`
                self._drop_notifications(row["id"])
        row.update(self._card_values(body))
        return copy.deepcopy(row)

    def _savable(self, body: Row) -> None:
        # queries_rest/api/card.clj, `CardCreateSchema` (main at 00f45661), and
        # queries/card_write_checks.clj, `check-card-can-be-saved!`: a metric is one aggregation.
        kind = body.get("type")
        if kind not in ("question", "model", "metric", None):
            raise RefusedError(400, {"errors": {"type": "enum of :question, :metric, :model"}})
        stages = (body.get("dataset_query") or {}).get("stages") or [{}]
        if kind == "metric" and len(stages[-1].get("aggregation") or ()) != 1:
            raise RefusedError(400, "Card of type metric is invalid, cannot be saved.")

    def _card_values(self, body: Row, *, is_new: bool = False) -> Row:
        values = copy.deepcopy({key: one for key, one in body.items() if key not in self.forgets})
        if values.get("collection_id") is not None:
            if values["collection_id"] == TRASH:
                raise RefusedError(400, "You cannot move something to the Trash.")
            self._existing(self.collections, values["collection_id"])
        if "dataset_query" in values:
            query = self._normal_query(values["dataset_query"])
            # queries/models/card.clj, `create-card!`: `:strict? true` makes a malformed query an
            # error; up to 0.64 it was stored as an empty one.
            if not query and is_new and self.major >= 65:
                raise RefusedError(400, {"message": "Invalid query"})
            values["dataset_query"] = query
            values["database_id"] = query.get("database")
            first = (query.get("stages") or [{}])[0]
            values["query_type"] = "native" if "native" in first else "query"
        if values.get("parameters"):
            values["parameters"] = self._normal_parameters(values["parameters"])
        return values

    def _normal_query(self, query: Json) -> Row:
        """Return a query as MBQL 5; what is neither that nor the old form becomes empty."""
        if not isinstance(query, dict):
            raise RefusedError(400, {"errors": {"dataset_query": "value must be a map"}})
        database = query.get("database")
        if database is not None and database not in self.databases:
            raise RefusedError(404, "Not found.")
        if query.get("type") == "native" and "lib/type" not in query and "stages" not in query:
            native = query.get("native") or {}
            stage = {"native": native.get("query"), "template-tags": native.get("template-tags")}
            return self._native(database, stage)
        stages = query.get("stages")
        if (
            query.get("lib/type") != "mbql/query"
            or "type" in query
            or not isinstance(stages, list)
            or len(stages) != 1
        ):
            return {}
        if stages[0].get("lib/type") == "mbql.stage/mbql":
            return self._mbql(database, stages[0])
        if stages[0].get("lib/type") != "mbql.stage/native":
            return {}
        return self._native(database, stages[0])

    def _native(self, database: int | None, stage: Row) -> Row:
        if not stage.get("native"):
            return {}
        kept: Row = {"lib/type": "mbql.stage/native", "native": stage["native"]}
        tags = stage.get("template-tags") or {}
        for name, tag in tags.items():
            # lib/schema/template_tag.cljc: a field filter is of a field that there is.
            reference = tag.get("dimension") or ["field", {}, None]
            is_filter = tag.get("type") == "dimension"
            if (
                tag.get("name") != name
                or not tag.get("id")
                or not tag.get("type")
                or (is_filter and (reference[2] not in self.fields or "widget-type" not in tag))
            ):
                raise RefusedError(
                    400, {"errors": {"dataset_query": f"invalid template tag {name}"}}
                )
        if tags:
            kept["template-tags"] = {
                name: self._known("template-tag", tag) for name, tag in tags.items()
            }
        return {"lib/type": "mbql/query", "database": database, "stages": [kept]}

    def _mbql(self, database: int | None, stage: Row) -> Row:
        """Return a query of the builder: one source, and aggregations of its columns."""
        if "source-card" in stage:
            self._existing(self.cards, stage["source-card"])
        elif "source-table" in stage:
            self._existing(self.tables, stage["source-table"])
        else:
            return {}
        for clause in stage.get("aggregation") or ():
            # lib/schema/common.cljc: each clause has options, and in them an id of its own.
            if not isinstance(clause[1], dict) or "lib/uuid" not in clause[1]:
                raise RefusedError(400, {"message": "Invalid query"})
        return {"lib/type": "mbql/query", "database": database, "stages": [copy.deepcopy(stage)]}

    def _normal_parameters(self, parameters: list[Row]) -> list[Row]:
        for one in parameters:
            if not one.get("id") or one.get("type") not in schemas.PARAMETER_TYPES:
                raise RefusedError(
                    400, {"errors": {"parameters": f"invalid parameter {one.get('id')}"}}
                )
            source = one.get("values_source_config") or {}
            if source.get("card_id") is not None:
                self._existing(self.cards, source["card_id"])
        return [self._known("parameter", one) for one in parameters]

    def run_card(self, reference: str, body: Row) -> Json:
        row = self._card(reference)
        values = {}
        for one in (body or {}).get("parameters") or []:
            values[one["target"][1][1]] = one["value"]
        return self.run_query(row["dataset_query"], values)

    def run_query(self, query: Row, values: Row | None = None) -> Json:
        """Run a query on its database, with the login that the database was given."""
        if not query:
            return _failed("Query is empty")
        database = self._existing(self.databases, query["database"])
        try:
            text = self._sql(query["stages"][0], values or {})
        except ValueError as error:
            return _failed(str(error))
        try:
            with self._connect(database["details"]) as connection:
                cursor = connection.execute(text.encode())  # type: ignore[call-overload]
                columns = [column.name for column in cursor.description or ()]
                rows = [[_shown(cell) for cell in row] for row in cursor.fetchall()]
        except psycopg.Error as error:
            return _failed(str(error).splitlines()[0])
        cols = [{"name": name, "display_name": name} for name in columns]
        return {"status": "completed", "row_count": len(rows), "data": {"rows": rows, "cols": cols}}

    def _sql(self, stage: Row, values: Row) -> str:
        if "native" in stage:
            return _filled(self._with_field_filters(stage, values), values)
        if "source-card" in stage:
            inner = self.cards[stage["source-card"]]["dataset_query"]["stages"][0]
            source = f"({self._sql(inner, {})}) AS source"
        else:
            table = self.tables[stage["source-table"]]
            source = f"{table['schema']}.{table['name']}"
        chosen = [
            f"{name}({', '.join(column[2] for column in columns) or '*'})"
            for name, _, *columns in stage.get("aggregation") or ()
        ]
        return f"SELECT {', '.join(chosen) or '*'} FROM {source}"

    def _with_field_filters(self, stage: Row, values: Row) -> str:
        """Put the condition of each field filter that has a value into the place of its tag."""
        text = str(stage["native"])
        for name, tag in (stage.get("template-tags") or {}).items():
            value = values.get(name)
            if tag["type"] != "dimension" or not value:
                continue
            column = self.fields[tag["dimension"][2]]
            table = self.tables[column["table_id"]]
            place = f'"{table["schema"]}"."{table["name"]}"."{column["name"]}"'
            condition = f"{place} BETWEEN {_day(value, 0)} AND {_day(value, 1)}"
            text = re.sub(rf"\{{\{{\s*{name}\s*\}}\}}", condition, text)
        return text

    # -- dashboards -------------------------------------------------------------------------------

    def list_dashboards(self, filter_: str) -> Json:
        # dashboards_rest/api.clj, GET /: whole rows without tiles; deprecated, and still there.
        if filter_ not in ("all", "mine", "archived"):
            raise RefusedError(400, {"errors": {"f": "enum of all, mine, archived"}})
        return [
            copy.deepcopy(
                {key: one for key, one in row.items() if key not in ("dashcards", "tabs")}
            )
            for row in self.dashboards.values()
            if row["archived"] is (filter_ == "archived")
        ]

    def get_dashboard(self, number: int) -> Json:
        return self._shown_dashboard(self._existing(self.dashboards, number))

    def _shown_dashboard(self, row: Row) -> Row:
        shown = self._in_trash(row)
        tiles = []
        for tile in shown["dashcards"]:
            card = self.cards.get(tile["card_id"] or -1)
            if card is None or not card["archived"]:
                tile["card"] = copy.deepcopy(card)
                tiles.append(tile)
        shown["dashcards"] = tiles
        return shown

    def create_dashboard(self, body: Row) -> Json:
        # dashboards_rest/api.clj, POST /: neither tiles nor tabs nor width nor caveats.
        body = self._known("POST dashboard", body)
        self._not_blank(body, "name")
        if body.get("collection_id") is not None:
            self._existing(self.collections, body["collection_id"])
        number = self._next()
        self.dashboards[number] = {
            "id": number,
            "description": None,
            "caveats": None,
            "points_of_interest": None,
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
            **body,
            "dashcards": [],
        }
        return self._shown_dashboard(self.dashboards[number])

    def copy_dashboard(self, number: int, body: Row) -> Json:
        # dashboards_rest/api.clj, POST /:from-dashboard-id/copy: name, description, parameters,
        # place and width are taken over; caveats are not.
        row = self._existing(self.dashboards, number)
        made = self.create_dashboard(
            {
                "name": body.get("name") or row["name"],
                "description": body.get("description") or row["description"],
                "parameters": row["parameters"],
                "collection_id": body.get("collection_id"),
            }
        )
        twin = self.dashboards[made["id"]]
        for tile in row["dashcards"]:
            card = tile["card_id"]
            if card is not None and body.get("is_deep_copy"):
                card = self.copy_card(str(card))["id"]
            twin["dashcards"].append(
                {
                    **copy.deepcopy(tile),
                    "id": self._next(),
                    "card_id": card,
                    "dashboard_id": twin["id"],
                }
            )
        return self._shown_dashboard(twin)

    def update_dashboard(self, number: int, body: Row) -> Json:
        row = self._existing(self.dashboards, number)
        body = self._known("PUT dashboard", body)
        # dashboards_rest/api.clj, `update-dashboard!`: `check-not-archived` looks at the dashboard
        # as it was, so tiles are refused even if the same request takes it out of the Trash.
        if "dashcards" in body and row["archived"]:
            raise RefusedError(
                404, {"message": "The object has been archived.", "error_code": "archived"}
            )
        values = copy.deepcopy(
            {k: one for k, one in body.items() if k not in ("dashcards", "tabs")}
        )
        # … and `select-keys-when`: these are not taken when they are null.
        values = {
            k: one for k, one in values.items() if one is not None or k not in schemas.NOT_NULL
        }
        if values.get("parameters"):
            values["parameters"] = self._normal_parameters(values["parameters"])
        if "width" in values and values["width"] not in ("fixed", "full"):
            raise RefusedError(400, {"errors": {"width": "enum of fixed, full"}})
        if values.get("collection_id") is not None:
            self._existing(self.collections, values["collection_id"])
        tiles = None
        # … `update-dashboard!` (main at 0085ec32): with several tabs each tile names its own.
        several = len(body.get("tabs") or ()) > 1
        if several and any(
            one.get("dashboard_tab_id") is None for one in body.get("dashcards") or ()
        ):
            raise RefusedError(400, "This dashboard has tab, makes sure every card has a tab")
        if body.get("dashcards") is not None:
            tiles = self._replaced(row, body["dashcards"])
        if "archived" in values and values["archived"] != row["archived"]:
            row["archived_directly"] = bool(values["archived"])
            if values["archived"]:
                values.pop("collection_id", None)
                # dashboards/models/dashboard.clj, `define-before-update`, and dashboards/db.clj,
                # `delete-pulses-for-dashboard!` (main): its subscriptions are gone, everybody's.
                self.pulses = {
                    one: pulse
                    for one, pulse in self.pulses.items()
                    if pulse["dashboard_id"] != number
                }
        row.update(values)
        if "tabs" in body:
            row["tabs"] = body["tabs"] or []
        if tiles is not None:
            row["dashcards"] = tiles
        if "parameters" in values:
            self._break_subscriptions(row)
        return self._shown_dashboard(row)

    def _replaced(self, row: Row, dashcards: list[Row]) -> list[Row]:
        """Return all tiles anew: those with a known id changed, negative ones made, others gone."""
        existing = {tile["id"]: tile for tile in row["dashcards"]}
        if len({one.get("id") for one in dashcards}) != len(dashcards):
            raise RefusedError(400, {"errors": {"dashcards": "value must have unique ids"}})
        result = []
        for one in dashcards:
            one = self._known("dashcard", one)
            # … `UpdatedDashboardCard` (main at 0085ec32)
            least = {"size_x": 1, "size_y": 1, "row": 0, "col": 0}
            for key in ("id", *least):
                if not isinstance(one.get(key), int) or one[key] < least.get(key, one[key]):
                    raise RefusedError(400, {"errors": {"dashcards": f"{key}: invalid integer"}})
            for mapping in one.get("parameter_mappings") or ():
                if not mapping.get("parameter_id") or not mapping.get("target"):
                    raise RefusedError(400, {"errors": {"dashcards": "parameter_mappings"}})
            if any(set(series) != {"id"} for series in one.get("series") or ()):
                raise RefusedError(400, {"errors": {"dashcards": "series: disallowed key"}})
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
        # A tile of an archived card is not shown, and not sent: it stays, unseen.
        sent = {one["id"] for one in result}
        unseen = [
            tile
            for tile in row["dashcards"]
            if tile["id"] not in sent
            and tile["card_id"] in self.cards
            and self.cards[tile["card_id"]]["archived"]
        ]
        return result + unseen

    def _break_subscriptions(self, dashboard: Row) -> None:
        # dashboards_rest/api.clj, `handle-broken-subscriptions`: one that uses a filter which is
        # gone is archived.
        known = {one["id"] for one in dashboard["parameters"]}
        for pulse in self.pulses.values():
            used = {one.get("id") for one in pulse["parameters"]}
            if pulse["dashboard_id"] == dashboard["id"] and used - known:
                pulse["archived"] = True

    # -- subscriptions and alerts -----------------------------------------------------------------

    def list_pulses(self, dashboard: int | None, *, archived: bool) -> Json:
        return [
            copy.deepcopy(row)
            for row in self.pulses.values()
            if row["archived"] is archived and dashboard in (None, row["dashboard_id"])
        ]

    def create_pulse(self, user: User, body: Row) -> Json:
        # pulse/api/pulse.clj, POST /: at least one card and one channel.
        body = self._known("POST pulse", body)
        self._not_blank(body, "name")
        for key in ("cards", "channels"):
            if not body.get(key):
                raise RefusedError(400, {"errors": {key: "value must be a non-empty array"}})
        for one in body["cards"]:
            # pulse/models/pulse.clj, `CardRef` (main at 061f1a5b)
            if not all(isinstance(one.get(key), bool) for key in ("include_csv", "include_xls")):
                raise RefusedError(400, {"errors": {"cards": "include_csv, include_xls"}})
            self._existing(self.cards, one["id"])
        if body.get("dashboard_id") is not None:
            self._existing(self.dashboards, body["dashboard_id"])
        number = self._next()
        self.pulses[number] = {
            "id": number,
            "skip_if_empty": False,
            "collection_id": None,
            "parameters": [],
            **copy.deepcopy(body),
            "channels": [self._channel(one) for one in body["channels"]],
            "archived": False,
            "creator_id": user.id,
        }
        return copy.deepcopy(self.pulses[number])

    def update_pulse(self, number: int, body: Row) -> Json:
        # … PUT /:id: skip_if_empty and archived default to false, so what leaves archived out takes
        # the subscription out of the Trash.
        row = self._existing(self.pulses, number)
        body = {"skip_if_empty": False, "archived": False, **self._known("PUT pulse", body)}
        if "channels" in body:
            body["channels"] = [self._channel(one) for one in body["channels"]]
        row.update(copy.deepcopy(body))
        return copy.deepcopy(row)

    def _channel(self, one: Row) -> Row:
        # pulse/models/pulse_channel.clj, `create-pulse-channel!` and `valid-schedule?`
        hour = one.get("schedule_hour")
        frame = one.get("schedule_frame")
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        if (
            one.get("channel_type") not in ("email", "slack", "http")
            or not isinstance(one.get("enabled"), bool)
            or one.get("schedule_type") not in ("hourly", "daily", "weekly", "monthly")
            or (one["schedule_type"] != "hourly" and hour not in range(24))
            or (one["schedule_type"] == "weekly" and one.get("schedule_day") not in days)
            or (one["schedule_type"] == "monthly" and frame not in ("first", "mid", "last"))
        ):
            raise RefusedError(500, {"message": "Assert failed: valid-schedule?"})
        # … and what is stored (main at 05abf731): the part of the schedule that its type has, and of recipients
        # their address, or the user. A recipient with neither is dropped.
        kind = one["schedule_type"]
        recipients = one.get("recipients") or []
        users = [{"id": each["id"]} for each in recipients if each.get("id")]
        emails = [each for each in recipients if not each.get("id") and each.get("email")]
        details = {key: each for key, each in (one.get("details") or {}).items() if key != "emails"}
        return {
            "id": one.get("id") or self._next(),
            "channel_type": one["channel_type"],
            "enabled": one["enabled"],
            "schedule_type": one["schedule_type"],
            "schedule_hour": None if kind == "hourly" else hour,
            "schedule_day": one.get("schedule_day") if kind in ("weekly", "monthly") else None,
            "schedule_frame": frame if kind == "monthly" else None,
            "details": copy.deepcopy(details),
            "recipients": [{"email": each["email"]} for each in emails] + users,
        }

    def list_notifications(self, card: int | None, *, inactive: bool) -> Json:
        return [
            copy.deepcopy(row)
            for row in self.notifications.values()
            if (inactive or row["active"]) and card in (None, row["payload"]["card_id"])
        ]

    def get_notification(self, number: int) -> Json:
        return copy.deepcopy(self._existing(self.notifications, number))

    def create_notification(self, user: User, body: Row) -> Json:
        number = self._next()
        self.notifications[number] = {
            "id": number,
            "creator_id": user.id,
            **self._notification(body),
        }
        return copy.deepcopy(self.notifications[number])

    def update_notification(self, number: int, body: Row) -> Json:
        # notification/models.clj, `notification-update-spec`: the card cannot be changed.
        row = self._existing(self.notifications, number)
        values = self._notification(body)
        if values["payload"]["card_id"] != row["payload"]["card_id"]:
            raise RefusedError(400, {"message": "Update payload_id is not allowed."})
        row.update(values)
        return copy.deepcopy(row)

    def _notification(self, body: Row) -> Row:
        # notification/models.clj, `::FullyHydratedNotification` and what it is made of
        def wrong(what: str) -> RefusedError:
            return RefusedError(400, {"errors": {what: "value is not valid"}})

        if body.get("payload_type") != "notification/card":
            raise wrong("payload_type")
        payload = {
            "send_condition": "has_result",
            "send_once": False,
            **(body.get("payload") or {}),
        }
        self._existing(self.cards, payload["card_id"])
        if payload["send_condition"] not in ("has_result", "goal_above", "goal_below"):
            raise wrong("send_condition")
        for one in body.get("subscriptions") or ():
            if one.get("type") != "notification-subscription/cron" or not one.get("cron_schedule"):
                raise wrong("subscriptions")
            # … `subscription-ui-display-types` (main at 00652a13)
            if one.get("ui_display_type") not in ("cron/raw", "cron/builder", None):
                raise wrong("ui_display_type")
            # util/cron.clj: seconds, minutes, hours, day of month, month, day of week, year
            if len(one["cron_schedule"].split()) not in (6, 7):
                raise wrong("cron_schedule")
        for handler in body.get("handlers") or ():
            if not str(handler.get("channel_type")).startswith("channel/"):
                raise wrong("channel_type")
            for one in handler.get("recipients") or ():
                details = one.get("details") or {}
                if one.get("type") == "notification-recipient/raw-value":
                    if "value" not in details or set(details) - {"value", "channel_id"}:
                        raise wrong("recipients")
                elif one.get("type") == "notification-recipient/user":
                    if not isinstance(one.get("user_id"), int):
                        raise wrong("recipients")
                else:
                    raise wrong("recipients")
        return copy.deepcopy(
            {
                "payload_type": body["payload_type"],
                "active": body.get("active", True),
                "payload": payload,
                "subscriptions": body.get("subscriptions") or [],
                "handlers": body.get("handlers") or [],
            }
        )

    def _drop_notifications(self, card: int) -> None:
        for number, row in list(self.notifications.items()):
            if row["payload"]["card_id"] == card:
                del self.notifications[number]

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
        self.data_graph[number] = {one: self._new_rights() for one in self.databases}
        self.collection_graph[number] = {}
        return self.get_group(number)

    def get_data_graph(self) -> Json:
        groups = {
            str(group): {
                str(number): {
                    key: right for key, right in rights.items() if _LEAST.get(key) != right
                }
                for number, rights in each.items()
            }
            for group, each in self.data_graph.items()
        }
        # … `remove-empty-vals`: a database, and a group, of which nothing is left is left out too.
        groups = {
            group: kept
            for group, each in groups.items()
            if (kept := {number: rights for number, rights in each.items() if rights})
        }
        return copy.deepcopy({"revision": self.data_revision, "groups": groups})

    def put_data_graph(self, body: Row) -> Json:
        self._graph_revision(body, lambda: self.data_revision)
        for group, each in body["groups"].items():
            if int(group) not in self.groups:
                raise RefusedError(400, "Invalid group")
            for number, rights in (each or {}).items():
                self._existing(self.databases, int(number))
                # … `validate-blocked-permissions!`
                if rights.get("view-data") == "blocked" and not self.is_enterprise:
                    raise RefusedError(402, "The blocked permissions functionality is only …")
                given = self.data_graph.setdefault(int(group), {}).setdefault(int(number), {})
                given.update(copy.deepcopy(rights))
                # … `add-implications:db-level`
                if rights.get("create-queries", "no") != "no":
                    given["view-data"] = "unrestricted"
                if rights.get("view-data") == "blocked":
                    given["create-queries"] = "no"
        self.data_revision += 1
        return self.get_data_graph()

    def get_collection_graph(self) -> Json:
        # permissions/models/collection/graph.clj, `graph`: sparse since 0.56.13: no 'none', and no
        # archived collection.
        archived = {str(number) for number, row in self.collections.items() if row["archived"]}
        groups = {
            str(group): {key: right for key, right in each.items() if key not in archived}
            for group, each in self.collection_graph.items()
        }
        return {
            "revision": self.collection_revision,
            "groups": {group: each for group, each in groups.items() if each},
        }

    def put_collection_graph(self, body: Row) -> Json:
        self._graph_revision(body, lambda: self.collection_revision)
        for group, each in body["groups"].items():
            if int(group) not in self.groups:
                raise RefusedError(400, "Invalid group")
            for key, right in each.items():
                if right not in ("read", "write", "none"):
                    raise RefusedError(400, {"errors": {"groups": "enum of write, read, none"}})
                rights = self.collection_graph.setdefault(int(group), {})
                rights.pop(key, None)
                if right != "none":
                    rights[key] = right
        self.collection_revision += 1
        return self.get_collection_graph()

    def _graph_revision(self, body: Row, current: Callable[[], int]) -> None:
        if self.before_graph:
            faster, self.before_graph = self.before_graph, None
            faster()
        # collections_rest/api.clj, `RequestPermissionsGroups` (main at 242a70a9)
        for group, each in (body.get("groups") or {}).items():
            if not all(key == "root" or key.isdigit() for key in each) or not group.isdigit():
                raise RefusedError(400, {"errors": {"groups": "an ID"}})
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

    def may_view(self, user: User, database: int | None) -> None:
        """Refuse somebody whose groups are all blocked from a database's data."""
        rights = {
            self.data_graph.get(group, {}).get(database or 0, {}).get("view-data", "blocked")
            for group in user.groups
        }
        # permissions/models/data_permissions.clj: a group that is blocked wins over All Users.
        own = [group for group in user.groups if group > ADMINISTRATORS] or [ALL_USERS]
        blocked = any(
            self.data_graph.get(group, {}).get(database or 0, {}).get("view-data") == "blocked"
            for group in own
        )
        if not user.is_superuser and (blocked or rights == {"blocked"}):
            raise RefusedError(403, "You don't have permissions to do that.")

    def may_query(self, user: User, query: Row) -> None:
        """Refuse somebody who may not write queries of their own."""
        rights = {
            self.data_graph.get(group, {}).get(query["database"], {}).get("create-queries", "no")
            for group in user.groups
        }
        native = "native" in (query.get("stages") or [{}])[0]
        enough = {"query-builder-and-native"} | (set() if native else {"query-builder"})
        if not user.is_superuser and not rights & enough:
            raise RefusedError(403, "You don't have permissions to do that.")

    # -- helpers ----------------------------------------------------------------------------------

    def _known(self, schema: str, body: Json) -> Row:
        if not isinstance(body, dict):
            raise RefusedError(400, {"errors": {"_": "value must be a map"}})
        known = schemas.KNOWN[schema]
        unknown = sorted(set(body) - known)
        if unknown and self.refuses_unknown_keys:
            raise RefusedError(400, {"errors": dict.fromkeys(unknown, "disallowed key")})
        return {key: value for key, value in body.items() if key in known}

    def _not_blank(self, body: Row, key: str) -> None:
        if not str(body.get(key) or "").strip():
            raise RefusedError(400, {"errors": {key: "value must be a non-blank string."}})

    def _existing(self, things: dict[int, Row], number: int) -> Row:
        if number not in things:
            raise RefusedError(404, "Not found.")
        return things[number]


_BASE_TYPES = {
    "bigint": "type/BigInteger",
    "integer": "type/Integer",
    "smallint": "type/Integer",
    "numeric": "type/Decimal",
    "double precision": "type/Float",
    "boolean": "type/Boolean",
    "date": "type/Date",
    "timestamp with time zone": "type/DateTimeWithLocalTZ",
    "timestamp without time zone": "type/DateTime",
}


def _nano_id() -> str:
    return "".join(secrets.choice(_NANO_ID) for _ in range(21))


def _day(value: str, end: int) -> str:
    """Return SQL for the first or last day of a period in Metabase's words.

    Raises:
        ValueError: if it is none of those that are known here.
    """
    if found := re.fullmatch(r"(\d{4}-\d\d-\d\d)~(\d{4}-\d\d-\d\d)", value):
        return f"DATE '{found[1 + end]}'"
    if found := re.fullmatch(r"past(\d+)months~", value):
        start = f"date_trunc('month', current_date) - interval '{found[1]} months'"
        return start if end == 0 else "current_date"
    # src/metabase/query_processor/parameters/dates.clj, 0.57: without ~ the current day is left out.
    if found := re.fullmatch(r"past(\d+)days(~?)", value):
        last = "current_date" if found[2] else "current_date - 1"
        return f"current_date - {found[1]}" if end == 0 else last
    raise ValueError(f"Don't know how to parse date param '{value}'")


def _filled(text: str, values: Row) -> str:
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
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: literal(match[1]), text)


def _failed(words: str) -> Row:
    return {"status": "failed", "error": words, "data": {"rows": [], "cols": []}, "row_count": 0}


def _shown(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bool | int | float | str) else str(cell)
