"""Runs a file of SQL, and points at the line that failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg

from base.errors import UserError, from_database

_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
    r"|(\$(?:[A-Za-z_]\w*)?\$).*?\1|;",
    re.DOTALL,
)
_COMMENTS = re.compile(r"(?:\s|--[^\n]*|/\*.*?\*/)*", re.DOTALL)


def run(connection: psycopg.Connection, path: Path) -> None:
    """Execute the statements of a file, in the transaction that is open.

    Raises:
        UserError: naming the file and the line.
    """
    text = path.read_text(encoding="utf-8")
    for start, statement in statements(text):
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            raise _located(error, path, text, start) from error


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the statements of a text with their offsets, split at semicolons outside quotes.

    A text with a BEGIN ATOMIC, whose semicolons end no statement, is one.
    """
    start = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";" and "begin atomic" not in text.lower():
            yield start, text[start : token.end()]
            start = token.end()
    if _TOKEN.sub(lambda found: "" if found[0][:2] in ("--", "/*") else "x", text[start:]).strip():
        yield start, text[start:]


def _located(error: psycopg.Error, path: Path, text: str, start: int) -> UserError:
    """Return a database error with its place in a file."""
    # Where the server gives no position, that of the statement's first word.
    rest = _COMMENTS.match(text, start)
    offset = rest.end() if rest else start
    if error.diag.statement_position:
        offset = start + int(error.diag.statement_position) - 1
    line = text.count("\n", 0, offset) + 1
    found = from_database(error, context=f"{path.name}, line {line}")
    if error.diag.context and not found.detail:
        found.detail = error.diag.context.splitlines()[0]
    return found
