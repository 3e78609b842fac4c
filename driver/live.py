"""A run while it works: a line per finished task, and below them what runs.

It draws rows of etl.task_run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from base import output
from base.mode import mode
from driver.warehouse import Run, Task, by_kind

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_NAME_WIDTH = 28  # the longest usual name of an object
_ROOM_FOR_NAMES = 60  # columns from which names are padded
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
        yield from running_lines(self._tasks)
        if self._tasks:
            yield Text(f"  run {self._run_id} · {progress(self._tasks)}", style="dim")


def running_lines(tasks: Sequence[Task]) -> list[Text]:
    """Return a line for each task that runs, with its time; extractions and merges share one."""
    now = datetime.now().astimezone()
    running = {
        _GROUPED.get(task.kind, ("", task.object))[1]: task
        for task in tasks
        if task.status == "running"
    }
    lines = []
    for label, task in list(running.items())[:8]:
        line = Text(f"{_spin()} ", style="busy")
        line.append(_padded(label), style="default")
        if task.started_at is not None:
            line.append(output.seconds(max((now - task.started_at).total_seconds(), 0)), "dim")
        if task.waits_for:
            line.append(f"  waits for a lock. {output.one_line(task.waits_for)}", "warn")
        lines.append(line)
    return lines


def progress(tasks: Sequence[Task]) -> str:
    """Return how far a run is: '32 of 44 tasks'."""
    return f"{sum(task.is_over for task in tasks)} of {output.plural(len(tasks), 'task')}"


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
