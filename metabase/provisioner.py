"""Brings a Metabase server to the definition, and tells beforehand what that would change.

Planning and provisioning are the same walk over the server: each thing is looked up, compared with
the definition, and written only if it differs; a plan stops short of the writing. What was written
is read back and compared, for servers drop keys that they do not know and answer 200 all the same.
Each step can be repeated: an interrupted run is mended by the next one.

`metabase.identity` says how things are known again; the steps are in `databases`, `metadata`,
`dashboards`, `cards`, `delivery`, `permissions` and `analysis`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from base.errors import UserError
from metabase import (
    analysis,
    dashboards,
    databases,
    delivery,
    metadata,
    payload,
    permissions,
)
from metabase.client import OLDEST_VERSION, Client, Credentials, major_version, spoken
from metabase.definition import Dashboard
from metabase.walk import Change, Options, Report, Walk
from metabase.warehouse import CatalogColumn, Warehouse, relations

__all__ = ["Change", "Options", "Provisioner", "Report", "new_password"]

_TRACKING = "anon-tracking-enabled"


class Provisioner:
    """Plans and provisions.

    Parameters:
        credentials: who it is; on a fresh server its first administrator.
        warehouse: how Metabase reaches the warehouse.
        password: returns the password of the warehouse's login when a connection has to be written.
        catalog: what the warehouse's catalog says of the columns that the login sees.
        analysts: the part for analysts; None leaves it out.
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
        catalog: Sequence[CatalogColumn] = (),
        analysts: analysis.Analysts | None = None,
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._dashboard = dashboard
        self._warehouse = warehouse
        self._password = password or _no_password
        self._options = options or Options()
        self._progress = progress
        self._catalog = catalog
        self._analysts = analysts
        self._secrets: dict[str, str] = {}
        self._report = Report(client.url)

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
        # Ask for passwords before anything is written, not halfway.
        written = {change.name for change in plan.changes if databases.needs_password(change)}
        if self._warehouse.name in written:
            self._secrets[self._warehouse.name] = self._password()
        if self._analysts and self._analysts.warehouse.name in written:
            self._secrets[self._analysts.warehouse.name] = self._analysts.password()
        return self._walk(writes=True)

    def check(self) -> dict[str, int | str]:
        """Run every question, model and metric on the server.

        Returns:
            The number of rows by key of the question, or the error in words.
        """
        result: dict[str, int | str] = {}
        for known, number in self._report.ids.items():
            kind, _, key = known.partition("/")
            if kind not in ("question", "model", "metric"):
                continue
            answer = self._client.post(f"/api/card/{number}/query", {})
            name = key if kind == "question" else known
            if answer.get("status") == "completed":
                result[name] = len((answer.get("data") or {}).get("rows", ()))
            else:
                result[name] = spoken(answer) or "it did not complete"
        self._report.checked = result
        return result

    # -- the walk ---------------------------------------------------------------------------------

    def _walk(self, *, writes: bool) -> Report:
        walk = Walk(self._client, self._options, writes=writes, progress=self._progress)
        self._report = walk.report
        self._server(walk)
        orders = None
        if self._analysts:
            secret = self._secrets.get(self._analysts.warehouse.name)
            orders = analysis.bring(walk, self._analysts, self._dashboard.currency, secret)
        self._business(walk, orders)
        return walk.report

    def _business(self, walk: Walk, orders: int | None) -> None:
        definition, warehouse = self._dashboard, self._warehouse
        database = databases.connect(walk, warehouse, self._secrets.get(warehouse.name))
        if database is not None:
            walk.known("database", database)
            views = {*relations(definition), payload.PERIOD_TABLE}
            databases.wait_for_sync(walk, database, warehouse, views)
            metadata.describe(walk, database, warehouse.schema, self._catalog, definition.currency)
        collection = dashboards.collection(walk, definition.collection)
        if collection is not None:
            walk.known("collection", collection)
        period = None
        if database is not None and definition.period:
            table, column = payload.PERIOD_TABLE, payload.PERIOD_COLUMN
            period = metadata.field_id(walk, database, warehouse.schema, table, column)
        number, numbers = dashboards.content(
            walk, definition, database, collection, period=period, orders=orders
        )
        if number is not None:
            walk.known("dashboard", number)
        permissions.settle(walk, permissions.Grant(definition.group), database, collection)
        delivery.deliver(walk, definition, number, numbers)

    # -- server -----------------------------------------------------------------------------------

    def _server(self, walk: Walk) -> None:
        self._client.wait_until_ready(self._options.wait_seconds)
        properties = self._client.properties()
        self._check_version(walk, properties)
        token = properties.get("setup-token")
        walk.is_fresh = bool(token) and not properties.get("has-user-setup")
        if walk.is_fresh:
            self._set_up(walk, str(token))
            self._stop_tracking(walk, properties)
        if walk.is_fresh:
            return
        user = self._client.get("/api/user/current")
        if not user.get("is_superuser"):
            raise UserError(
                f"{user.get('email') or 'This key'} is no administrator of Metabase.",
                "Use a key of the group Administrators, or an administrator's account.",
            )
        # An administrator gets more properties than an anonymous client.
        properties = self._client.get("/api/session/properties")
        if walk.report.version is None:
            self._check_version(walk, properties)
        if self._is_ours_half_set_up(walk, properties):
            self._stop_tracking(walk, properties)

    def _check_version(self, walk: Walk, properties: Mapping[str, Any]) -> None:
        tag = (properties.get("version") or {}).get("tag")
        walk.report.version = tag
        major = major_version(tag)
        if major is not None and major < OLDEST_VERSION:
            raise UserError(
                f"Metabase at {self._client.url} is {tag}, which is too old.",
                f"Version 0.{OLDEST_VERSION} or newer is needed; compose.yaml names one.",
            )

    def _set_up(self, walk: Walk, token: str) -> None:
        credentials = self._credentials
        if not credentials.user or not credentials.password:
            raise UserError(
                f"Metabase at {self._client.url} is fresh: it has no user and no key yet.",
                "Set METABASE_USER and METABASE_PASSWORD; they become its first administrator.",
            )
        if not walk.change("create", "server", f"first administrator {credentials.user}"):
            return
        body = {
            "token": token,
            "user": {
                "email": credentials.user,
                "password": credentials.password,
                "first_name": None,
                "last_name": None,
            },
            "prefs": {"site_name": self._options.site_name},
        }
        answer = self._client.anonymous().post("/api/setup", body)
        self._client.use_session(answer["id"])
        walk.is_fresh = False

    def _stop_tracking(self, walk: Walk, properties: Mapping[str, Any]) -> None:
        """Turn anonymous tracking off, which Metabase's setup turns on whatever is asked."""
        if walk.writes:
            properties = self._client.properties()
        if properties.get(_TRACKING) is False:
            return
        if walk.change("update", "server", "anonymous tracking", "off"):
            self._client.put(f"/api/setting/{_TRACKING}", {"value": False})
            stored = self._client.properties()
            walk.verify("server", "settings", () if not stored.get(_TRACKING) else (_TRACKING,))

    def _is_ours_half_set_up(self, walk: Walk, properties: Mapping[str, Any]) -> bool:
        """Tell whether a run of this tool was interrupted right after the setup."""
        return (
            properties.get("site-name") == self._options.site_name
            and properties.get(_TRACKING) is True
            and not any(not one.get("is_sample") for one in walk.rows("/api/database"))
        )


def _no_password() -> str:
    raise UserError(
        "The password of the warehouse's login is needed, and is not given.",
        "Set METABASE_WAREHOUSE_PASSWORD, or name a file with --warehouse-password-file.",
    )


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(24)
