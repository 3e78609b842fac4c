"""Options that several commands share, and what the shell completes them with."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from base.errors import EXIT_USAGE, UserError

MOST_ROWS = 100_000
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0,
          "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}  # fmt: skip


def file_or_folder(text: str) -> Path:
    """Read the name of a file or folder; an empty one would mean the current folder.

    Raises:
        UserError: if it is empty.
    """
    if not text.strip():
        raise UserError("The name of a file or folder must not be empty.", exit_code=EXIT_USAGE)
    return Path(text)


def duration(option: str, text: str, least: float, most: float) -> timedelta:
    """Read a time such as 500ms, 2s, '5 minutes', 8h or 1d.

    Parameters:
        option: what it was given for.
        least, most: limits, in seconds.

    Raises:
        UserError: if it cannot be read, or is outside the limits.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d+)?)\s*([a-z]+?)\s*", text.lower())
    unit = _UNITS.get(match[2]) or _UNITS.get(match[2].removesuffix("s")) if match else None
    seconds = float(match[1]) * unit if match and unit else -1.0
    if not least <= seconds <= most:
        raise UserError(
            f'{option} cannot be "{text}".',
            f"Write 30s, 1m, '5 minutes' or 1h; from {least:g} s to {most / 86400:g} days.",
            EXIT_USAGE,
        )
    return timedelta(seconds=seconds)


def _names(query: str) -> Callable[[typer.Context, str], list[str]]:
    """Return a completion that offers the names of a query; none if the warehouse is out of reach.

    A shell asks at each press of a key: it waits a second at most, and never sees an error.
    """

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        import contextlib
        import os

        from base import state
        from base.connection import connect

        found: list[Any] = []
        os.environ.setdefault("PGCONNECT_TIMEOUT", "1")
        start = incomplete.lstrip("+0123456789")
        with contextlib.suppress(Exception), connect(_dsn(context, state)) as connection:
            connection.execute("SET statement_timeout = '2s'")
            found = connection.execute(query.encode()).fetchall()
        prefix = incomplete[: len(incomplete) - len(start)]
        return [f"{prefix}{row[0]}" for row in found if str(row[0]).startswith(start)]

    return complete


def _dsn(context: typer.Context, state: Any) -> str | None:
    """Return what --dsn says; the root command has not run while a shell completes."""
    given = state.of(context).dsn
    root = context.find_root()
    return given if given is not None else root.params.get("dsn")


complete_object = _names("SELECT object FROM etl.object_status ORDER BY position, object")
complete_fact = _names("SELECT fact FROM etl.fact ORDER BY fact")
complete_task = _names(
    "SELECT object FROM etl.object_status UNION SELECT task FROM etl.task "
    "UNION SELECT 'tag:' || tag FROM etl.object_tag ORDER BY 1"
)
complete_check = _names("SELECT check_name FROM etl.quality_check ORDER BY check_name")
complete_kpi = _names(
    "SELECT relname FROM pg_catalog.pg_class WHERE relkind IN ('v', 'm') "
    "AND relnamespace = to_regnamespace('kpi') ORDER BY relname"
)
complete_setting = _names("SELECT name FROM etl.setting ORDER BY name")
complete_trace = _names("SELECT kind FROM etl.trace_kind ORDER BY kind")

JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, errors too.")]
FailOption = Annotated[
    bool | None,
    typer.Option(
        "--fail/--no-fail",
        help="Exit with 1 if the warehouse is stale, a task or a check failed, or rows have "
        "waited too long.",
    ),
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=MOST_ROWS, help="Rows of a table to show.")
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="SELECTOR",
        help="Leave this out; may be repeated.",
        autocompletion=complete_task,
    ),
]
