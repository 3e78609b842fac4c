"""A run while it works: `oceanrecords run` prints a line per finished task, and below them what
runs; `oceanrecords status --watch` draws the tasks as a tree, full screen.

Both draw rows of etl.task_run. Notifications only say that it is time to read them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import psycopg
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from base import output
from base.mode import mode
from driver.warehouse import (
    Failing,
    Quarantined,
    Queued,
    Run,
    Staleness,
    Task,
    by_kind,
    fetch,
    latest_runs,
    tasks_of,
)

CHANNEL = "etl_progress"
_PATIENCE = 1.0  # seconds until the screen is drawn again without a notification
_GATHER = 0.15  # seconds in which notifications are gathered
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {
    "succeeded": ("✓", "ok"),
    "failed": ("✗", "bad"),
    "skipped": ("-", "warn"),
    "pending": ("·", "quiet"),
}
_NAME_WIDTH = 28  # the longest usual name of an object
_ROOM_FOR_NAMES = 60  # columns from which names are padded
_MOST_LISTED = 4
# Kinds with many small tasks: one line when the last of them is over.
_GROUPED = {"extract": ("extracted", "extracting"), "stage": ("staged", "staging")}

# -- words ----------------------------------------------------------------------------------------


def _padded(name: str) -> str:
    """Return a name with blanks up to the next column, two at least."""
    width = _NAME_WIDTH if output.console.width >= _ROOM_FOR_NAMES else 0
    return f"{output.one_line(name):<{width}}  "


def _counted(*counts: tuple[int, str]) -> list[str]:
    return [f"{count:,} {word}" for count, word in counts if count]


def _counts(task: Task) -> str:
    """Return what a task did with its rows: '12 new, 3 changed', or 'no change'."""
    if task.kind == "check":
        return output.plural(task.rows_read, "check")
    return ", ".join(
        _counted(
            (task.rows_inserted, "new"),
            (task.rows_updated, "changed"),
            (task.rows_deleted, "deleted"),
            (task.rows_queued, "queued"),
            (task.rows_quarantined, "quarantined"),
        )
    ) or ("no change")


def summary(run: Run) -> str:
    """Return what a run did: '57 tasks, 1 failed, 36,750 rows written, 5 quarantined, 1.2 s'."""
    is_new = run.rows_written or run.rows_queued or run.rows_quarantined
    return ", ".join(
        [
            *([output.plural(run.tasks, "task")] if run.tasks else []),
            *_counted((run.failed, "failed"), (run.skipped, "skipped")),
            f"{output.plural(run.rows_written, 'row')} written" if is_new else "nothing new",
            *_counted((run.rows_queued, "queued"), (run.rows_quarantined, "quarantined")),
            output.seconds(run.seconds),
        ]
    )


def rate(rows: int, seconds: float | Decimal | None) -> str:
    """Return rows per second, short: '75,000/s'; empty if there is nothing to divide."""
    if not rows or not seconds or float(seconds) < 0.001:
        return ""
    speed = rows / float(seconds)
    digits = len(str(int(speed)))
    return f"{round(speed, 2 - digits) if digits > 2 else round(speed):,.0f}/s"


def _first_line(text: str | None) -> str:
    return output.visible((text or "").partition("\n")[0])


def _spin() -> str:
    return _SPINNER[int(datetime.now().timestamp() * 8) % len(_SPINNER)]


# -- a run of this program ------------------------------------------------------------------------


class RunView:
    """Shows one run: a line for each finished task, and below them what runs.

    Parameters:
        brief: show failures only (for runs that repeat).
    """

    def __init__(self, console: Console, *, brief: bool = False) -> None:
        self._console = console
        self._brief = brief
        self._live: Live | None = None
        self._run_id = 0
        self._tasks: list[Task] = []
        self._announced: set[str] = set()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._brief and not mode.quiet:
            self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()

    def follow(self, run_id: int, changed: list[Task], tasks: list[Task]) -> None:
        """Show what has changed (see driver.run.Follow)."""
        if tasks and not self._run_id and not self._brief and not self._live:
            self._console.print(f"run {run_id}: {output.plural(len(tasks), 'task')}")
        self._run_id, self._tasks = run_id, tasks
        for task in changed:
            self._tell(task)
        if self._brief:
            return
        for kind, group in by_kind(tasks):
            if kind in _GROUPED and kind not in self._announced and _is_over(group):
                self._announced.add(kind)
                # An initial load extracts into the mirrors: then there is nothing to stage.
                is_idle = kind == "stage" and all(task.is_idle for task in group)
                if not is_idle and any(task.status == "succeeded" for task in group):
                    self._print(_group_line(kind, group))

    def _tell(self, task: Task) -> None:
        if task.status == "failed":
            self._print(_line("✗", "bad", task.object, task.message or "failed"))
            if task.detail:
                self._print(Text(f"  {output.one_line(task.detail)}", style="dim"))
        elif task.status == "skipped":
            self._print(_line("-", "warn", task.object, f"skipped: {task.message or ''}"))
        elif task.status == "pending" and task.attempts and task.message:
            self._print(_line("↻", "warn", task.object, f"retry after: {task.message}"))
        elif task.status == "running" and task.waits_for and not self._live:
            self._print(_line("…", "warn", task.object, f"waits for a lock. {task.waits_for}"))
        elif task.status == "succeeded" and task.kind not in _GROUPED and not self._brief:
            line = _line("✓", "ok", task.object, _counts(task))
            self._print(line.append(f"  {output.seconds(task.seconds)}", style="dim"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the live area: what runs, and the number of finished tasks."""
        now = datetime.now().astimezone()
        running = {
            _GROUPED.get(task.kind, ("", task.object))[1]: task
            for task in self._tasks
            if task.status == "running"
        }
        for label, task in list(running.items())[:8]:
            line = Text(f"{_spin()} ", style="busy")
            line.append(_padded(label), style="default")
            if task.started_at is not None:
                line.append(output.seconds(max((now - task.started_at).total_seconds(), 0)), "dim")
            if task.waits_for:
                line.append(f"  waits for a lock. {output.one_line(task.waits_for)}", "warn")
            yield line
        if self._tasks:
            over = sum(task.is_over for task in self._tasks)
            told = f"  run {self._run_id} · {over} of {output.plural(len(self._tasks), 'task')}"
            yield Text(told, style="dim")


