"""The connections from Metabase to the warehouse: made, corrected, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from base.errors import UserError
from metabase.client import ApiError, Json, wait_for
from metabase.compare import covers, differences
from metabase.walk import Change, Walk
from metabase.warehouse import Warehouse

_SYNC = "sync of "


def needs_password(change: Change) -> bool:
    """Tell whether a change writes a connection, password included."""
    return change.kind == "database" and not any(one.startswith(_SYNC) for one in change.details)


def connect(walk: Walk, warehouse: Warehouse, secret: str | None) -> int | None:
    """Bring the connection to a warehouse to the definition.

    Parameters:
        secret: password of its login, when it is known that it is needed.

    Returns:
        Its id on the server; None while it is only planned.

    Raises:
        UserError: if several are meant, or Metabase cannot use the warehouse.
    """
    wanted = _wanted(warehouse)
    found = _find(walk, wanted)
    if found is None:
        if not walk.change("create", "database", warehouse.name):
            return None
        body = {
            **wanted,
            "details": {**wanted["details"], "password": secret},
            "is_full_sync": True,
            "is_on_demand": False,
            "auto_run_queries": True,
        }
        number = int(_send(walk.client.post, "/api/database", body, warehouse)["id"])
        walk.verify_at("database", warehouse.name, f"/api/database/{number}", wanted)
        return number
    number = int(found["id"])
    changed = differences(wanted, found)
    if walk.options.reset_password:
        changed = (*changed, "details.password")
    if changed and walk.change("update", "database", warehouse.name, *changed):
        body = {**wanted, "details": {**wanted["details"], "password": secret}}
        _send(walk.client.put, f"/api/database/{number}", body, warehouse)
        walk.verify_at("database", warehouse.name, f"/api/database/{number}", wanted)
    return number


def _wanted(warehouse: Warehouse) -> dict[str, Any]:
    details: dict[str, Any] = {
        "host": warehouse.host,
        "port": warehouse.port,
        "dbname": warehouse.database,
        "user": warehouse.user,
        "tunnel-enabled": False,
        "schema-filters-type": "inclusion",
        "schema-filters-patterns": warehouse.schema,
    }
    if warehouse.ssl:
        # Metabase encrypts by itself where the server can; to leave this out demands nothing, and
        # switches nothing off.
        details["ssl"] = True
    return {"name": warehouse.name, "engine": "postgres", "details": details}


def _find(walk: Walk, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    databases = [one for one in walk.rows("/api/database") if not one.get("is_sample")]
    named = [one for one in databases if one["name"] == wanted["name"]]
    if not named:
        place = {key: wanted["details"][key] for key in ("host", "port", "dbname", "user")}
        named = [
            one
            for one in databases
            if one.get("engine") == "postgres" and covers(place, one.get("details") or {})
        ]
    walk.only_one("database", named, "Remove one of them, or name another with --database-name.")
    if not named:
        return None
    # The list is brief; the details are in the thing itself.
    found: dict[str, Any] = walk.client.get(f"/api/database/{named[0]['id']}")
    return found


def _send(
    send: Callable[[str, Json], Json], path: str, body: Mapping[str, Any], warehouse: Warehouse
) -> Json:
    try:
        return send(path, body)
    except ApiError as error:
        if error.status != 400:
            raise
        raise UserError(
            f"Metabase refuses the warehouse: it cannot use database {warehouse.database} on "
            f"{warehouse.host}:{warehouse.port} as {warehouse.user}.",
            "Name the host as Metabase sees it with --warehouse-host (in compose.yaml: "
            "warehouse), and check the password; --create-role makes the login.",
            detail=error.detail,
        ) from error


def wait_for_sync(walk: Walk, database: int, warehouse: Warehouse, views: Iterable[str]) -> None:
    """Wait until Metabase knows the views that are read; ask it to look if it does not.

    Parameters:
        views: their names, without the schema.

    Raises:
        UserError: if Metabase gave up, or takes too long.
    """
    expected = set(views)
    asked = False

    def state() -> tuple[bool, str]:
        nonlocal asked
        found = walk.client.get(f"/api/database/{database}", include="tables")
        sync = found.get("initial_sync_status")
        if sync == "aborted":
            raise UserError(
                f"Metabase gave up reading database {warehouse.name}.",
                "Its log says why; Admin, Databases, Sync starts it again.",
            )
        tables = found.get("tables") or ()
        known = {one["name"] for one in tables if one.get("schema") == warehouse.schema}
        missing = sorted(expected - known)
        if sync == "complete" and missing and not asked:
            asked = True
            if not walk.change(
                "update", "database", warehouse.name, f"{_SYNC}{', '.join(missing)}"
            ):
                return True, ""
            walk.client.post(f"/api/database/{database}/sync_schema", {})
        waits_for = f"{warehouse.schema}.{missing[0]} is not known yet" if missing else None
        return not walk.writes or (
            sync == "complete" and not missing
        ), waits_for or f"sync is {sync}"

    seconds = walk.options.wait_seconds
    wait_for(
        state,
        seconds,
        walk.client.sleep,
        lambda words: UserError(
            f"Metabase has not finished reading the warehouse after {seconds:.0f} seconds: "
            f"{words}.",
            "Repeat the command, or give it more time with --wait.",
        ),
    )
