"""`oceanrecords status`: runs, tasks, watermarks, queue, quarantine and health."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
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
_NOTHING = "Nothing has been loaded yet."
_PATIENCE = 1.0  # seconds until the screen is drawn again without a notification
_GATHER = 0.15  # seconds in which notifications are gathered
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
        answer = _read(connection, runs)
    emit(answer, as_json=as_json, render=lambda data: _render(data, show_all))
    if fail and answer["problems"]:
        raise typer.Exit(EXIT_ERROR)


def _read(connection: psycopg.Connection[Any], runs: int) -> dict[str, Any]:
    shown = latest_runs(connection, runs)
    return {
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


def _watch(context: typer.Context, *, as_json: bool) -> None:
    if as_json or not console.is_terminal:
        raise UserError(
            "--watch needs a terminal, and shows no JSON.",
            "To print the status once, run: oceanrecords status",
            EXIT_USAGE,
        )
    from rich.live import Live  # the status by itself does not need it

    signal.signal(signal.SIGTERM, _interrupt)
    with (
        connect(state.of(context).dsn, application_name="oceanrecords watch") as connection,
        contextlib.suppress(KeyboardInterrupt),
    ):
        connection.execute("LISTEN etl_progress")
        screen = _Screen(_read(connection, 1))
        live = Live(screen, console=console, screen=True, refresh_per_second=8)
        try:  # not `with`: an interrupt during the first picture would leave the screen as it is
            live.start(refresh=True)
            while True:
                # A notification only says that it is time to read the tables again.
                if any(True for _ in connection.notifies(timeout=_PATIENCE, stop_after=1)):
                    for _ in connection.notifies(timeout=_GATHER, stop_after=10_000):
                        pass
                screen.answer = _read(connection, 1)
        finally:
            live.stop()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


class _Screen:
    """Draws the status as large as the terminal is: faults and what runs above all else."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as many lines as there is room for, and how many there are more."""
        height = options.height or console.height
        body = Group(*self._parts())
        lines = console.render_lines(body, options.update(height=None), pad=False)
        room = height - 1
        hidden = len(lines) - room + 1 if len(lines) > room else 0
        for line in [*lines[: len(lines) - hidden], *([[]] * (room - len(lines)))]:
            yield from line
            yield Segment.line()
        if hidden:
            yield Text(f"… {output.plural(hidden, 'more line')}: oceanrecords status", style="dim")
        yield Text("Ctrl-C ends", style="dim", end="")

    def _parts(self) -> Iterator[RenderableType]:
        from driver.live import progress, running_lines

        if not self.answer["runs"]:
            yield _NOTHING
            yield Text("A run is shown here as soon as it starts: oceanrecords run", style="dim")
            return
        run, tasks = self.answer["runs"][0], self.answer["tasks"]
        head = Text.assemble(("OceanRecords", "bold"), f"   run {run.run_id} ")
        head.append_text(output.status(run.status)).append(f"   {output.seconds(run.seconds)}")
        head.append(f"   {progress(tasks)}" if tasks else "   nothing new")
        head.append(f"   {run.failed} failed" if run.failed else "", style="bad")
        yield head.append(f"   {output.one_line(run.scope)}", style="dim")
        yield Text("")
        failed_first = sorted(_faults(tasks), key=lambda one: one.status != "failed")
        faults: list[Task | Failing] = [*failed_first, *_earlier(self.answer)]
        for fault in faults:
            line = _fault_line(fault)
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line
        yield from running_lines(tasks)
        yield from map(_health_line, self.answer["health"])
        yield Text("")
        yield tasks_table(run.run_id, tasks, show_all=False)


def _faults(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks that failed, were skipped with a reason, or wait for a lock."""
    return [
        one
        for one in tasks
        if one.waits_for or (one.status in ("failed", "skipped") and one.message)
    ]


def _earlier(answer: dict[str, Any]) -> list[Failing]:
    """Return the tasks that failed in earlier runs and were not loaded since."""
    shown = {one.task for one in answer["tasks"] if one.status == "failed"}
    return [one for one in answer["failing"] if one.task not in shown]


def _render(answer: dict[str, Any], show_all: bool) -> None:
    if not answer["runs"]:
        console.print(_NOTHING)
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
    for task in _faults(tasks):
        render_fault(task)
    if earlier := _earlier(answer):
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


def _fault_line(task: Task | Failing) -> Text:
    """Return why a task failed, was skipped or waits."""
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
    return line


def render_fault(task: Task | Failing) -> None:
    """Print why a task failed, was skipped or waits, with detail and hint."""
    console.print(_fault_line(task), soft_wrap=True)
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
