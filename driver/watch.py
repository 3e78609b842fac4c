"""The status of the warehouse as a picture that moves: full screen, until Ctrl-C.

It is drawn anew when the engine tells of progress (channel etl_progress), and now and then anyway,
for what nobody tells: time that goes by, a run that dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from driver import output
from driver.run import CHANNEL

_PATIENCE = 1.0  # seconds until it is drawn anew without being told
_GATHER = 0.15  # seconds in which what is told at once is gathered
_WIDE = 112  # columns from which there is room beside the tasks
_SIDE = 44
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {
    "succeeded": ("✓", "ok"),
    "failed": ("✗", "bad"),
    "skipped": ("-", "warn"),
    "pending": ("·", "quiet"),
}


@dataclass
class Snapshot:
    """What the database says at one moment.

    Attributes:
        runs: the latest ones, newest first.
        tasks: of the newest.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    queue: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    staleness: dict[str, Any] = field(default_factory=dict)
    taken_at: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @property
    def run(self) -> dict[str, Any] | None:
        """The newest run; None before the first."""
        return self.runs[0] if self.runs else None


def look(connection: psycopg.Connection[Any]) -> Snapshot:
    """Ask the database how things are."""

    def rows(query: LiteralString) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query).fetchall()

    return Snapshot(
        rows("SELECT * FROM etl.run_status ORDER BY run_id DESC LIMIT 6"),
        rows("SELECT * FROM etl.task_status ORDER BY position"),
        rows("SELECT * FROM etl.queue_status ORDER BY entries DESC, fact, dimension"),
        rows("SELECT * FROM etl.quarantine_status ORDER BY row_count DESC, object"),
        rows("SELECT * FROM etl.staleness")[0],
    )


def watch(connection: psycopg.Connection[Any], console: Console) -> None:
    """Show the status until interrupted; the terminal is as before afterwards.

    Parameters:
        connection: autocommit connection to the warehouse, for nothing else.
        console: a terminal.

    Raises:
        KeyboardInterrupt: when the user ends it.
        psycopg.Error: if the connection is lost.
    """
    connection.execute(f"LISTEN {CHANNEL}")
    picture = Picture(look(connection))
    live = Live(picture, console=console, screen=True, refresh_per_second=8)
    try:  # not `with`: that would leave the screen as it is when interrupted at its first picture
        live.start(refresh=True)
        while True:
            if any(True for _ in connection.notifies(timeout=_PATIENCE, stop_after=1)):
                for _ in connection.notifies(timeout=_GATHER):
                    pass
            picture.snapshot = look(connection)
    finally:
        live.stop()


