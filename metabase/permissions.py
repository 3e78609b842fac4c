"""Groups, and what they may see and do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from base.errors import UserError
from metabase.client import ApiError
from metabase.compare import differences
from metabase.walk import Walk

_CONFLICT = 409
_ATTEMPTS = 5
NO_QUERIES = "no"
QUERY_BUILDER = "query-builder"


@dataclass(frozen=True)
class Grant:
    """What a group is for.

    Attributes:
        group: its name.
        queries: what it may do with the database of its own: NO_QUERIES or QUERY_BUILDER.
    """

    group: str
    queries: str = NO_QUERIES


def group(walk: Walk, name: str) -> int | None:
    """Return the id of a group, which is made if it is not there; None while it is only planned.

    Raises:
        UserError: if several have the name.
    """
    groups = walk.rows("/api/permissions/group")
    named = [one for one in groups if one["name"].casefold() == name.casefold()]
    walk.only_one("group", named, "Rename one of them.")
    if named:
        return int(named[0]["id"])
    if not walk.change("create", "group", name):
        return None
    number = int(walk.client.post("/api/permissions/group", {"name": name})["id"])
    found = walk.client.get(f"/api/permissions/group/{number}")
    walk.verify("group", name, differences({"name": name}, found))
    return number


def settle(walk: Walk, grant: Grant, database: int | None, collection: int | None) -> None:
    """Give a group what it needs, and take away the rest.

    Parameters:
        database: id of its connection to the warehouse.
        collection: id of its collection.

    Raises:
        UserError: if the server does not keep what was written, or is changed all the time.
    """
    number = group(walk, grant.group)
    if number is not None:
        walk.known("group" if grant.queries == NO_QUERIES else "group/analysts", number)
    everybody = _everybody(walk)
    _data(walk, grant, number, everybody, database)
    _collections(walk, grant, number, everybody, collection)


def _everybody(walk: Walk) -> int | None:
    """Return the id of the group of which everybody is a member."""
    for one in walk.rows("/api/permissions/group"):
        if one.get("magic_group_type") == "all-internal-users" or one["name"] == "All Users":
            return int(one["id"])
    return None


def _data(
    walk: Walk, grant: Grant, own: int | None, everybody: int | None, database: int | None
) -> None:
    """See the results of questions, and query no more than is meant, on every database.

    Everybody is a member of All Users as well, so that group loses the warehouse's queries too.
    """

    def missing(graph: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
        groups = graph.get("groups", {})
        result: dict[str, dict[str, dict[str, str]]] = {}
        if database is None:
            return result
        for one in (own, everybody):
            if one is None:
                continue
            rights = groups.get(str(one)) or {}
            mine = {str(database)} if one == everybody else {str(database), *rights}
            for number in sorted(mine, key=int):
                given = rights.get(number) or {}
                is_own = one == own and number == str(database)
                queries = grant.queries if is_own else NO_QUERIES
                wanted = {}
                if given.get("create-queries", NO_QUERIES) != queries:
                    wanted["create-queries"] = queries
                # The Enterprise edition leaves out what is blocked.
                if is_own and given.get("view-data", "blocked") == "blocked":
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

    _write(walk, "/api/permissions/graph", f"data of '{grant.group}'", own, missing, merged)


def _collections(
    walk: Walk, grant: Grant, own: int | None, everybody: int | None, collection: int | None
) -> None:
    """Let only the group read its collection, and no other."""

    def missing(graph: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        groups = graph.get("groups", {})
        result: dict[str, dict[str, str]] = {}
        if collection is None:
            return result
        mine = str(collection)
        if own is not None:
            rights = groups.get(str(own)) or {}
            wanted = {key: "none" for key, right in rights.items() if right != "none"}
            wanted.pop(mine, None)
            if rights.get(mine) != "read":
                wanted[mine] = "read"
            if wanted:
                result[str(own)] = wanted
        if everybody is not None:
            rights = groups.get(str(everybody)) or {}
            if rights.get(mine, "none") != "none":
                result[str(everybody)] = {mine: "none"}
            others = [key for key, right in rights.items() if right != "none" and key != mine]
            if others:
                places = "the root collection" if "root" in others else "other collections"
                walk.warn(
                    f"Members of '{grant.group}' are in the group All Users as well, which may "
                    f"use {places}; this tool leaves what it did not make alone."
                )
        return result

    def merged(_graph: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
        return dict(wanted)

    _write(walk, "/api/collection/graph", f"collections of '{grant.group}'", own, missing, merged)


def _write(
    walk: Walk,
    path: str,
    title: str,
    own: int | None,
    missing: Callable[[Mapping[str, Any]], dict[str, Any]],
    merged: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
) -> None:
    """Write what a permission graph lacks; repeat after a concurrent change."""
    if own is None:
        walk.change("create", "permissions", title)
        return
    recorded = False
    for _ in range(_ATTEMPTS):
        graph = walk.client.get(path)
        wanted = missing(graph)
        if not wanted:
            return
        if not recorded:
            recorded = True
            details = tuple(
                f"{'All Users' if one != str(own) else 'group'}: {key}={right}"
                for one, rights in wanted.items()
                for key, right in _named_rights(rights)
            )
            if not walk.change("update", "permissions", title, *details):
                return
        try:
            body = {"revision": graph.get("revision"), "groups": merged(graph, wanted)}
            walk.client.put(path, body)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            continue
        left = missing(walk.client.get(path))
        walk.verify("permissions", title, tuple(left))
        return
    raise UserError(
        "Somebody else keeps changing the permissions in Metabase at the same time.",
        "Repeat the command when they have finished.",
    )


def _named_rights(rights: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, right in rights.items():
        if isinstance(right, Mapping):
            for inner, value in right.items():
                yield f"database {key} {inner}", str(value)
        else:
            yield f"collection {key}", str(right)
