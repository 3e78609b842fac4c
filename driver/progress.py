"""Shows a run while it works: a calm live area on a terminal, a line a finished task elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from driver import output
from driver.run import Event

# Kinds with many small tasks, told in one line when the last of them is done.
_GROUPED = {"extract": ("extracted", "extracting"), "stage": ("staged", "staging")}
# Kinds that change no rows, and what they go through instead.
_WENT_THROUGH = {"constrain": "foreign key", "check": "check"}
# The longest names of tasks that there are, and a blank; a longer one still gets its blanks.
NAME_WIDTH = 30


class Progress:
    """Tells the events of one run.

    Parameters:
        console: where to.
        brief: tell failures only (for runs that repeat).
    """

    def __init__(self, console: Console, *, brief: bool = False) -> None:
        self._console = console
        self._brief = brief
        self._live: Live | None = None
        self._to_do: Counter[str] = Counter()
        self._total = 0
        self._done = 0
        self._running: dict[str, float] = {}
        self._rows: Counter[str] = Counter()
        self._group_start: dict[str, float] = {}
        self._started = time.monotonic()
        self._run_id = 0
        self._spinner = Spinner("dots", style="busy")

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._brief:
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

    def start(self, run_id: int, to_do: dict[str, int]) -> None:
        """Learn the run's number and how many tasks of each kind are to be done."""
        self._run_id = run_id
        self._to_do = Counter(to_do)
        self._total = sum(to_do.values())
        if not self._brief and not self._live:
            self._console.print(f"run {run_id}: {self._total} tasks")

    def tell(self, event: Event) -> None:
        """Show an event."""
        if event.task is None or event.kind is None:
            return
        name = event.task.removeprefix(f"{event.kind}:")
        if event.status == "running":
            self._running[event.task] = time.monotonic()
            self._group_start.setdefault(event.kind, time.monotonic())
            return
        self._running.pop(event.task, None)
        if event.status == "pending":
            self._print(self._line("↻", "warn", name, f"again, after: {event.message}"))
            return
        self._done += 1
        self._to_do[event.kind] -= 1
        if event.status == "failed":
            self._print(self._line("✗", "bad", name, event.message or "failed"))
        elif event.kind in _GROUPED:
            self._rows[event.kind] += sum(
                event.rows.get(done, 0) for done in ("inserted", "updated", "deleted")
            )
        elif not self._brief:
            line = self._line("✓", "ok", name, _told(event))
            line.append(f"  {output.seconds(event.seconds)}", style="dim")
            self._print(line)
        if event.kind in _GROUPED and self._to_do[event.kind] == 0 and not self._brief:
            # Tasks with nothing to do end without a word of their start.
            now = time.monotonic()
            took = now - self._group_start.get(event.kind, now)
            line = self._line("✓", "ok", _GROUPED[event.kind][0], _rows(self._rows[event.kind]))
            line.append(f"  {output.seconds(took)}", style="dim")
            self._print(line)

    def _line(self, mark: str, style: str, name: str, said: str) -> Text:
        line = Text(f"{mark} ", style=self._console.get_style(style))
        line.append(padded(name), style="default")
        line.append(said, style="default")
        return line

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _at_work(self) -> list[tuple[str, float]]:
        """Return what runs and since when; tasks of a grouped kind are one entry."""
        entries: dict[str, float] = {}
        for task, since in list(self._running.items()):
            kind, _, name = task.rpartition(":")
            label = _GROUPED[kind][1] if kind in _GROUPED else name
            entries[label] = min(since, entries.get(label, since))
        return list(entries.items())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the live area: what runs, and how far the run is."""
        now = time.monotonic()
        for name, since in self._at_work():
            self._spinner.update(
                text=Text.assemble(padded(name), (output.seconds(now - since), "dim"))
            )
            yield self._spinner.render(console.get_time())
        if self._total:
            yield Text(
                f"  run {self._run_id} · {self._done} of {self._total} tasks"
                f" · {output.seconds(now - self._started)}",
                style="dim",
            )


def padded(name: str) -> str:
    """Return a name with blanks up to where the next column begins, two at least."""
    return f"{name:<{NAME_WIDTH - 2}}  "


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}" if count else "no change"


def _told(event: Event) -> str:
    if event.kind in _WENT_THROUGH:
        count = event.rows.get("read", 0)
        # Foreign keys that were made again already, before the rows came.
        number = f"{count:,}" if count or event.kind != "constrain" else "no more"
        return f"{number} {_WENT_THROUGH[event.kind]}{'s' if count != 1 else ''}"
    return counts(event.rows)


def counts(rows: dict[str, int]) -> str:
    """Return what a task did with its rows: '12 new, 3 changed', or 'no change'."""
    words = (
        ("inserted", "new"),
        ("updated", "changed"),
        ("deleted", "deleted"),
        ("queued", "queued"),
    )
    told = [f"{rows[key]:,} {word}" for key, word in words if rows.get(key)]
    return ", ".join(told) or "no change"