class Picture:
    """Draws a snapshot as large as the terminal is."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it: head, tasks, what else is to be known, foot."""
        width, height = options.max_width, options.height or console.height
        head = self._head(width)
        foot = [Text("Ctrl-C ends", style="dim")]
        is_wide = width >= _WIDE
        side = self._side() if is_wide else self._brief()
        room = height - len(head) - len(foot) - 1 - (0 if is_wide else len(side) + 1)
        tasks = task_lines(self.snapshot.tasks, room)
        if not self.snapshot.tasks:
            tasks = [
                Text("Nothing has been loaded yet."),
                Text("A run is shown here as soon as it starts: oceanrecords run", style="dim"),
            ]
        body: RenderableType
        if is_wide:
            body = Table.grid(padding=(0, 3, 0, 0), expand=True)
            body.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
            body.add_column(width=_SIDE, no_wrap=True, overflow="ellipsis")
            body.add_row(Group(*tasks), Group(*side[:room]))
        else:
            body = Group(*tasks, Text(""), *side)
        lines = console.render_lines(
            Group(*head, Text(""), body), options.update(height=None), pad=False
        )
        last = console.render_lines(Group(*foot), options.update(height=None), pad=False)
        space = height - len(last)
        for place in range(space):
            yield from lines[place] if place < len(lines) else []
            yield Segment.line()
        for place, line in enumerate(last):
            yield from line
            if place < len(last) - 1:
                yield Segment.line()

    def _head(self, width: int) -> list[RenderableType]:
        run = self.snapshot.run
        title = Text("OceanRecords", style="bold")
        clock = f"{self.snapshot.taken_at:%H:%M:%S}"
        if run is None:
            title.append(" " * max(2, width - title.cell_len - len(clock)))
            return [title.append(clock, style="dim")]
        title.append(f"   run {run['run_id']} ", style="default")
        title.append(run["status"], style=output.status(run["status"]).style)
        title.append(f"   {output.seconds(run['seconds'])}", style="default")
        title.append(f"   {scope(run)}", style="dim")
        title.truncate(max(20, width - len(clock) - 2), overflow="ellipsis")
        title.append(" " * max(2, width - title.cell_len - len(clock)))
        title.append(clock, style="dim")
        return [title, self._bar(run, width)]

    def _bar(self, run: dict[str, Any], width: int) -> RenderableType:
        done = sum(task["status"] not in ("pending", "running") for task in self.snapshot.tasks)
        total = len(self.snapshot.tasks)
        rows = sum(changed(task) for task in self.snapshot.tasks)
        told = Text(f" {done} of {total} tasks", style="default")
        if rows:
            told.append(f" · {rows:,} rows", style="dim")
            if rate(rows, run["seconds"]):
                told.append(f" · {rate(rows, run['seconds'])}", style="dim")
        failed = any(task["status"] == "failed" for task in self.snapshot.tasks)
        bar = ProgressBar(
            total=max(total, 1),
            completed=done,
            width=max(10, min(60, width - told.cell_len - 1)),
            complete_style="bad" if failed else "busy",
            finished_style="bad" if failed else "ok",
        )
        grid = Table.grid()
        grid.add_row(bar, told)
        return grid

    def _age(self) -> Text:
        one = self.snapshot.staleness
        if one.get("age") is None:
            return Text("of unknown age: not everything has been loaded", style="warn")
        told = Text(f"{output.seconds(one['age'])} old", style="warn" if one["is_stale"] else "ok")
        told.append(f", promised {output.seconds(one['stale_after'])}", style="dim")
        return told

    def _brief(self) -> list[RenderableType]:
        """Return what else is to be known, in three lines."""
        queued = sum(one["entries"] for one in self.snapshot.queue)
        quarantined = sum(one["row_count"] for one in self.snapshot.quarantine)
        return [
            Text.assemble(("age         ", "dim"), self._age()),
            _count("queue       ", queued, "wait for a member", [
                f"{one['fact']} → {one['dimension']}" for one in self.snapshot.queue
            ]),
            _count("quarantine  ", quarantined, "could not be loaded", [
                one["object"] for one in self.snapshot.quarantine
            ]),
        ]  # fmt: skip

    def _side(self) -> list[RenderableType]:
        """Return what else is to be known, at length."""
        lines: list[RenderableType] = [Text("Age", style="bold"), self._age(), Text("")]
        for title, empty, some in (
            (
                "Reprocessing queue",
                "empty",
                [
                    (f"{one['fact']} → {one['dimension']}", one["entries"], one["age"])
                    for one in self.snapshot.queue
                ],
            ),
            (
                "Quarantine",
                "empty",
                [(one["object"], one["row_count"], one["age"]) for one in self.snapshot.quarantine],
            ),
        ):
            lines.append(Text(title, style="bold"))
            if not some:
                lines.append(Text(empty, style="dim"))
            for name, count, age in some[:6]:
                told = Text(f"{count:>7,}  ", style="warn")
                told.append(name, style="default")
                told.append(f"  {output.seconds(age)}", style="dim")
                lines.append(told)
            lines.append(Text(""))
        if len(self.snapshot.runs) > 1:
            lines.append(Text("Runs before", style="bold"))
        for run in self.snapshot.runs[1:]:
            told = Text(f"{run['run_id']:>7}  ", style="dim")
            told.append_text(output.status(run["status"]))
            told.append(f"  {output.seconds(run['seconds'])}", style="default")
            told.append(f"  {run['rows_written']:,} rows", style="dim")
            lines.append(told)
        return lines


def _count(label: str, count: int, what: str, where: Sequence[str]) -> Text:
    line = Text(label, style="dim")
    if not count:
        return line.append("empty", style="dim")
    line.append(f"{count:,} ", style="warn")
    line.append(f"{what}: {', '.join(where)}", style="default")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def scope(run: dict[str, Any]) -> str:
    """Return who asked for a run, and for what."""
    parts = [f"by {run['origin']}"]
    if run["only_tasks"]:
        parts.append("only " + ", ".join(run["only_tasks"]))
    if run["full_refresh"]:
        parts.append("rebuilds " + ", ".join(run["full_refresh"]))
    if run["resumed"]:
        parts.append(f"resumed {run['resumed']} times")
    return ", ".join(parts)


