"""A run while it works: one view, drawn from the tables.

`oceanrecords run` prints a line for each task that is over, and keeps what runs below the lines;
`oceanrecords status --watch` draws the same tasks as a tree, full screen. Both read etl.task_run:
notifications (channel etl_progress) only say that it is time to look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from base import output
from base.mode import mode
from driver.run import CHANNEL
from driver.warehouse import Failing, Run, Task, by_kind, fetch, latest_runs, tasks_of

_PATIENCE = 1.0  # seconds until it is drawn again without a notification
_GATHER = 0.15  # seconds in which notifications are gathered
_WIDE = 112  # columns from which there is room beside the tasks
_SIDE = 44
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {
    "succeeded": ("✓", "ok"),
    "failed": ("✗", "bad"),
    "skipped": ("-", "warn"),
    "pending": ("·", "quiet"),
}
# The longest names of tasks that there are, and a blank; a longer one still gets its blanks.
NAME_WIDTH = 30
_ROOM_FOR_NAMES = 60  # columns from which there is room for what stands behind the names

# -- words ----------------------------------------------------------------------------------------

# Kinds with many small tasks, told in one line when the last of them is over.
_GROUPED = {"extract": ("extracted", "extracting"), "stage": ("staged", "staging")}
# Kinds that change no rows, and what they go through instead.
_WENT_THROUGH = {"constrain": "foreign key", "check": "check"}


def padded(name: str) -> str:
    """Return a name with blanks up to where the next column begins, two at least."""
    width = NAME_WIDTH - 2 if output.console.width >= _ROOM_FOR_NAMES else 0
    return f"{output.one_line(name):<{width}}  "


def counts(task: Task) -> str:
    """Return what a task did with its rows: '12 new, 3 changed', or 'no change'."""
    if task.kind in _WENT_THROUGH:
        # Foreign keys that were made again already, before the rows came.
        if task.kind == "constrain" and not task.rows_read:
            return f"no more {_WENT_THROUGH[task.kind]}s"
        return output.plural(task.rows_read, _WENT_THROUGH[task.kind])
    words = (
        (task.rows_inserted, "new"),
        (task.rows_updated, "changed"),
        (task.rows_deleted, "deleted"),
        (task.rows_queued, "queued"),
        (task.rows_quarantined, "quarantined"),
    )
    return ", ".join(f"{count:,} {word}" for count, word in words if count) or "no change"


def summary(run: Run) -> str:
    """Return what a run did: '57 tasks, 1 failed, 36,750 rows written, 5 quarantined, 1.2 s'."""
    parts = [output.plural(run.tasks, "task")] if run.tasks else []
    for count, word in ((run.failed, "failed"), (run.skipped, "skipped")):
        if count:
            parts.append(f"{count:,} {word}")
    is_new = run.rows_written or run.rows_queued or run.rows_quarantined
    parts.append(f"{output.plural(run.rows_written, 'row')} written" if is_new else "nothing new")
    for count, word in ((run.rows_queued, "queued"), (run.rows_quarantined, "quarantined")):
        if count:
            parts.append(f"{count:,} {word}")
    parts.append(output.seconds(run.seconds))
    return ", ".join(parts)


def rate(rows: int, seconds: Any) -> str:
    """Return rows per second, short: '75,000/s'; empty where there is nothing to divide."""
    if not rows or not seconds or float(seconds) < 0.001:
        return ""
    speed = rows / float(seconds)
    digits = len(str(int(speed)))
    return f"{round(speed, 2 - digits) if digits > 2 else round(speed):,.0f}/s"


# -- a run of this program ------------------------------------------------------------------------


class RunView:
    """Shows one run: a line for each task that is over, and what runs below them.

    Parameters:
        console: where to.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def follow(self, run_id: int, changed: list[Task], tasks: list[Task]) -> None:
        """Show what has changed (see driver.run.Follow)."""
        if tasks and not self._run_id and not self._brief and not self._live:
            self._console.print(f"run {run_id}: {output.plural(len(tasks), 'task')}")
        self._run_id, self._tasks = run_id, tasks
        for task in changed:
            self._tell(task)
        left = Counter(task.kind for task in tasks if not task.is_over)
        for kind in _GROUPED:
            group = [task for task in tasks if task.kind == kind]
            if group and not left[kind] and kind not in self._announced:
                self._announced.add(kind)
                if not self._brief and any(task.status == "succeeded" for task in group):
                    self._print(_group_line(kind, group))

    def _tell(self, task: Task) -> None:
        if task.status == "failed":
            self._print(_line("✗", "bad", task.object, task.message or "failed"))
        elif task.status == "skipped":
            self._print(_line("-", "warn", task.object, f"skipped: {task.message or ''}"))
        elif task.status == "pending" and task.attempts and task.message:
            self._print(_line("↻", "warn", task.object, f"retry after: {task.message}"))
        elif task.status == "succeeded" and task.kind not in _GROUPED and not self._brief:
            line = _line("✓", "ok", task.object, counts(task))
            self._print(line.append(f"  {output.seconds(task.seconds)}", style="dim"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the live area: what runs, and how far the run is."""
        running = [task for task in self._tasks if task.status == "running"]
        grouped: set[str] = set()
        now = datetime.now().astimezone()
        for task in running[:8]:
            label = _GROUPED.get(task.kind, ("", task.object))[1]
            if label in grouped:
                continue
            grouped.add(label)
            line = Text(f"{_spin()} ", style="busy")
            line.append(padded(label), style="default")
            if task.started_at is not None:
                line.append(output.seconds(max((now - task.started_at).total_seconds(), 0)), "dim")
            yield line
        if self._tasks:
            over = sum(task.is_over for task in self._tasks)
            yield Text(
                f"  run {self._run_id} · {over} of {output.plural(len(self._tasks), 'task')}",
                style="dim",
            )


def _line(mark: str, style: str, name: str, said: str) -> Text:
    line = Text()
    line.append(f"{mark} ", style=style)
    line.append(padded(name))
    return line.append(output.visible(said))


def _group_line(kind: str, group: Sequence[Task]) -> Text:
    rows = sum(task.rows for task in group)
    bad = sum(task.rows_quarantined for task in group)
    said = output.plural(rows, "row") if rows else "no change"
    if bad:
        said += f", {bad:,} quarantined"
    if any(task.status != "succeeded" for task in group):
        done = sum(task.status == "succeeded" for task in group)
        said += f" ({done} of {output.plural(len(group), 'table')})"
    line = _line("✓", "ok", _GROUPED[kind][0], said)
    starts = [task.started_at for task in group if task.started_at is not None]
    ends = [task.ended_at for task in group if task.ended_at is not None]
    if starts and ends:
        line.append(f"  {output.seconds(max(ends) - min(starts))}", style="dim")
    return line


def _spin() -> str:
    return _SPINNER[int(datetime.now().timestamp() * 8) % len(_SPINNER)]


# -- the warehouse, full screen -------------------------------------------------------------------


@dataclass
class Snapshot:
    """What the database says at one point in time.

    Attributes:
        runs: the latest ones, newest first.
        tasks: of the newest.
        failing: tasks whose last outcome is a failure, of whichever run.
    """

    runs: list[Run] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    failing: list[Failing] = field(default_factory=list)
    queue: list[dict[str, Any]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    staleness: dict[str, Any] = field(default_factory=dict)
    taken_at: datetime = field(default_factory=lambda: datetime.now().astimezone())

    @property
    def run(self) -> Run | None:
        """The newest run; None before the first."""
        return self.runs[0] if self.runs else None


def look(connection: psycopg.Connection[Any]) -> Snapshot:
    """Read the state of the warehouse."""

    def rows(query: str) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode()).fetchall()

    runs = latest_runs(connection, 6)
    return Snapshot(
        runs,
        tasks_of(connection, runs[0].run_id if runs else None),
        fetch(connection, Failing, "ORDER BY failed_at DESC"),
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
        """Draw it: head, tasks, what else is to be known, foot."""
        width, height = options.max_width, options.height or console.height
        head = self._head(width)
        foot = [Text("Ctrl-C ends", style="dim")]
        is_wide = width >= _WIDE
        side = self._side() if is_wide else self._brief()
        room = height - len(head) - len(foot) - 1 - (0 if is_wide else len(side) + 1)
        tasks = task_lines(self.snapshot.tasks, room, width - (_SIDE + 3 if is_wide else 0))
        if not self.snapshot.runs:
            tasks = [
                Text("Nothing has been loaded yet."),
                Text("A run is shown here as soon as it starts: oceanrecords run", style="dim"),
            ]
        elif not tasks:
            tasks = [Text("Nothing new.", style="dim")]
        body = _beside(tasks, side[:room], width) if is_wide else Group(*tasks, Text(""), *side)
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
        if run is not None:
            title.append(f"   run {run.run_id} ", style="not bold")
            title.append(run.status, style=f"not bold {output.status(run.status).style}")
            title.append(f"   {output.seconds(run.seconds)}", style="not bold")
            title.append(f"   {output.one_line(run.scope)}", style="not bold dim")
            title.truncate(max(20, width - len(clock) - 2), overflow="ellipsis")
        title.append(" " * max(2, width - title.cell_len - len(clock)))
        title.append(clock, style="not bold dim")
        title.no_wrap, title.overflow = True, "crop"
        return [title] if run is None else [title, self._bar(run, width)]

    def _bar(self, run: Run, width: int) -> RenderableType:
        over = sum(task.is_over for task in self.snapshot.tasks)
        total = len(self.snapshot.tasks)
        told = Text(f" {over} of {output.plural(total, 'task')}")
        for words in (
            f" · {output.plural(run.rows_written, 'row')}" if run.rows_written else "",
            f" · {rate(run.rows_written, run.seconds)}" if run.rows_written else "",
        ):
            if told.cell_len + len(words) + 11 <= width and words.strip(" ·"):
                told.append(words, style="dim")
        failed = any(task.status == "failed" for task in self.snapshot.tasks)
        bar = ProgressBar(
            total=max(total, 1),
            completed=over if total else 1,
            width=max(5, min(60, width - told.cell_len - 1)),
            complete_style="bad" if failed else "busy",
            finished_style="bad" if failed else "ok",
        )
        return _Row(bar, told)

    def _age(self) -> Text:
        one = self.snapshot.staleness
        if one.get("age") is None:
            return Text("unknown: not everything has been loaded", style="warn")
        told = Text(output.seconds(one["age"]), style="warn" if one["is_stale"] else "ok")
        return told.append(f", limit {output.seconds(one['stale_after'])}", style="dim")

    def _still_failing(self) -> list[Failing]:
        """Return what fails and is not among the tasks of the newest run."""
        shown = {task.task for task in self.snapshot.tasks if task.status == "failed"}
        return [one for one in self.snapshot.failing if one.task not in shown]

    def _brief(self) -> list[RenderableType]:
        """Return what else is to be known, in a few lines."""
        queued = sum(one["entries"] for one in self.snapshot.queue)
        quarantined = sum(one["row_count"] for one in self.snapshot.quarantine)
        lines: list[RenderableType] = [
            Text(f"✗ {one.task} failed in run {one.run_id}: {_first_line(one.message)}", "bad",
                 no_wrap=True, overflow="ellipsis")
            for one in self._still_failing()[:3]
        ]  # fmt: skip
        return [
            *lines,
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
        failing = self._still_failing()
        if failing:
            lines.append(Text("Failed in earlier runs", style="bold"))
            lines += [Text(f"{one.run_id:>7}  {one.task}", style="bad") for one in failing[:6]]
            lines.append(Text(""))
        for title, some in (
            (
                "Reprocessing queue",
                [
                    (f"{one['fact']} → {one['dimension']}", one["entries"], one["age"])
                    for one in self.snapshot.queue
                ],
            ),
            (
                "Quarantine",
                [(one["object"], one["row_count"], one["age"]) for one in self.snapshot.quarantine],
            ),
        ):
            lines.append(Text(title, style="bold"))
            if not some:
                lines.append(Text("empty", style="dim"))
            for name, count, age in some[:6]:
                told = Text(f"{count:>7,}  ", style="warn")
                told.append(output.one_line(name), style="default")
                lines.append(told.append(f"  {output.seconds(age)}", style="dim"))
            lines.append(Text(""))
        if len(self.snapshot.runs) > 1:
            lines.append(Text("Earlier runs", style="bold"))
        for run in self.snapshot.runs[1:]:
            told = Text(f"{run.run_id:>7}  ", style="dim")
            told.append_text(output.status(run.status))
            told.append(f"  {output.seconds(run.seconds)}", style="default")
            lines.append(told.append(f"  {output.plural(run.rows_written, 'row')}", style="dim"))
        return lines


class _Row:
    """A bar with text beside it."""

    def __init__(self, bar: ProgressBar, told: Text) -> None:
        self._bar, self._told = bar, told

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._bar, options)
        yield from self._told.render(console)


def _beside(left: Sequence[RenderableType], right: Sequence[RenderableType], width: int) -> Group:
    """Return two columns of lines as one."""
    room = width - _SIDE - 3
    lines: list[RenderableType] = []
    for place in range(max(len(left), len(right))):
        line = Text(no_wrap=True, overflow="crop")
        part = left[place] if place < len(left) else Text("")
        assert isinstance(part, Text)
        part = part.copy()
        part.truncate(room, overflow="ellipsis", pad=True)
        line.append_text(part).append("   ")
        if place < len(right):
            other = right[place]
            assert isinstance(other, Text)
            other = other.copy()
            other.truncate(_SIDE, overflow="ellipsis")
            line.append_text(other)
        lines.append(line)
    return Group(*lines)


def _count(label: str, count: int, what: str, where: Sequence[str]) -> Text:
    line = Text(label, style="dim", no_wrap=True, overflow="ellipsis")
    if not count:
        return line.append("empty", style="dim")
    line.append(f"{count:,} ", style="warn")
    return line.append(output.one_line(f"{what}: {', '.join(where)}"), style="default")


def _first_line(text: str | None) -> str:
    return output.visible((text or "").partition("\n")[0])


# -- the tree of tasks -----------------------------------------------------------------------------


def task_lines(tasks: Sequence[Task], room: int, width: int = 10**6) -> list[RenderableType]:
    """Return the tasks as a tree by kind, in as many lines as there is room for.

    When room is scarce, kinds that are over or have not begun become one line; then the other
    kinds show what runs, failed or was skipped; then nothing is shown but what failed and what
    runs, and how many more there are. A failed task is never hidden behind another.

    Parameters:
        tasks: tasks of a run, in their order.
        room: number of lines.
        width: columns.
    """
    groups = by_kind(tasks)
    names = max((len(task.object) for task in tasks), default=0)

    def lines(shown: list[list[Task]]) -> list[RenderableType]:
        result: list[RenderableType] = []
        for (kind, group), members in zip(groups, shown, strict=True):
            result.append(_kind_line(kind, group, names, width))
            for place, task in enumerate(members):
                is_last = place == len(members) - 1 and len(members) == len(group)
                result.append(_task_line(task, "└" if is_last else "├", names, width))
            if members and len(members) < len(group):
                result.append(Text(f"└ … {len(group) - len(members)} more", style="dim"))
        return result

    def matters(task: Task) -> bool:
        return task.status in ("running", "failed", "skipped")

    shown = [group for _, group in groups]
    # Quiet kinds first, the longest of them before the others.
    longest_first = sorted(range(len(groups)), key=lambda place: -len(groups[place][1]))
    steps: list[Callable[[list[Task]], list[Task] | None]] = [
        lambda group: None if any(matters(task) for task in group) else [],
        lambda group: [task for task in group if matters(task)],
        lambda group: [task for task in group if task.status == "failed"],
    ]
    for step in steps:
        for place in longest_first:
            found = lines(shown)
            if len(found) <= room:
                return found
            kept = step(groups[place][1])
            shown[place] = shown[place] if kept is None else kept
    found = lines(shown)
    if len(found) <= room:
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
    rest: list[RenderableType] = [
        _task_line(task, " ", names, width) for task in urgent[: max(room - 1, 1)]
    ]
    hidden = max(failed - len(rest), 0)
    word = f"… {hidden} more failed" if hidden else f"… {len(urgent) - len(rest)} more running"
    return [*rest, Text(word, style="bad" if hidden else "dim")][:room]


def _kind_line(kind: str, group: Sequence[Task], names: int, width: int) -> Text:
    over = sum(task.is_over for task in group)
    failed = sum(task.status == "failed" for task in group)
    running = any(task.status == "running" for task in group)
    style = "bad" if failed else "busy" if running else "" if over == len(group) else "dim"
    rows = sum(task.rows for task in group)
    counter = f"{over}/{len(group)}"
    has_room = names + 4 + 9 <= width
    line = Text(f"{kind:<{names + 4}}" if has_room else f"{kind}  ", style=f"bold {style}")
    line.append(
        f"{counter:>9}" if has_room else counter, style="not bold" if over else "not bold dim"
    )
    _append(line, f"{f'{rows:,}' if rows else '':>12}", "not bold dim", width)
    if failed:
        _append(line, f"  {failed} failed", "bad", width)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _task_line(task: Task, branch: str, names: int, width: int) -> Text:
    line = Text(f"{branch} ", style="dim")
    if task.status == "running":
        line.append(f"{_spin()} ", style="busy")
    else:
        mark, style = _MARKS.get(task.status, ("?", ""))
        line.append(f"{mark} ", style=style)
    if task.status in ("failed", "skipped") and task.message:
        # The reason is worth more than how long it took.
        line.append(f"{output.one_line(task.object)}  ", style="default")
        line.append(_first_line(task.message), style="warn")
        line.no_wrap, line.overflow = True, "ellipsis"
        return line
    rows = task.rows
    name = f"{output.one_line(task.object):<{names}}"
    line.append(name, style="dim" if task.status == "pending" else "default")
    _append(line, f"{output.seconds(task.seconds):>9}", "default", width)
    _append(line, f"{f'{rows:,}' if rows else '':>12}", "default", width)
    for count, word in ((task.rows_queued, "queued"), (task.rows_quarantined, "quarantined")):
        if count:
            _append(line, f"  {count:,} {word}", "warn", width)
    _append(line, f"{rate(rows, task.seconds):>13}", "dim", width)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _append(line: Text, words: str, style: str, width: int) -> None:
    """Append words that fit as a whole: a number that is cut reads as another one."""
    if line.cell_len + len(words) <= width:
        line.append(words, style=style)
