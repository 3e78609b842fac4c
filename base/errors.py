"""Errors that are shown to the person at the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command that touches no database does without
    import psycopg

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """A failure that a person can understand and act upon.

    The command line prints it as one sentence, with detail and hint dimmed below, and exits.

    Parameters:
        message: one sentence that names the object and says what is wrong.
        hint: the way out.
        exit_code: exit status of the program.
        detail: the offending value, or the server's own words.
        code: SQLSTATE, when the database raised it or would have.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        exit_code: int = EXIT_ERROR,
        *,
        detail: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.detail = detail
        self.code = code

    def as_dict(self) -> dict[str, str | None]:
        """Return the error for programs; where there is no SQLSTATE, the code is a word."""
        return {
            "code": self.code or _WORDS.get(self.exit_code, "error"),
            "message": self.message,
            "detail": self.detail,
            "hint": self.hint,
        }


_WORDS = {EXIT_USAGE: "usage", EXIT_INTERRUPTED: "interrupted"}
UNKNOWN_NAME = "ET002"
_FEW = 20  # so many names are listed


# Hints for errors of the server that come without one, by SQLSTATE.
_HINTS = {
    "25006": "Another server is the primary, or default_transaction_read_only is on.",
    "25P04": "The source server accepted the connection and did not answer in time.",
    "42501": "`oceanrecords doctor` lists the privileges that the role needs.",
    "57P01": "An administrator ended the connection; the command can be repeated.",
    "57P02": "The server was stopped immediately; start it, and repeat the command.",
    "HV00D": "Options are those of libpq's connection strings and of postgres_fdw.",
    "53100": "Free some space for the server's data directory, and repeat the command.",
}


# Schemas that the driver's own statements name; a missing object of another schema is the user's.
_OURS = re.compile(r"\b(etl|kpi|dwh|stage|work|delta|source|analysis|audit|oceanrecords)\b")


def _is_not_installed(error: psycopg.Error) -> bool:
    """Return whether the driver's statement missed a schema or object of the warehouse."""
    diag = error.diag
    return (
        diag.sqlstate in ("3F000", "42P01", "42883")
        and not diag.context
        and _OURS.search(diag.message_primary or "") is not None
    )


def not_installed(detail: str | None = None, code: str | None = "3F000") -> UserError:
    """Return the error for a database without the warehouse, the same for every command."""
    return UserError(
        "The warehouse is not installed in this database, or is older than this program.",
        "Install it, or bring it up to date: oceanrecords migrate",
        detail=detail or 'schema "etl" does not exist',
        code=code,
    )


def unknown(what: str, name: str, known: Iterable[str], *, lists: str = "") -> UserError:
    """Return the error for a name that does not exist, with the names that may have been meant.

    Parameters:
        what: what the name should be of, such as 'object'.
        known: the names that exist.
        lists: command that lists them.
    """
    names = sorted(set(known))
    close = hint = did_you_mean(name, names)
    if not names:
        hint = "There are none yet."
    elif not close and len(names) <= _FEW:
        hint = f"There are: {', '.join(names)}."
    if lists and (not hint or close):
        hint = f"{hint} `{lists}` lists all.".strip()
    return UserError(
        f'{what[:1].upper()}{what[1:]} "{name}" does not exist.', hint or None, code=UNKNOWN_NAME
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the names that resemble one, or have a part that does; or ''."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.6) or [
        one for one in names if get_close_matches(name, re.split("[_:]", one), n=1, cutoff=0.75)
    ]
    return f"Did you mean {' or '.join(close[:3])}?" if close else ""


def from_database(error: psycopg.Error, *, context: str | None = None) -> UserError:
    """Turn a database error into a UserError with the server's message, DETAIL and HINT.

    Parameters:
        context: the operation, put before the message ("migration 0002.engine").

    Returns:
        The error to raise.
    """
    diag = error.diag
    if context is None and _is_not_installed(error):
        return not_installed(diag.message_primary, diag.sqlstate)
    message = (diag.message_primary or str(error).strip() or type(error).__name__).strip()
    first_line = message.splitlines()[0]
    if context:
        first_line = f"{context}: {first_line}"
    hint = diag.message_hint or _HINTS.get(diag.sqlstate or "")
    if diag.sqlstate is None and type(error).__name__ == "OperationalError":
        hint = hint or "The connection was lost; see `oceanrecords db status`."
    return UserError(first_line, hint, detail=diag.message_detail, code=diag.sqlstate)
