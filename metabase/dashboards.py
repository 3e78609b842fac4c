"""Collection and dashboard on the server: found, made, corrected, taken out of the Trash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metabase import cards, identity, payload
from metabase.compare import differences
from metabase.definition import Collection, Dashboard
from metabase.walk import Action, Walk


def content(
    walk: Walk,
    definition: Dashboard,
    database: int | None,
    collection_id: int | None,
    prefix: str = "",
    period: int | None = None,
    orders: int | None = None,
) -> tuple[int | None, dict[str, int]]:
    """Bring a dashboard and all its questions to the definition.

    Parameters:
        database: id of the connection that its questions are asked on.
        collection_id: its collection on the server.
        prefix: what the keys of its questions begin with in the report.
        period: id of the column on the server that the period is a filter of.
        orders: id of the dashboard with the orders behind the figures; None for none.

    Returns:
        The dashboard's id on the server, None while it is only planned; and the ids of the
        questions by key.

    Raises:
        UserError: if two things might be meant, or the server does not keep what was written.
    """
    found = find(walk, definition, collection_id)
    visible = shown(found)
    numbers: dict[str, int] = {}
    for question in definition.questions.values():
        key = identity.question_key(definition.key, question.key)
        wanted = payload.card(definition, question, database, collection_id, period)
        number = cards.bring(walk, "question", key, wanted, visible)
        if number is not None:
            numbers[question.key] = walk.known(f"question/{prefix}{question.key}", number)
    if found is not None:
        # Tiles of questions that were in the Trash are seen again.
        found = get(walk, int(found["id"]))
    result = bring(walk, definition, collection_id, found, numbers, orders)
    defined = {identity.question_key(definition.key, one) for one in definition.questions}
    cards.orphans(walk, definition.key, defined, visible)
    return result, numbers


def collection(walk: Walk, definition: Collection) -> int | None:
    """Bring a collection to the definition.

    Returns:
        Its id on the server; None while it is only planned.

    Raises:
        UserError: if several are meant, or one of the name was made otherwise.
    """
    wanted = {
        "name": definition.name,
        "description": identity.marked(definition.description, "collection", definition.key),
    }
    return walk.bring("collection", "/api/collection", _find_collection(walk, definition), wanted)


def _find_collection(walk: Walk, definition: Collection) -> dict[str, Any] | None:
    live = walk.rows("/api/collection")
    archived = walk.rows("/api/collection", archived="true")
    ours = [
        one
        for one in (*live, *archived)
        if isinstance(one.get("id"), int)
        and identity.marker(one.get("description"), "collection") == definition.key
    ]
    ours = list({one["id"]: one for one in ours}.values())
    walk.only_one("collection", ours, "Archive or rename one, and take the mark out of it.")
    if ours:
        found: dict[str, Any] = walk.client.get(f"/api/collection/{ours[0]['id']}")
        return found
    strangers = [
        one
        for one in live
        if isinstance(one.get("id"), int)
        and one["name"] == definition.name
        and one.get("location", "/") == "/"
        and not one.get("personal_owner_id")
    ]
    return walk.adopted("collection", strangers, "/api/collection")


def find(walk: Walk, definition: Dashboard, collection_id: int | None) -> dict[str, Any] | None:
    """Return the dashboard, wherever it is, archived or not; None when there is none.

    Parameters:
        collection_id: its collection on the server, in which a namesake would be in the way.

    Raises:
        UserError: if several are meant, or one of the name was made otherwise.
    """
    live = walk.rows("/api/dashboard", f="all")
    ours = [
        one
        for one in (*live, *walk.rows("/api/dashboard", f="archived"))
        # Metabase makes a dashboard without caveats: until the second request the mark is in the
        # description.
        if definition.key
        in (
            identity.marker(one.get("caveats"), "dashboard"),
            identity.marker(one.get("description"), "dashboard"),
        )
    ]
    if len(ours) > 1:
        # A person may have archived a copy.
        ours = [one for one in ours if not one.get("archived")] or ours
    walk.only_one("dashboard", ours, "Archive one of them.")
    if ours:
        return get(walk, int(ours[0]["id"]))
    strangers = [
        one
        for one in live
        if one["name"] == definition.name
        and collection_id is not None
        and one.get("collection_id") == collection_id
    ]
    return walk.adopted("dashboard", strangers, "/api/dashboard")


def get(walk: Walk, number: int) -> dict[str, Any]:
    """Return a dashboard with its tiles."""
    found: dict[str, Any] = walk.client.get(f"/api/dashboard/{number}")
    return found


def shown(found: Mapping[str, Any] | None) -> set[int]:
    """Return the ids of the cards that a dashboard shows."""
    tiles = (found or {}).get("dashcards") or ()
    return {tile["card_id"] for tile in tiles if tile.get("card_id") is not None}


def bring(
    walk: Walk,
    definition: Dashboard,
    collection_id: int | None,
    found: dict[str, Any] | None,
    numbers: Mapping[str, int],
    orders: int | None,
) -> int | None:
    """Bring the dashboard to the definition, with all its tiles.

    Parameters:
        collection_id: its collection on the server.
        found: the dashboard as it is now, or None.
        numbers: id on the server by key of the question.
        orders: id of the dashboard with the orders behind the figures.

    Returns:
        Its id on the server; None while it is only planned.

    Raises:
        UserError: if the server does not keep what was written.
    """
    name = definition.name
    wanted: dict[str, Any] = {
        "name": name,
        "description": definition.description,
        "caveats": identity.mark("dashboard", definition.key),
        "collection_id": collection_id,
        "archived": False,
        "width": "full",
        "parameters": payload.parameters(definition, numbers),
    }
    if found is None:
        if not walk.change("create", "dashboard", name):
            return None
        first = {
            "name": name,
            "description": identity.marked(definition.description, "dashboard", definition.key),
            "collection_id": collection_id,
        }
        found = walk.client.post("/api/dashboard", first)
        changed: tuple[str, ...] = ("dashcards",)
    else:
        changed = (
            *differences(wanted, found),
            *_tile_differences(definition, found, numbers, orders),
        )
        action: Action = "restore" if found.get("archived") else "update"
        if changed and not walk.change(action, "dashboard", name, *changed):
            changed = ()
    assert found is not None
    number = int(found["id"])
    if not changed:
        return number
    if found.get("archived"):
        # Metabase takes no tiles for a dashboard that is in the Trash when the request comes.
        path = f"/api/dashboard/{number}"
        walk.client.put(path, {"archived": False, "collection_id": collection_id})
        found = get(walk, number)
    body = {**wanted, "dashcards": _tiles(definition, found, numbers, orders), "tabs": []}
    walk.client.put(f"/api/dashboard/{number}", body)
    stored = get(walk, number)
    kept = (*differences(wanted, stored), *_tile_differences(definition, stored, numbers, orders))
    walk.verify("dashboard", name, kept)
    return number


def _tiles(
    definition: Dashboard,
    found: Mapping[str, Any],
    numbers: Mapping[str, int],
    orders: int | None,
) -> list[dict[str, Any]]:
    """Return all tiles as wanted, with the ids of those that are there."""
    existing: dict[int, int] = {}
    for tile in found.get("dashcards") or ():
        if tile.get("card_id") is not None:
            existing.setdefault(tile["card_id"], tile["id"])
    result = []
    for number, (question, position) in enumerate(definition.tiles, start=1):
        card = numbers.get(question.key)
        tile_id = existing.get(card, -number) if card is not None else -number
        result.append(payload.dashcard(definition, question, position, card, tile_id, orders))
    return result


def _tile_differences(
    definition: Dashboard,
    found: Mapping[str, Any],
    numbers: Mapping[str, int],
    orders: int | None,
) -> tuple[str, ...]:
    stored = {tile["id"]: tile for tile in found.get("dashcards") or ()}
    result = []
    tiles = _tiles(definition, found, numbers, orders)
    for tile, (question, _) in zip(tiles, definition.tiles, strict=True):
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
