"""Errors that are told to the person at the terminal, and how they are told."""

from __future__ import annotations

from dataclasses import dataclass

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
        code: SQLSTATE, when the database raised it.
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


@dataclass(frozen=True)
class _Advice:
    """What to say in addition to the server's own words for one SQLSTATE."""

    hint: str


_ADVICE: dict[str, _Advice] = {
    "25P04": _Advice("The source's server took the connection and did not answer in time."),
    "42501": _Advice("`oceanrecords doctor` lists the rights that the role needs."),
    "3F000": _Advice("Install the warehouse's objects first: oceanrecords migrate"),
    "42P01": _Advice("Install the warehouse's objects first: oceanrecords migrate"),
    "42883": _Advice("Install the warehouse's routines first: oceanrecords migrate"),
    "57P01": _Advice("An administrator ended the connection; the command can be repeated."),
    "57P02": _Advice("The server stopped at once; start it, and repeat the command."),
    "53100": _Advice("Free some space for the server's data directory, and repeat the command."),
}


def from_database(error: psycopg.Error, *, context: str | None = None) -> UserError:
    """Turn a database error into a UserError with the server's message, DETAIL and HINT.

    Parameters:
        error: what psycopg raised.
        context: what was being done, put before the message ("migration 0002.engine").

    Returns:
        The error to raise.
    """
    diag = error.diag
    message = (diag.message_primary or str(error).strip() or type(error).__name__).strip()
    first_line = message.splitlines()[0]
    if context:
        first_line = f"{context}: {first_line}"
    hint = diag.message_hint
    if hint is None and diag.sqlstate in _ADVICE:
        hint = _ADVICE[diag.sqlstate].hint
    if diag.sqlstate is None and isinstance(error, psycopg.OperationalError):
        hint = hint or "The connection was lost; see `oceanrecords db status`."
    return UserError(first_line, hint, detail=diag.message_detail, code=diag.sqlstate)
