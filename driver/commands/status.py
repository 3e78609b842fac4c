"""`oceanrecords status`: runs, tasks, watermarks, queue, quarantine and health."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import EXIT_ERROR, EXIT_USAGE, UserError
from base.options import FailOption, JsonOption
from base.output import console, duration, emit
from driver.commands import quarantine, queue
from driver.rows import rows_table
from driver.warehouse import (
    Failing,
    Health,
    Problem,
    Quarantined,
    Queued,
    Run,
    Task,
    Watermark,
    by_kind,
    fetch,
    latest_runs,
    rows,
    tasks_of,
)

EXAMPLES = (
    "Examples: oceanrecords status · oceanrecords status --watch · oceanrecords status --fail"
)
_VERDICTS = {"ok": ("✓", "ok"), "warning": ("!", "warn"), "failed": ("✗", "bad")}


def status(
    context: typer.Context,
    runs: Annotated[
        int, typer.Option("--runs", min=1, max=1000, help="How many runs to show.")
    ] = 5,
    show_all: Annotated[
        bool, typer.Option("--all", help="Every task and watermark, also those without change.")
    ] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Full screen, updated until Ctrl-C.")
    ] = False,
    fail: FailOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last runs, the tasks of the latest, watermarks, queue, quarantine and health.

    Exit status 0; with --fail 1 if the warehouse has a problem.
    """
    if watching:
        _watch(context, as_json=as_json)
        return
    with connect(state.of(context).dsn) as connection:
        shown = latest_runs(connection, runs)
        answer = {
            "runs": shown,
            "tasks": tasks_of(connection, shown[0].run_id if shown else None),
            "failing": fetch(connection, Failing, "ORDER BY failed_at DESC"),
            "watermarks": fetch(connection, Watermark),
            "queue": fetch(connection, Queued, "ORDER BY fact, dimension"),
            "quarantine": fetch(connection, Quarantined, "ORDER BY object"),
            "schema_drift": rows(connection, "SELECT * FROM etl.schema_drift"),
            "health": fetch(connection, Health, "ORDER BY position, object"),
            "problems": fetch(connection, Problem, "ORDER BY kind, object"),
        }
    emit(answer, as_json=as_json, render=lambda data: _render(data, show_all))
    if fail and answer["problems"]:
        raise typer.Exit(EXIT_ERROR)


