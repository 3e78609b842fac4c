"""Names and texts as SQL writes them, and the templates that files are made from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# Keywords that PostgreSQL does not take as the name of a column or table.
_KEYWORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window
with
"""
_RESERVED = frozenset(_KEYWORDS.split())


def snake(name: str) -> str:
    """Return a name in small letters, its words joined by _."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", words)
    result = re.sub(r"\W+", "_", words).strip("_").lower()
    return shorten(result if re.match(r"[^\W\d]", result) else f"c_{result}")


def shorten(name: str, limit: int = 40) -> str:
    """Return a name of at most so many bytes: the engine adds its own endings to names."""
    return name.encode()[:limit].decode(errors="ignore").rstrip("_")


def quoted(name: str) -> str:
    """Return a name as SQL writes it, in quotation marks if it needs them."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | None) -> str:
    """Return a text as SQL writes it."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def names(values: Iterable[str]) -> str:
    """Return an array of names as SQL writes it."""
    listed = list(values)
    if all(re.fullmatch(r"[\w*]+", one) for one in listed):
        return literal("{" + ",".join(listed) + "}")
    return "ARRAY[" + ", ".join(literal(one) for one in listed) + "]::name[]"


def words(name: str) -> str:
    """Return a name as the beginning of a sentence."""
    plain = re.sub(r"^(dim|fact)_", "", name).replace("_", " ")
    return plain[:1].upper() + plain[1:]


def singular(name: str) -> str:
    """Return the likely singular of an English table name."""
    for ending, instead in (
        ("ies", "y"),
        ("sses", "ss"),
        ("tuses", "tus"),
        ("ses", "se"),
        ("xes", "x"),
    ):
        if name.endswith(ending) and len(name) > len(ending) + 1:
            return name[: -len(ending)] + instead
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name[:-1]
    return name


def unique(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken: the name itself, or with a number."""
    known = set(taken)
    result, number = name, 2
    while result in known:
        result, number = f"{name}_{number}", number + 1
    return result


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # what is written is SQL, not HTML
    )
    made.filters |= {"quoted": quoted, "literal": literal, "names": names, "words": words}
    made.filters["singular"] = singular
    return made


def render(template: str, **context: Any) -> str:
    """Return the text of a template."""
    return _environment().get_template(f"{template}.j2").render(context)


def macro(name: str, *arguments: Any) -> str:
    """Return what a macro of macros.j2 writes."""
    module: Any = _environment().get_template("macros.j2").module
    return str(getattr(module, name)(*arguments))
