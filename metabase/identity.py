"""How the things that this tool makes on a server are known again.

Metabase gives every question and dashboard an id of its own, so each carries a mark where the API
keeps it and no reader sees it: a question in its visualization settings, a dashboard in its
caveats, a subscription in the details of its channel. A collection has no such place: its
description ends in the mark.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "metabase.oceanrecords")
_MARKER = re.compile(r"\[oceanrecords:(?P<kind>[a-z]+):(?P<key>[a-z0-9_.]+)\]")

CARD_MARK = "oceanrecords.key"
CHANNEL_MARK = "oceanrecords"


def question_key(dashboard: str, question: str) -> str:
    """Return the key by which a server knows a question: that of its dashboard, and its own."""
    return f"{dashboard}.{question}"


def card_key(card: Mapping[str, Any]) -> str | None:
    """Return the key in the mark of a question, or None when it has none."""
    found = (card.get("visualization_settings") or {}).get(CARD_MARK)
    return found if isinstance(found, str) else None


def tag_id(question: str, tag: str) -> str:
    """Return the id of a question's template tag, a UUID that stays the same."""
    return str(uuid.uuid5(_NAMESPACE, f"{question}/{tag}"))


def clause_id(card: str, clause: str) -> str:
    """Return the id of a clause of a query, a UUID that stays the same."""
    return str(uuid.uuid5(_NAMESPACE, f"clause/{card}/{clause}"))


def parameter_id(filter_key: str) -> str:
    """Return the id of a dashboard's filter: eight hexadecimal digits, as Metabase makes them."""
    return uuid.uuid5(_NAMESPACE, f"filter/{filter_key}").hex[:8]


def mark(kind: str, key: str) -> str:
    """Return the mark of a thing as text."""
    return f"[oceanrecords:{kind}:{key}]"


def marked(description: str, kind: str, key: str) -> str:
    """Return a description with the mark by which the thing is known again."""
    return f"{description}\n\n{mark(kind, key)}"


def marker(text: str | None, kind: str) -> str | None:
    """Return the key in the mark of a text, or None when there is none of that kind."""
    for match in _MARKER.finditer(text or ""):
        if match["kind"] == kind:
            return match["key"]
    return None


def unmarked(description: str | None) -> str:
    """Return a description without its mark."""
    return _MARKER.sub("", description or "").strip()
