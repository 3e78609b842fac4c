"""How answers look: one console for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from driver.errors import UserError

_THEME = Theme(
    {
        "ok": "green",
        "warn": "yellow",
        "bad": "red",
        "busy": "cyan",
        "quiet": "dim",
        "title": "bold",
        "name": "bold",
    }
)

# What goes into a file or a pipe is not cut to the width of a terminal that is not there.
_WIDTH_WITHOUT_TERMINAL = 200


def _console(*, stderr: bool) -> Console:
    return Console(
        theme=_THEME,
        highlight=False,
        stderr=stderr,
        width=None if _has_terminal() else _WIDTH_WITHOUT_TERMINAL,
    )


def _has_terminal() -> bool:
    """Tell whether anybody looks: `… | less` has a terminal still, a cron job has none."""
    return bool(os.environ.get("COLUMNS")) or any(os.isatty(number) for number in range(3))


console = _console(stderr=False)
error_console = _console(stderr=True)

Answer = TypeVar("Answer")

_STATUS_STYLE = {
    "succeeded": "ok",
    "ok": "ok",
    "applied": "ok",
    "running": "busy",
    "live": "busy",
    "partial": "warn",
    "warning": "warn",
    "pending": "quiet",
    "skipped": "warn",
    "interrupted": "warn",
    "failed": "bad",
    "stopped": "quiet",
}


def emit(data: Answer, *, as_json: bool, render: Callable[[Answer], None]) -> None:
    """Answer a command.

    Parameters:
        data: the answer, made of dicts, lists and scalars.
        as_json: print it as JSON on standard output.
        render: otherwise called with the data, to show it to a person.
    """
    if as_json:
        print_json(data)
    else:
        render(data)


def print_json(data: Any) -> None:
    """Print data as JSON: moments in ISO 8601, durations in seconds."""
    console.file.write(json.dumps(data, default=_json_value, indent=2, ensure_ascii=False) + "\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def table(
    *columns: str, title: str | None = None, right: Sequence[str] = (), wrap: Sequence[str] = ()
) -> Table:
    """Return an empty table in the house's style.

    Parameters:
        columns: the headings.
        title: a line above, left-aligned.
        right: the headings whose columns hold numbers.
        wrap: the headings whose columns may take several lines; others are cut if space is scarce.
    """
    result = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="title",
        header_style="quiet",
        border_style="quiet",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        numeric = column in right
        result.add_column(
            column, justify="right" if numeric else "left", no_wrap=column not in wrap
        )
    return result


def status(word: str | None) -> Text:
    """Return a status word in its colour."""
    return Text(word or "", style=_STATUS_STYLE.get(word or "", ""))


def mark(word: str) -> Text:
    """Return a status as one sign in its colour."""
    sign = {"succeeded": "✓", "failed": "✗", "running": "…", "skipped": "-", "pending": "·"}
    return Text(sign.get(word, "?"), style=_STATUS_STYLE.get(word, ""))


def number(value: int | Decimal | None, *, zero: str = "·") -> str:
    """Return a count with thousands separated; zero is quiet, NULL is empty."""
    if value is None:
        return ""
    return f"{value:,}" if value else zero


def seconds(value: float | Decimal | timedelta | None) -> str:
    """Return a duration for people: '12 ms', '3.4 s', '5 min 02 s', '3 h 05 min', '12 d 4 h'.

    Parameters:
        value: seconds, or a timedelta.
    """
    if value is None:
        return ""
    total = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if total < 0:
        return f"-{seconds(-total)}"
    if total < 1:
        return f"{total * 1000:.0f} ms"
    if total < 60:
        return f"{total:.1f} s"
    whole = round(total)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(value: datetime | None) -> str:
    """Return a moment in the local time zone: '14:03:22' today, '2026-03-01 14:03' before."""
    if value is None:
        return ""
    local = value.astimezone()
    if local.date() == datetime.now().astimezone().date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%Y-%m-%d %H:%M")


def print_error(error: UserError) -> None:
    """Print an error on standard error: the sentence, then detail, hint and code, dimmed."""
    sentence = Text("error ", style="bold red")
    sentence.append(error.message, style="default not bold")
    error_console.print(sentence, soft_wrap=True)
    for label, text in (("detail", error.detail), ("hint", error.hint)):
        if text:
            error_console.print(Text(f"{label:<7}{text}", style="quiet"), soft_wrap=True)
    if error.code:
        error_console.print(Text(f"code   {error.code}", style="quiet"), soft_wrap=True)
