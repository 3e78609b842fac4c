"""`oceanrecords status`: what ran, how far everything is, and what waits."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import EXIT_ERROR, EXIT_USAGE, UserError
from base.options import FailOption, JsonOption
from base.output import console, emit
from driver.commands import health, quarantine, queue
from driver.rows import rows_table
from driver.warehouse import Failing, Problem, Run, Task, by_kind, fetch, latest_runs, tasks_of

EXAMPLES = (
    "Examples: oceanrecords status · oceanrecords status --watch · oceanrecords status --fail"
)


def status(
    context: typer.Context,
    runs: Annotated[
        int, typer.Option("--runs", min=1, max=1000, help="How many runs to show.")
    ] = 5,
    show_all: Annotated[
        bool, typer.Option("--all", help="Every task and watermark, also where nothing happened.")
    ] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Full screen, and keeps moving until Ctrl-C.")
    ] = False,
    fail: FailOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last runs, the tasks of the latest, how far everything is, and what waits.

    Exit status 0; with --fail 1 when something is wrong.
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
            "watermarks": _rows(connection, "SELECT * FROM etl.watermark_status"),
            "queue": _rows(connection, "SELECT * FROM etl.queue_status ORDER BY fact, dimension"),
            "quarantine": _rows(connection, "SELECT * FROM etl.quarantine_status ORDER BY object"),
            "schema_drift": _rows(connection, "SELECT * FROM etl.schema_drift"),
            "health": health.health(connection),
            "problems": fetch(connection, Problem, "ORDER BY kind, object"),
        }
    emit(answer, as_json=as_json, render=lambda data: _render(data, show_all))
    if fail and answer["problems"]:
        raise typer.Exit(EXIT_ERROR)


def _rows(connection: psycopg.Connection, query: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


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
        console.print("[quiet]load the warehouse with[/] oceanrecords run")
        return
    tasks: list[Task] = answer["tasks"]
    console.print(_runs_table(answer["runs"]))
    for run in answer["runs"]:
        if run.compared_because:
            line = Text(f"  run {run.run_id}: ", style="dim")
            line.append(f"{run.compared_because}: all tables are compared with their mirrors")
            console.print(line, soft_wrap=True)
    console.print()
    console.print(_tasks_table(answer["runs"][0], tasks, show_all))
    for task in tasks:
        if task.status in ("failed", "skipped") and task.message:
            _render_fault(task)
    shown = {task.task for task in tasks if task.status == "failed"}
    earlier = [one for one in answer["failing"] if one.task not in shown]
    if earlier:
        console.print()
        console.print("[title]Failed in earlier runs, not loaded since[/]")
        for one in earlier:
            _render_fault(one)
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
    health.render(answer["health"])


def _render_fault(task: Task | Failing) -> None:
    line = Text(f"  {output.one_line(task.object)}: ", style="dim")
    if isinstance(task, Task):
        line.append(f"{task.status}: ", style="not dim")
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
        right=("run", "took", "tasks", "failed", "rows", "queued", "quarantined"),
    )  # fmt: skip
    for run in runs:
        table.add_row(
            str(run.run_id),
            output.status(run.status),
            output.moment(run.started_at),
            output.seconds(run.seconds),
            f"{run.succeeded}/{run.tasks}",
            output.number(run.failed),
            output.number(run.rows_written),
            output.number(run.rows_queued),
            output.number(run.rows_quarantined),
            Text(output.one_line(run.scope), style="dim"),
        )
    return table


def _tasks_table(run: Run, tasks: Sequence[Task], show_all: bool) -> output.Table | Text:
    """Return the tasks of a run; those of a kind that found nothing to do share a line."""
    title = f"Tasks of run {run.run_id}"
    if not tasks:
        return output.said("[title]{}[/]  [quiet]nothing new[/]", title)
    table = output.table(
        "kind", "object", "", "took", "read", "new", "changed", "deleted", "queued", "quarantined",
        title=title, spare=("took", "kind"),
        right=("took", "read", "new", "changed", "deleted", "queued", "quarantined"),
    )  # fmt: skip
    for kind, group in by_kind(tasks):
        shown = [task for task in group if show_all or not task.is_idle]
        label = Text(kind, style="dim")
        for task in shown:
            table.add_row(
                label,
                task.object,
                output.mark(task.status),
                output.seconds(task.seconds),
                output.number(task.rows_read),
                output.number(task.rows_inserted),
                output.number(task.rows_updated),
                output.number(task.rows_deleted),
                output.number(task.rows_queued),
                output.number(task.rows_quarantined),
            )
            label = Text("")
        idle = [task for task in group if task not in shown]
        if idle:
            told = f"{len(idle)} more" if shown else f"all {len(idle)}"
            took = sum(float(task.seconds or 0) for task in idle)
            table.add_row(
                label, Text(f"{told}, no change", style="dim"), output.mark("succeeded"),
                Text(output.seconds(took), style="dim"),
            )  # fmt: skip
    return table


def _watermark_table(watermarks: list[dict[str, Any]], show_all: bool) -> output.Table:
    """Return how far each object is; those of a kind that are equally far share a line."""
    table = output.table(
        "kind", "object", "batch", "complete until", "lag", title="Watermarks",
        right=("batch", "lag"), wrap=("object",), spare=("batch",),
    )  # fmt: skip
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in watermarks:
        mark = (one["kind"], one["batch_id"], one["object"] if show_all else None)
        groups.setdefault(mark, []).append(one)
    kind_before = None
    for (kind, batch, _), group in groups.items():
        one = group[0]
        is_all = len(group) == sum(other["kind"] == kind for other in watermarks)
        name = (
            f"all {len(group)}"
            if is_all and len(group) > 2
            else ", ".join(other["object"] for other in group)
        )
        table.add_row(
            Text("" if kind == kind_before else kind, style="dim"),
            name,
            "" if batch is None else str(batch),
            output.moment(one["complete_until"]) or Text("never", style="yellow"),
            Text(output.seconds(one["lag"]), style="yellow" if one.get("is_stale") else ""),
        )
        kind_before = kind
    return table
