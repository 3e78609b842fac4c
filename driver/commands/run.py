"""`oceanrecords run`: extract what has changed, and load it."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

import psycopg
import typer

from base import output, state
from base.connection import Target, connect_to, resolve
from base.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError, from_database
from base.mode import mode
from base.options import ExcludeOption, JsonOption, complete_task, duration
from base.output import console, error_console, print_error, print_json
from driver import project
from driver.live import RunView, summary
from driver.run import Interrupted, Outcome, Sessions
from driver.run import run as work
from driver.selection import Catalog
from driver.warehouse import Task

EXAMPLES = (
    "Examples: oceanrecords run --workers 2 · oceanrecords run --only +dim_product · "
    "oceanrecords run --full-refresh dim_product · oceanrecords run --every 1m"
)
_LONGEST_PAUSE = 7 * 86400
_STYLES = {"succeeded": "ok", "partial": "warn"}


def run(
    context: typer.Context,
    objects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SELECTOR]...",
            help="With --full-refresh: what to recompute.",
            autocompletion=complete_task,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", "-w", min=1, max=64, help="Connections that share the tasks."),
    ] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            "--select",
            "-s",
            metavar="SELECTOR",
            help="Only these tasks or objects: dim_product, +fact_order, tag:finance (see `ls`); "
            "may be repeated.",
            autocompletion=complete_task,
        ),
    ] = None,
    exclude: ExcludeOption = None,
    full_refresh: Annotated[
        bool,
        typer.Option(
            "--full-refresh",
            help="Recompute the objects named, or everything. Surrogate keys stay.",
        ),
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="Repeat at this interval: 30s, 1m, 1h."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the warehouse up to date with the operational system.

    Resumes a run that was interrupted. With --json, each task that starts or ends is a line of
    JSON, and the last line is the run. Exit status: 0 succeeded, 3 partial (a task failed or rows
    went to quarantine), 1 failed, 130 interrupted.
    """
    if objects and not full_refresh:
        raise UserError(
            f'The argument "{objects[0]}" goes with --full-refresh only.',
            f"Run one object with --only {objects[0]}, or recompute it with --full-refresh "
            f"{objects[0]}.",
            exit_code=EXIT_USAGE,
        )
    interval = duration("--every", every, 1, _LONGEST_PAUSE) if every is not None else None
    if interval is not None and (only or exclude or full_refresh):
        raise UserError(
            "--every goes with neither --only, --exclude nor --full-refresh.",
            exit_code=EXIT_USAGE,
        )
    mode.lines = as_json
    target = resolve(state.of(context).dsn)
    signal.signal(signal.SIGTERM, _interrupt)
    if state.of(context).project:
        with connect_to(target) as connection:
            project.expect(state.of(context).project, connection)
    if interval is not None:
        _repeat(target, workers, interval, as_json=as_json)
        return
    names, refresh = _names(target, only or [], exclude or [], objects or [], full_refresh)
    outcome = _once(target, workers, names, refresh, brief=False, as_json=as_json)
    _answer(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


def _names(
    target: Target, only: list[str], exclude: list[str], objects: list[str], full_refresh: bool
) -> tuple[list[str] | None, list[str] | None]:
    """Return what the run is confined to, and what it recomputes; None means everything."""
    refresh = ["all"] if full_refresh else None
    if not only and not exclude and objects in ([], ["all"]):
        return None, refresh
    with connect_to(target) as connection:
        catalog = Catalog.read(connection)
    if objects and objects != ["all"]:
        # What cannot be recomputed is refused by the engine where it was named by itself.
        if exclude or not all(one in catalog.objects for one in objects):
            refresh = catalog.select(objects, exclude)
        else:
            refresh = objects
        exclude = []
    return catalog.names_for_a_run(only, exclude), refresh


def _once(
    target: Target,
    workers: int,
    only: list[str] | None,
    refresh: list[str] | None,
    *,
    brief: bool,
    as_json: bool,
    sessions: Sessions | None = None,
) -> Outcome:
    """Do one run, and show it while it works."""
    do = partial(work, target, workers=workers, only=only, full_refresh=refresh, sessions=sessions)
    try:
        if as_json:
            return do(follow=_print_changes)
        with RunView(console, brief=brief) as view:
            return do(follow=view.follow)
    except Interrupted as stopped:
        print_error(
            UserError(
                f"Run {stopped.run_id} was interrupted.",
                "Finished tasks stay. To resume the run: oceanrecords run",
                EXIT_INTERRUPTED,
            )
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_changes(run_id: int, changed: list[Task], _tasks: list[Task]) -> None:
    """Print each change of a task as a line of JSON."""
    for task in changed:
        print_json({"event": "task", **asdict(task), "run_id": run_id}, as_line=True)


def _repeat(target: Target, workers: int, interval: timedelta, *, as_json: bool) -> None:
    """Run at a steady pace until interrupted; a failed run does not end it.

    The connections stay open from one run to the next.
    """
    with Sessions(target, workers) as sessions:
        while True:
            due = time.monotonic() + interval.total_seconds()
            try:
                outcome = _once(
                    target, workers, None, None, brief=True, as_json=as_json, sessions=sessions
                )
                if not as_json:
                    console.say("[quiet]{}[/] ", f"{datetime.now():%H:%M:%S}", end="")
                _answer(outcome, as_json=as_json)
            except UserError as error:
                print_error(error)
            except psycopg.Error as error:
                print_error(from_database(error))
            threading.Event().wait(max(0.0, due - time.monotonic()))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _answer(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"event": "run", **asdict(outcome.run)}
        print_json({**document, "task_runs": [asdict(task) for task in outcome.tasks]})
        return
    one = outcome.run
    style = _STYLES.get(outcome.status, "bad")
    # --quiet does not hide a run that did not succeed.
    shown_on = error_console if mode.quiet and outcome.status != "succeeded" else console
    shown_on.say(f"[{style}]●[/] Run {{}} {{}}: {{}}", one.run_id, outcome.status, summary(one))
    if one.rows_quarantined:
        objects = sorted({task.object for task in outcome.tasks if task.rows_quarantined})
        shown_on.say(
            "  [warn]{} could not be loaded:[/] [quiet]oceanrecords quarantine{}[/]",
            output.plural(one.rows_quarantined, "row"),
            f" {objects[0]}" if len(objects) == 1 else "",
        )
    if outcome.status != "succeeded":
        shown_on.print("  [quiet]See: oceanrecords status. The next run retries.[/]")