def _watch(context: typer.Context, *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        raise UserError(
            "--watch needs a terminal, and shows no JSON.",
            "To print the status once, run: oceanrecords status",
            EXIT_USAGE,
        )
    from driver.live import watch  # the status by itself does not need it

    signal.signal(signal.SIGTERM, _interrupt)
    with (
        connect(state.of(context).dsn, application_name="oceanrecords watch") as connection,
        contextlib.suppress(KeyboardInterrupt),
    ):
        watch(connection, console)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _render(answer: dict[str, Any], show_all: bool) -> None:
    if not answer["runs"]:
        console.print("Nothing has been loaded yet.")
        console.print("[quiet]To load the warehouse:[/] oceanrecords run")
        return
    tasks: list[Task] = answer["tasks"]
    console.print(_runs_table(answer["runs"]))
    for run in answer["runs"]:
        if run.compared_because:
            line = Text(f"  run {run.run_id}: ", style="dim")
            line.append(f"{run.compared_because}: all tables are compared with their mirrors")
            console.print(line, soft_wrap=True)
    console.print()
    console.print(tasks_table(answer["runs"][0].run_id, tasks, show_all))
    for task in tasks:
        if task.waits_for or (task.status in ("failed", "skipped") and task.message):
            render_fault(task)
    shown = {task.task for task in tasks if task.status == "failed"}
    earlier = [one for one in answer["failing"] if one.task not in shown]
    if earlier:
        console.print()
        console.print("[title]Failed in earlier runs, not loaded since[/]")
        for one in earlier:
            render_fault(one)
    console.print()
    console.print(_watermark_table(answer["watermarks"], show_all))
    console.print()
    if answer["queue"]:
        console.print(queue.summary_table(answer["queue"]))
    else:
        console.print("[title]Reprocessing queue[/]  [quiet]empty[/]")
    if answer["quarantine"]:
        console.print()
        console.print(quarantine.summary_table(answer["quarantine"]))
    if answer["schema_drift"]:
        console.print()
        console.print("[title]Schema drift[/]")
        console.print(rows_table(answer["schema_drift"]))
    console.print()
    console.print("[title]Health[/]")
    for one in answer["health"]:
        console.print(_health_line(one), soft_wrap=True)


def _health_line(one: Health) -> Text:
    sign, style = _VERDICTS[one.status]
    line = Text(f"{sign} ", style=style)
    line.append(f"{one.topic:<16}", style="default")
    about = f"{one.object}: " if one.object else ""
    line.append(output.visible(f"{about}{one.message}"), style="default")
    return line.append(f"  {one.remedy}" if one.remedy else "", style="dim")


def render_fault(task: Task | Failing) -> None:
    """Print why a task failed, was skipped or waits, with detail and hint."""
    line = Text(f"  {output.one_line(task.object)}: ", style="dim")
    if isinstance(task, Task):
        line.append(f"{task.status}: ", style="not dim")
        if task.waits_for:
            line.append(f"waits for a lock. {output.one_line(task.waits_for)}", style="not dim")
    else:
        line.append(f"run {task.run_id}: ", style="not dim")
    line.append(task.message or "", style="not dim")
    if task.sqlstate:
        line.append(f"  {task.sqlstate}")
    if task.attempts > 1:
        line.append(f"  tried {task.attempts} times")
    console.print(line, soft_wrap=True)
    for label, text in (("detail", task.detail), ("hint", task.hint)):
        if text:
            console.print(Text(f"    {label}: {text}", style="dim"), soft_wrap=True)


def _runs_table(runs: Sequence[Run]) -> output.Table:
    table = output.table(
        "run", "status", "started", "took", "tasks", "failed", "rows", "queued", "quarantined",
        "by", title="Runs", wrap=("by",), spare=("started", "by"),
        right=("run", "tasks"), quiet=("by",),
    )  # fmt: skip
    for run in runs:
        table.add_row(
            str(run.run_id), output.status(run.status), run.started_at, duration(run.seconds),
            f"{run.succeeded}/{run.tasks}", run.failed, run.rows_written, run.rows_queued,
            run.rows_quarantined, run.scope,
        )  # fmt: skip
    return table


def tasks_table(run_id: int, tasks: Sequence[Task], show_all: bool) -> output.Table | Text:
    """Return the tasks of a run; those of a kind without change share a line."""
    title = f"Tasks of run {run_id}"
    if not tasks:
        return output.said("[title]{}[/]  [quiet]nothing new[/]", title)
    table = output.table(
        "kind", "object", "", "took", "read", "new", "changed", "deleted", "queued", "quarantined",
        title=title, spare=("took", "kind"), quiet=("kind",),
    )  # fmt: skip
    for kind, group in by_kind(tasks):
        shown = [task for task in group if show_all or not task.is_idle]
        label = kind
        for task in shown:
            table.add_row(
                label, task.object, output.mark(task.status), duration(task.seconds),
                task.rows_read, task.rows_inserted, task.rows_updated, task.rows_deleted,
                task.rows_queued, task.rows_quarantined,
            )  # fmt: skip
            label = ""
        idle = [task for task in group if task not in shown]
        if idle:
            told = f"{len(idle)} more" if shown else f"all {len(idle)}"
            took = sum(float(task.seconds or 0) for task in idle)
            table.add_row(
                label, Text(f"{told}, no change", style="dim"), output.mark("succeeded"),
                Text(output.seconds(took), style="dim"),
            )  # fmt: skip
    return table


def _watermark_table(watermarks: list[Watermark], show_all: bool) -> output.Table:
    """Return the watermarks; objects of a kind with the same one share a line."""
    table = output.table(
        "kind", "object", "batch", "complete until", "lag", title="Watermarks",
        right=("batch", "lag"), wrap=("object",), spare=("batch",), quiet=("kind",),
    )  # fmt: skip
    groups: dict[tuple[object, ...], list[Watermark]] = {}
    for one in watermarks:
        mark = (one.kind, one.batch_id, one.object if show_all else None)
        groups.setdefault(mark, []).append(one)
    kind_before = None
    for group in groups.values():
        one = group[0]
        is_all = len(group) == sum(other.kind == one.kind for other in watermarks)
        name = (
            f"all {len(group)}"
            if is_all and len(group) > 2
            else ", ".join(other.object for other in group)
        )
        table.add_row(
            "" if one.kind == kind_before else one.kind,
            name,
            "" if one.batch_id is None else str(one.batch_id),
            one.complete_until or Text("never", style="yellow"),
            Text(output.seconds(one.lag), style="yellow" if one.is_stale else ""),
        )
        kind_before = one.kind
    return table
