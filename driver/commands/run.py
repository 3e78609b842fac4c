"""`oceanrecords run`: load the warehouse."""

from __future__ import annotations

import re
import signal
import threading
import time
from datetime import datetime
from typing import Annotated, Any

import psycopg
import typer

from driver import output, state
from driver.commands.options import JsonOption
from driver.connection import Target, resolve
from driver.errors import EXIT_INTERRUPTED, UserError, from_database
from driver.output import console, error_console, print_error, print_json
from driver.progress import Progress, padded
from driver.run import Interrupted, Outcome
from driver.run import run as work

EXAMPLES = (
    "Examples: oceanrecords run --workers 2 · oceanrecords run --only dim_product · "
    "oceanrecords run --full-refresh dim_product · oceanrecords run --every 1m"
)
_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


def run(
    context: typer.Context,
    objects: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OBJECT]...", help="With --full-refresh: what to rebuild."),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", "-w", min=1, max=64, help="Connections that share the tasks."),
    ] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="TASK", help="Just this task or object; may be repeated."),
    ] = None,
    full_refresh: Annotated[
        bool,
        typer.Option(
            "--full-refresh", help="Rebuild the objects named, or everything. Surrogate keys stay."
        ),
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="Again and again, such as 30s, 1m or 1h."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the warehouse up to date with the operational system.

    Takes up a run that was interrupted. Exit status: 0 all well, 3 partial (some tasks failed),
    1 failed, 130 interrupted.
    """
    if objects and not full_refresh:
        raise UserError(
            f"'{objects[0]}' is one word too many.",
            f"Run one task with --only {objects[0]}, rebuild it with --full-refresh {objects[0]}.",
            exit_code=2,
        )
    refresh = (objects or ["all"]) if full_refresh else None
    interval = _interval(every) if every is not None else None
    if interval is not None and (only or refresh):
        raise UserError("--every goes with neither --only nor --full-refresh.", exit_code=2)
    target = resolve(state.of(context).dsn)
    signal.signal(signal.SIGTERM, _interrupt)
    if interval is not None:
        _repeat(target, workers, interval, as_json=as_json)
        return
    outcome = _once(target, workers, only, refresh, brief=False, as_json=as_json)
    if as_json:
        print_json(_answer(outcome))
    else:
        _render(outcome)
    raise typer.Exit(outcome.exit_code)


def _once(
    target: Target,
    workers: int,
    only: list[str] | None,
    refresh: list[str] | None,
    *,
    brief: bool,
    as_json: bool,
) -> Outcome:
    """Do one run with its progress shown, on standard error when the answer is JSON."""
    shown_on = error_console if as_json else console
    try:
        with Progress(shown_on, brief=brief) as progress:
            return work(
                target,
                workers=workers,
                only=only,
                full_refresh=refresh,
                on_start=progress.start,
                on_event=progress.tell,
            )
    except Interrupted as stopped:
        print_error(
            UserError(
                f"Run {stopped.run_id} was interrupted.",
                "What it has finished stays; `oceanrecords run` goes on from there.",
            )
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _repeat(target: Target, workers: int, interval: float, *, as_json: bool) -> None:
    """Run at a steady pace until told to stop; a failed round does not end it."""
    while True:
        due = time.monotonic() + interval
        try:
            outcome = _once(target, workers, None, None, brief=True, as_json=as_json)
            if as_json:
                print_json(_answer(outcome))
            else:
                console.print(f"[quiet]{datetime.now():%H:%M:%S}[/] ", end="")
                _render(outcome)
        except UserError as error:
            print_error(error)
        except psycopg.Error as error:
            print_error(from_database(error))
        threading.Event().wait(max(0.0, due - time.monotonic()))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _interval(text: str) -> float:
    """Return a time such as '90s', '1m' or '2 hours' in seconds.

    Raises:
        UserError: if it cannot be read, or is less than a second.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    unit = _UNITS.get(match[2]) or _UNITS.get(match[2].removesuffix("s")) if match else None
    if match is None or unit is None or float(match[1]) * unit < 1:
        raise UserError(
            f"--every {text} is not a time.", "Write 30s, 1m, '5 minutes' or 1h.", exit_code=2
        )
    return float(match[1]) * unit


def _answer(outcome: Outcome) -> dict[str, Any]:
    return {**outcome.run, "task_runs": outcome.tasks}


def _render(outcome: Outcome) -> None:
    one = outcome.run
    skipped = [task for task in outcome.tasks if task["status"] == "skipped"]
    for task in skipped:
        console.print(
            f"[warn]-[/] {padded(task['object'])}[quiet]skipped: {task['message']}[/]",
            soft_wrap=True,
        )
    style = {"succeeded": "ok", "partial": "warn"}.get(outcome.status, "bad")
    parts = [f"{one['tasks']} tasks"]
    if one["failed"]:
        parts.append(f"{one['failed']} failed")
    parts.append(f"{one['rows_written']:,} rows written" if one["rows_written"] else "nothing new")
    if one["rows_queued"]:
        parts.append(f"{one['rows_queued']:,} queued")
    parts.append(output.seconds(one["seconds"]))
    console.print(f"[{style}]●[/] Run {one['run_id']} {outcome.status}: {', '.join(parts)}")
    if outcome.status != "succeeded":
        console.print("  [quiet]oceanrecords status tells more; the next run tries again[/]")