def _is_over(group: Sequence[Task]) -> bool:
    return all(task.is_over for task in group)


def _line(mark: str, style: str, name: str, said: str) -> Text:
    line = Text()
    line.append(f"{mark} ", style=style)
    line.append(_padded(name))
    return line.append(output.visible(said))


def _group_line(kind: str, group: Sequence[Task]) -> Text:
    rows = sum(task.rows for task in group)
    said = [output.plural(rows, "row") if rows else "no change"]
    said += _counted((sum(task.rows_quarantined for task in group), "quarantined"))
    done = sum(task.status == "succeeded" for task in group)
    if done < len(group):
        said.append(f"{done} of {output.plural(len(group), 'table')}")
    line = _line("✓", "ok", _GROUPED[kind][0], ", ".join(said))
    starts = [task.started_at for task in group if task.started_at is not None]
    ends = [task.ended_at for task in group if task.ended_at is not None]
    if starts and ends:
        line.append(f"  {output.seconds(max(ends) - min(starts))}", style="dim")
    return line


# -- the warehouse, full screen -------------------------------------------------------------------


@dataclass
class Snapshot:
    """What the database says at one point in time.

    Attributes:
        run: the newest run; None before the first.
        failing: tasks whose last outcome is a failure, of whichever run.
        queue: reprocessing queue, per fact and dimension.
        quarantine: rows in quarantine, per object.
        staleness: age of the warehouse.
    """

    run: Run | None
    tasks: list[Task]
    failing: list[Failing]
    queue: list[Queued]
    quarantine: list[Quarantined]
    staleness: Staleness


