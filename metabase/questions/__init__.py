"""The SQL of the questions: Metabase's template language, and how to run it without Metabase.

A question's SQL has plain variables, `{{country}}`, and optional clauses, `[[AND country =
{{country}}]]`, which fall away when one of their variables has no value. `compile` turns such SQL
and values into a statement with psycopg's parameters: values never become part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*")
_DOLLAR_QUOTE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$")


class TemplateError(ValueError):
    """The SQL of a question cannot be read as a template.

    Parameters:
        message: what is wrong.
        line: line of the SQL, from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Tag:
    """A variable, `{{name}}`."""

    name: str


@dataclass(frozen=True)
class Optional:
    """A clause in double brackets, which falls away when one of its tags has no value."""

    parts: tuple[str | Tag, ...]


Part = str | Tag | Optional


def parse(sql: str) -> tuple[Part, ...]:
    """Split SQL into text, tags and optional clauses.

    Quoted text and comments are taken as they are. A tag inside of them is refused, for Metabase
    would replace it there too, and the two would differ.

    Raises:
        TemplateError: if a bracket or brace is left open, nested, or stands in quotes or a comment.
    """
    parts: list[Part] = []
    clause: list[str | Tag] | None = None
    clause_at = 0
    position = 0
    for piece, at in _pieces(sql):
        line = sql.count("\n", 0, at) + 1
        position = at + len(piece)
        if piece == "[[":
            if clause is not None:
                raise TemplateError("an optional clause [[ … ]] stands inside another one", line)
            clause, clause_at = [], line
        elif piece == "]]":
            if clause is None:
                raise TemplateError("]] closes an optional clause that was not opened", line)
            if not any(isinstance(part, Tag) for part in clause):
                raise TemplateError("the optional clause [[ … ]] has no {{variable}}", line)
            parts.append(Optional(tuple(clause)))
            clause = None
        elif piece.startswith("{{"):
            match = _NAME.fullmatch(piece[2:-2])
            if match is None:
                raise TemplateError(f"{piece} is not a plain variable", line)
            (parts if clause is None else clause).append(Tag(match.group(1)))
        else:
            (parts if clause is None else clause).append(piece)
    assert position == len(sql)
    if clause is not None:
        raise TemplateError("the optional clause [[ is not closed", clause_at)
    return tuple(parts)


def _pieces(sql: str) -> Iterator[tuple[str, int]]:
    """Yield runs of plain text, `[[`, `]]` and whole `{{…}}`, each with its offset."""
    start = index = 0
    while index < len(sql):
        two = sql[index : index + 2]
        end = _end_of_literal(sql, index)
        if end is not None:
            literal = sql[index:end]
            if "{{" in literal:
                line = sql.count("\n", 0, index + literal.index("{{")) + 1
                raise TemplateError("a {{variable}} stands in quotes or in a comment", line)
            index = end
            continue
        if two in ("[[", "]]", "{{"):
            if start < index:
                yield sql[start:index], start
            if two == "{{":
                close = sql.find("}}", index)
                if close < 0:
                    raise TemplateError("{{ is not closed", sql.count("\n", 0, index) + 1)
                yield sql[index : close + 2], index
                index = close + 2
            else:
                yield two, index
                index += 2
            start = index
            continue
        index += 1
    if start < len(sql):
        yield sql[start:], start


def _end_of_literal(sql: str, index: int) -> int | None:
    """Return where the quoted text or comment that begins here ends, or None if none begins."""
    rest = len(sql)
    character = sql[index]
    if character in "'\"":
        # E'…' strings may escape a quote with a backslash.
        escapes = character == "'" and index > 0 and sql[index - 1] in "eE"
        at = index + 1
        while at < rest:
            if escapes and sql[at] == "\\":
                at += 2
            elif sql[at] != character:
                at += 1
            elif sql[at + 1 : at + 2] == character:
                at += 2
            else:
                return at + 1
        return rest
    if sql.startswith("--", index):
        end = sql.find("\n", index)
        return rest if end < 0 else end
    if sql.startswith("/*", index):
        end = sql.find("*/", index + 2)
        return rest if end < 0 else end + 2
    if character == "$":
        quote = _DOLLAR_QUOTE.match(sql, index)
        if quote is not None:
            end = sql.find(quote.group(), quote.end())
            return rest if end < 0 else end + len(quote.group())
    return None


def tags(sql: str) -> tuple[str, ...]:
    """Return the names of the variables of a question, each once, in the order of the text.

    Raises:
        TemplateError: see `parse`.
    """
    return tuple(dict.fromkeys(_names(parse(sql))))


def required_tags(sql: str) -> tuple[str, ...]:
    """Return the names of the variables that stand outside of optional clauses."""
    outside = [part for part in parse(sql) if not isinstance(part, Optional)]
    return tuple(dict.fromkeys(_names(outside)))


def _names(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Tag):
            yield part.name
        elif isinstance(part, Optional):
            yield from _names(part.parts)


def compile(sql: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Turn a question's SQL into a statement for psycopg.

    Parameters:
        values: value of each variable; None, an empty text and an empty list mean 'not given'. A
            list fills a place such as `IN ({{country}})` with several values.

    Returns:
        The statement, with `%(name)s` where values belong and every other per cent sign doubled,
        and its
        parameters: `connection.execute(*compile(sql, values))`.

    Raises:
        TemplateError: if the SQL cannot be read.
        KeyError: if a variable outside of an optional clause has no value.
    """
    parameters: dict[str, Any] = {}
    text: list[str] = []

    def render(parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Optional):
                if all(_given(values.get(name)) for name in _names(part.parts)):
                    render(part.parts)
            elif isinstance(part, Tag):
                text.append(_place(part.name, values, parameters))
            else:
                text.append(part.replace("%", "%%"))

    render(parse(sql))
    return "".join(text), parameters


def _place(name: str, values: Mapping[str, Any], parameters: dict[str, Any]) -> str:
    value = values.get(name)
    if not _given(value):
        raise KeyError(name)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        parameters[name] = value
        return f"%({name})s"
    places = []
    for number, one in enumerate(value):
        parameters[f"{name}__{number}"] = one
        places.append(f"%({name}__{number})s")
    return ", ".join(places)


def _given(value: object) -> bool:
    return value is not None and value != "" and value != [] and value != ()
