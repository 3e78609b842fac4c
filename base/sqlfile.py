"""Runs a file of SQL, and points at the line that failed."""

from __future__ import annotations

from pathlib import Path

import psycopg

from base.errors import UserError, from_database


def run(connection: psycopg.Connection, path: Path) -> None:
    """Send a whole file to the server as one command, in the transaction that is open.

    Parameters:
        connection: where to run it.
        path: the file.

    Raises:
        UserError: naming the file and, if the server reports it, the line.
    """
    text = path.read_text(encoding="utf-8")
    try:
        connection.execute(text.encode("utf-8"))
    except psycopg.Error as error:
        raise located(error, path, text, 0) from error


def located(error: psycopg.Error, path: Path, text: str, start: int) -> UserError:
    """Return a database error with its place in a file.

    Parameters:
        error: what psycopg raised.
        path: the file.
        text: the file's text.
        start: offset in the text of the statement that failed, in characters.
    """
    position = error.diag.statement_position
    offset = start + int(position) - 1 if position else start
    line = text.count("\n", 0, offset) + 1
    place = f"{path.name}, line {line}" if position or start else path.name
    found = from_database(error, context=place)
    if error.diag.context and not found.detail:
        found.detail = error.diag.context.splitlines()[0]
    return found
