"""Questions, models and metrics on the server: found by their marks, made, corrected, archived."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from base.errors import UserError
from metabase import identity
from metabase.compare import covers
from metabase.walk import Walk

CardKind = Literal["question", "model", "metric"]


def bring(
    walk: Walk,
    kind: CardKind,
    key: str,
    wanted: Mapping[str, Any],
    shown: Collection[int] = (),
) -> int | None:
    """Bring one card to the definition.

    Parameters:
        key: the key in its mark.
        wanted: the card, with its mark.
        shown: ids of the cards that the dashboard shows.

    Returns:
        Its id on the server; None while it is only planned.

    Raises:
        UserError: if another card of the name was made otherwise, or the server does not keep what
            was written.
    """
    return walk.bring(kind, "/api/card", _find(walk, kind, key, wanted, shown), wanted)


def _find(
    walk: Walk,
    kind: CardKind,
    key: str,
    wanted: Mapping[str, Any],
    shown: Collection[int],
) -> dict[str, Any] | None:
    """Return the card of a key, wherever it is, archived or not."""
    marked = [one for one in walk.cards() if identity.card_key(one) == key]
    if marked:
        return _whole(walk, _original(marked, shown))
    unmarked = [one for one in walk.cards() if identity.card_key(one) is None]
    # Whoever replaces all settings of a question takes its mark away. It is ours all the same when
    # two of three are as defined: that the dashboard shows it, its name, and its query.
    ours = [
        one
        for one in unmarked
        if (one["id"] in shown) + (one["name"] == wanted["name"]) + _same_query(one, wanted) >= 2
    ]
    if len(ours) == 1:
        return _whole(walk, ours[0])
    namesakes = [
        one
        for one in unmarked
        if not one.get("archived")
        and one["name"] == wanted["name"]
        and one.get("collection_id") == wanted["collection_id"]
        and wanted["collection_id"] is not None
    ]
    if not namesakes:
        return None
    if len(namesakes) == 1 and walk.options.adopt:
        return _whole(walk, namesakes[0])
    raise UserError(
        f"The {kind} {key.split('.', 1)[1]} would be made as '{wanted['name']}', but the "
        f"collection has another one of that name (id {namesakes[0]['id']}).",
        f"Rename or archive the other one in Metabase, rename the {kind} here, or add --adopt to "
        "take it over.",
    )


def _whole(walk: Walk, row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = walk.client.get(f"/api/card/{row['id']}")
    return found


def _original(marked: list[dict[str, Any]], shown: Collection[int]) -> dict[str, Any]:
    """Return the one that is ours: a copy has the mark too, and belongs to who made it.

    It is the one that the dashboard shows; otherwise the oldest, for a copy comes later.
    """
    pool = [one for one in marked if one["id"] in shown] or marked
    return min(pool, key=lambda one: int(one["id"]))


def _same_query(card: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return bool(card.get("dataset_query")) and covers(
        wanted["dataset_query"], card["dataset_query"]
    )


def orphans(walk: Walk, prefix: str, defined: Collection[str], shown: Collection[int] = ()) -> None:
    """Name the cards that the definition no longer has; archive them when that is asked for.

    Parameters:
        prefix: what the keys of this definition begin with.
        defined: the keys that it has.
        shown: ids of the cards that the dashboard showed.
    """
    by_key: dict[str, list[dict[str, Any]]] = {}
    for one in walk.cards():
        key = identity.card_key(one)
        if key is not None and key.startswith(f"{prefix}.") and key not in defined:
            by_key.setdefault(key, []).append(one)
    for marked in by_key.values():
        one = _original(marked, shown)
        if one.get("archived"):
            continue
        if not walk.options.prune:
            walk.warn(
                f"Question '{one['name']}' (id {one['id']}) was made by this tool and is no "
                "longer in the definition; --prune archives it."
            )
        elif walk.change("archive", "question", one["name"]):
            path = f"/api/card/{one['id']}"
            walk.client.put(path, {"archived": True})
            walk.verify_at("question", one["name"], path, {"archived": True})
