"""Compares what was sent to a server with what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that are not as wanted, the nested ones as 'key.inner'.

    A server adds keys of its own; these do not count, except in visualization settings, which are
    kept word for word, so that an addition there was made by hand.

    Parameters:
        wanted: what was or would be sent.
        found: what the server answers.
    """
    result = []
    for key, value in wanted.items():
        have = found.get(key)
        if key == "visualization_settings":
            if _plain(value) != _plain(have or {}):
                result.append(key)
        elif not covers(value, have):
            inner = _first_difference(value, have)
            result.append(f"{key}.{inner}" if inner else key)
    return tuple(result)


def covers(wanted: Any, found: Any) -> bool:
    """Tell whether all that is wanted is there; what is empty may as well be absent."""
    if isinstance(wanted, Mapping):
        if not wanted:
            return not found
        # The id of a clause means nothing, and a server may give another one.
        return isinstance(found, Mapping) and all(
            covers(value, found.get(key)) for key, value in wanted.items() if key != "lib/uuid"
        )
    if _is_list(wanted):
        if not wanted:
            return not found
        return (
            _is_list(found)
            and len(found) == len(wanted)
            and all(covers(one, other) for one, other in zip(wanted, found, strict=True))
        )
    if wanted is None or wanted is False:
        return not found
    return bool(wanted == found)


def _first_difference(wanted: Any, found: Any) -> str | None:
    """Return where in a nested value the first difference is."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            if not covers(value, found.get(key)):
                inner = _first_difference(value, found.get(key))
                return f"{key}.{inner}" if inner else str(key)
    if _is_list(wanted) and _is_list(found) and len(wanted) == len(found):
        for one, other in zip(wanted, found, strict=True):
            if not covers(one, other):
                return _first_difference(one, other)
    return None


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plain(value: Any) -> Any:
    """Return a value without the keys that hold null, which servers drop or add at will."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if _is_list(value):
        return [_plain(inner) for inner in value]
    return value
