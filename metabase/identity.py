"""How the things that this tool makes on a server are known again."""

from __future__ import annotations

import hashlib
import re
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "metabase.oceanrecords")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 21
_MARKER = re.compile(r"\[oceanrecords:(?P<kind>[a-z]+):(?P<key>[a-z0-9_.]+)\]")


def entity_id(kind: str, key: str) -> str:
    """Return the entity id of a thing: the same on every server and in every run.

    Metabase wants 21 characters of a NanoID's alphabet; `-` and `_` are left out, so that no tool
    takes one for an option.

    Parameters:
        kind: 'question'.
        key: its key, which stays when its name changes.
    """
    number = int.from_bytes(hashlib.sha256(f"oceanrecords/{kind}/{key}".encode()).digest(), "big")
    characters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)


def question_key(dashboard: str, question: str) -> str:
    """Return the key by which a server knows a question: that of its dashboard, and its own."""
    return f"{dashboard}.{question}"


def tag_id(question: str, tag: str) -> str:
    """Return the id of a question's template tag, a UUID that stays the same."""
    return str(uuid.uuid5(_NAMESPACE, f"{question}/{tag}"))


def parameter_id(filter_key: str) -> str:
    """Return the id of a dashboard's filter: eight hexadecimal digits, as Metabase makes them."""
    return uuid.uuid5(_NAMESPACE, f"filter/{filter_key}").hex[:8]


def marked(description: str, kind: str, key: str) -> str:
    """Return a description with the mark by which the thing is known again."""
    return f"{description}\n\n[oceanrecords:{kind}:{key}]"


def marker(description: str | None, kind: str) -> str | None:
    """Return the key in the mark of a description, or None when there is none of that kind."""
    for match in _MARKER.finditer(description or ""):
        if match["kind"] == kind:
            return match["key"]
    return None


def unmarked(description: str | None) -> str:
    """Return a description without its mark."""
    return _MARKER.sub("", description or "").strip()