def look(connection: psycopg.Connection[Any]) -> Snapshot:
    """Read the state of the warehouse."""
    run = next(iter(latest_runs(connection, 1)), None)
    return Snapshot(
        run,
        tasks_of(connection, run.run_id if run else None),
        fetch(connection, Failing, "ORDER BY failed_at DESC"),
        fetch(connection, Queued, "ORDER BY entries DESC, fact, dimension"),
        fetch(connection, Quarantined, "ORDER BY row_count DESC, object"),
        fetch(connection, Staleness)[0],
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
    try:  # not `with`: an interrupt during the first picture would leave the screen as it is
        live.start(refresh=True)
        while True:
            if any(True for _ in connection.notifies(timeout=_PATIENCE, stop_after=1)):
                for _ in connection.notifies(timeout=_GATHER, stop_after=10_000):
                    pass
            picture.snapshot = look(connection)
    finally:
        live.stop()


class Picture:
    """Draws a snapshot as large as the terminal is."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw head, tasks, age, queue and quarantine, foot."""
        width, height = options.max_width, options.height or console.height
        head, below = self._head(width), self._below()
        tasks = task_lines(self.snapshot.tasks, height - len(head) - len(below) - 3, width)
        if self.snapshot.run is None:
            tasks = [
                Text("Nothing has been loaded yet."),
                Text("A run is shown here as soon as it starts: oceanrecords run", style="dim"),
            ]
        elif not tasks:
            tasks = [Text("Nothing new.", style="dim")]
        body = Group(*head, Text(""), *tasks, Text(""), *below)
        lines = console.render_lines(body, options.update(height=None), pad=False)
        for place in range(height - 1):
            yield from lines[place] if place < len(lines) else []
            yield Segment.line()
        yield Text("Ctrl-C ends", style="dim", end="")

    def _head(self, width: int) -> list[Text]:
        run = self.snapshot.run
        if run is None:
            return [_cut(Text("OceanRecords", style="bold"))]
        title = Text("OceanRecords", style="bold")
        title.append(f"   run {run.run_id} ", style="not bold")
        title.append(run.status, style=f"not bold {output.status(run.status).style}")
        title.append(f"   {output.seconds(run.seconds)}", style="not bold")
        title.append(f"   {output.one_line(run.scope)}", style="not bold dim")
        over, total = sum(task.is_over for task in self.snapshot.tasks), len(self.snapshot.tasks)
        if not total:
            return [_cut(title)]
        told = Text(f" {over} of {output.plural(total, 'task')}")
        if run.rows_written:
            _append(told, f" · {output.plural(run.rows_written, 'row')}", "dim", width - 11)
            _append(told, f" · {rate(run.rows_written, run.seconds)}", "dim", width - 11)
        failed = any(task.status == "failed" for task in self.snapshot.tasks)
        room = max(5, min(60, width - told.cell_len - 1))
        full = room * over // total
        bar = Text("━" * full, style="bad" if failed else "ok" if over == total else "busy")
        return [_cut(title), bar.append("━" * (room - full), style="dim").append_text(told)]

    def _below(self) -> list[Text]:
        """Return earlier failures that the tasks do not show, age, queue and quarantine."""
        shown = {task.task for task in self.snapshot.tasks if task.status == "failed"}
        failing = [one for one in self.snapshot.failing if one.task not in shown]
        lines = [
            _cut(
                Text(f"✗ {one.task} failed in run {one.run_id}: {_first_line(one.message)}", "bad")
            )
            for one in failing[:_MOST_LISTED]
        ]
        if len(failing) > _MOST_LISTED:
            lines.append(Text(f"✗ {len(failing) - _MOST_LISTED} more failed earlier", "bad"))
        age, limit = self.snapshot.staleness.age, self.snapshot.staleness.stale_after
        line = Text("age         ", style="dim")
        if age is None:
            line.append("unknown: an object was never loaded", style="not dim warn")
        else:
            style = "warn" if self.snapshot.staleness.is_stale else "ok"
            line.append(output.seconds(age), style=f"not dim {style}")
            line.append(f", limit {output.seconds(limit)}")
        lines.append(line)
        lines += _listed(
            "queue",
            [(f"{one.fact} → {one.dimension}", one.entries) for one in self.snapshot.queue],
        )
        return lines + _listed(
            "quarantine", [(one.object, one.row_count) for one in self.snapshot.quarantine]
        )


def _listed(label: str, counts: Sequence[tuple[str, int]]) -> list[Text]:
    if not counts:
        return [Text(f"{label:<12}empty", style="dim")]
    lines = []
    for place, (name, count) in enumerate(counts[:_MOST_LISTED]):
        line = Text(f"{label if place == 0 else '':<12}", style="dim")
        line.append(f"{count:>9,} ", style="not dim warn")
        lines.append(_cut(line.append(output.one_line(name), style="not dim")))
    if len(counts) > _MOST_LISTED:
        rest = sum(count for _, count in counts[_MOST_LISTED:])
        lines.append(Text(f"{'':<12}{rest:>9,} in {len(counts) - _MOST_LISTED} more", style="dim"))
    return lines


def _cut(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


# -- the tree of tasks -----------------------------------------------------------------------------


def task_lines(tasks: Sequence[Task], room: int, width: int = 10**6) -> list[Text]:
    """Return the tasks as a tree by kind, in as many lines as there is room for.

    If room is scarce, kinds that are over or have not begun become one line; then the other
    kinds show what runs, failed or was skipped; then only what failed and what runs is shown, and
    how many more there are. A failed task is never hidden behind another.

    Parameters:
        tasks: tasks of a run, in their order.
    """
    groups = by_kind(tasks)
    names = max((len(task.object) for task in tasks), default=0)
    shown = [group for _, group in groups]

    def lines() -> list[Text]:
        result: list[Text] = []
        for (kind, group), members in zip(groups, shown, strict=True):
            result.append(_kind_line(kind, group, names, width))
            hidden = len(group) - len(members)
            for place, task in enumerate(members, 1):
                branch = "└" if place == len(members) and not hidden else "├"
                result.append(_task_line(task, branch, names, width))
            if members and hidden:
                result.append(Text(f"└ … {hidden} more", style="dim"))
        return result

    # The longest kinds first: hide quiet ones, then all but what matters, then all but failures.
    places = sorted(range(len(groups)), key=lambda place: -len(shown[place]))
    steps: tuple[Callable[[list[Task]], list[Task]], ...] = (
        lambda group: group if any(map(_matters, group)) else [],
        lambda group: [task for task in group if _matters(task)],
        lambda group: [task for task in group if task.status == "failed"],
    )
    for kept in steps:
        for place in places:
            if len(found := lines()) <= room:
                return found
            shown[place] = kept(shown[place])
    if len(found := lines()) <= room:
        return found
    # No room for the kinds: what failed, then what runs.
    urgent = [task for status in ("failed", "running") for task in tasks if task.status == status]
    if not urgent:
        return [*found[: max(room - 1, 0)], Text("…", style="dim")][:room]
    if len(urgent) <= room:
        return [_task_line(task, " ", names, width) for task in urgent]
    failed = sum(task.status == "failed" for task in urgent)
    if room == 1 and failed > 1:
        return [Text(f"✗ {failed} tasks failed", style="bad")]
    rest = [_task_line(task, " ", names, width) for task in urgent[: max(room - 1, 1)]]
    hidden = max(failed - len(rest), 0)
    word = f"… {hidden} more failed" if hidden else f"… {len(urgent) - len(rest)} more running"
    return [*rest, Text(word, style="bad" if hidden else "dim")][:room]


def _matters(task: Task) -> bool:
    return task.status in ("running", "failed", "skipped")


def _kind_line(kind: str, group: Sequence[Task], names: int, width: int) -> Text:
    states = Counter(task.status for task in group)
    over = sum(task.is_over for task in group)
    style = (
        "bad"
        if states["failed"]
        else "busy"
        if states["running"]
        else ""
        if over == len(group)
        else "dim"
    )
    counter = f"{over}/{len(group)}"
    is_wide = names + 4 + 9 <= width
    line = Text(f"{kind:<{names + 4}}" if is_wide else f"{kind}  ", style=f"bold {style}")
    line.append(
        f"{counter:>9}" if is_wide else counter, style="not bold" if over else "not bold dim"
    )
    rows = sum(task.rows for task in group)
    _append(line, f"{f'{rows:,}' if rows else '':>12}", "not bold dim", width)
    if states["failed"]:
        _append(line, f"  {states['failed']} failed", "bad", width)
    return _cut(line)


def _task_line(task: Task, branch: str, names: int, width: int) -> Text:
    sign, style = _MARKS.get(task.status, (_spin(), "busy"))
    line = Text(f"{branch} ", style="dim")
    line.append(f"{sign} ", style=f"not dim {style}")
    reason = task.message if task.status in ("failed", "skipped") else task.waits_for
    if reason:
        # The reason is worth more than how long it took.
        line.append(f"{output.one_line(task.object)}  ", style="default")
        return _cut(line.append(_first_line(reason), style="warn"))
    name = f"{output.one_line(task.object):<{names}}"
    line.append(name, style="dim" if task.status == "pending" else "default")
    _append(line, f"{output.seconds(task.seconds):>9}", "default", width)
    _append(line, f"{f'{task.rows:,}' if task.rows else '':>12}", "default", width)
    for words in _counted((task.rows_queued, "queued"), (task.rows_quarantined, "quarantined")):
        _append(line, f"  {words}", "warn", width)
    _append(line, f"{rate(task.rows, task.seconds):>13}", "dim", width)
    return _cut(line)


def _append(line: Text, words: str, style: str, width: int) -> None:
    """Append words that fit as a whole: a number that is cut reads as another one."""
    if line.cell_len + len(words) <= width and words.strip(" ·"):
        line.append(words, style=style)