def changed(task: dict[str, Any]) -> int:
    """Return how many rows a task wrote."""
    return int(task["rows_inserted"] + task["rows_updated"] + task["rows_deleted"])


def rate(rows: int, seconds: Any) -> str:
    """Return rows per second, short: '75,000/s'; empty where there is nothing to divide."""
    if not rows or not seconds or float(seconds) < 0.001:
        return ""
    speed = rows / float(seconds)
    digits = len(str(int(speed)))
    return f"{round(speed, 2 - digits) if digits > 2 else round(speed):,.0f}/s"


# -- the tree of tasks -----------------------------------------------------------------------------


def task_lines(tasks: Sequence[dict[str, Any]], room: int) -> list[RenderableType]:
    """Return the tasks as a tree by kind, in as many lines as there is room for.

    What is closed first, when room is scarce: kinds that are done or have not begun; then, within
    the others, what is done or waits. What runs and what failed is shown as long as possible.

    Parameters:
        tasks: rows of etl.task_status, in their order.
        room: number of lines.
    """
    groups = [(kind, list(group)) for kind, group in groupby(tasks, key=lambda one: one["kind"])]
    width = max((len(task["object"]) for task in tasks), default=0)

    def lines(shown: dict[str, list[dict[str, Any]]]) -> list[RenderableType]:
        result: list[RenderableType] = []
        for kind, group in groups:
            result.append(_kind_line(kind, group, width))
            members = shown[kind]
            for place, task in enumerate(members):
                is_last = place == len(members) - 1 and len(members) == len(group)
                result.append(_task_line(task, "└" if is_last else "├", width))
            if members and len(members) < len(group):
                rest = len(group) - len(members)
                result.append(Text(f"└ … {rest} more", style="dim"))
        return result

    def matters(task: dict[str, Any]) -> bool:
        return task["status"] in ("running", "failed", "skipped")

    shown = dict(groups)
    found = lines(shown)
    # Quiet kinds first, the longest of them before the others.
    for kind, group in sorted(groups, key=lambda one: -len(one[1])):
        if len(found) <= room:
            return found
        if not any(matters(task) for task in group):
            shown[kind] = []
            found = lines(shown)
    for kind, group in sorted(groups, key=lambda one: -len(one[1])):
        if len(found) <= room:
            return found
        shown[kind] = [task for task in group if matters(task)]
        found = lines(shown)
    if len(found) > room:
        found = [*found[: max(room - 1, 0)], Text("…", style="dim")]
    return found


def _kind_line(kind: str, group: Sequence[dict[str, Any]], width: int) -> Text:
    done = sum(task["status"] not in ("pending", "running") for task in group)
    failed = any(task["status"] == "failed" for task in group)
    running = any(task["status"] == "running" for task in group)
    style = "bad" if failed else "busy" if running else "" if done == len(group) else "dim"
    rows = sum(changed(task) for task in group)
    line = Text(f"{kind:<{width + 4}}", style="bold")
    line.stylize(style)
    line.append(f"{f'{done}/{len(group)}':>9}", style="default" if done else "dim")
    line.append(f"{f'{rows:,}' if rows else '':>12}", style="dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _task_line(task: dict[str, Any], branch: str, width: int) -> Text:
    line = Text(f"{branch} ", style="dim")
    if task["status"] == "running":
        spin = _SPINNER[int(datetime.now().timestamp() * 8) % len(_SPINNER)]
        line.append(f"{spin} ", style="busy")
    else:
        mark, style = _MARKS.get(task["status"], ("?", ""))
        line.append(f"{mark} ", style=style)
    rows = changed(task) or (task["rows_read"] if task["kind"] == "extract" else 0)
    line.append(f"{task['object']:<{width}}", style="dim" if task["status"] == "pending" else "")
    line.append(f"{output.seconds(task['seconds']):>9}", style="default")
    line.append(f"{f'{rows:,}' if rows else '':>12}", style="default")
    line.append(f"{rate(rows, task['seconds']):>13}", style="dim")
    if task["rows_queued"]:
        line.append(f"  {task['rows_queued']:,} queued", style="warn")
    if task["status"] in ("failed", "skipped") and task["message"]:
        line.append(f"  {task['message'].splitlines()[0]}", style="warn")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
