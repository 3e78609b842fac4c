"""`oceanrecords demo`: a warehouse from seed to repair."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from base import output, state
from base.connection import Target, resolve
from base.errors import UserError
from base.output import console
from base.server import EmbeddedServer
from driver.demo import BROKEN, DATABASE, Demo, Scale
from driver.live import RunView
from driver.rows import rows_table
from driver.run import Outcome

if TYPE_CHECKING:
    from simulator.actions import TickResult

EXAMPLES = (
    "Examples: oceanrecords demo · oceanrecords demo --keep · oceanrecords demo --orders 200000"
)

_ACTION_LABELS = {
    "place-order": ("order placed", "orders placed"),
    "update-order": ("moved on", "moved on"),
    "change-price": ("price changed", "prices changed"),
    "add-address": ("address added", "addresses added"),
    "launch-product": ("product launched", "products launched"),
}


def demo(
    context: typer.Context,
    orders: Annotated[
        int, typer.Option("--orders", min=1000, max=1_000_000, help="Orders of history.")
    ] = 20_000,
    months: Annotated[int, typer.Option("--months", min=2, max=60, help="Months of history.")] = 24,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the embedded server running.")
    ] = False,
) -> None:
    """Show the whole warehouse: seed, load, play, break, repair, reconcile, report.

    It uses a database of its own, which it creates again each time.
    """
    started = time.monotonic()
    with _server(state.of(context).dsn, keep=keep) as target:
        play = Demo(target, Scale(orders=orders, months=months))
        _prepare(play)
        _load_history(play)
        _play_days(play)
        _break_and_repair(play)
        _prove(play)
        _report(play)
        console.say("\n[ok]●[/] Done in {}.", output.seconds(time.monotonic() - started))
        _what_next(target, keep=keep)


@contextmanager
def _server(dsn: str | None, *, keep: bool) -> Iterator[Target]:
    """Provide the server; stop an embedded one that was not running before."""
    try:
        target = resolve(dsn)
    except UserError:
        if dsn:
            raise
        server = EmbeddedServer()
        started = server.start()
        try:
            yield resolve(None)
        finally:
            if started and not keep:
                server.stop()
        return
    yield target


def _title(text: str, why: str) -> None:
    console.say("\n[title]{}[/]  [quiet]{}[/]", text, why)


def _done(text: str) -> None:
    console.say("  [ok]✓[/] {}", text)


def _prepare(play: Demo) -> None:
    _title("Set up", "a database, and the warehouse in it")
    play.create_database()
    count = play.migrate()
    _done(f"database {DATABASE}: {output.plural(count, 'migration')} applied, routines installed")


def _load_history(play: Demo) -> None:
    _title("History", "the operational system as it has grown")
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("seeding", total=1.0)
        result = play.seed(
            lambda step, share: progress.update(bar, completed=share, description=step)
        )
    _done(
        f"{result.orders:,} orders of {result.customers:,} customers,"
        f" {result.order_lines:,} lines, {result.starts_on:%b %Y} to {result.ends_on:%b %Y}"
    )
    _title("First load", "source, delta, stage, work, dwh: two workers share the tasks")
    with RunView(console, brief=True) as view:
        outcome = play.load(view.follow)
    _loaded(outcome)


def _loaded(outcome: Outcome) -> None:
    one = outcome.run
    sign = {"succeeded": "[ok]✓[/]", "partial": "[warn]![/]"}.get(outcome.status, "[bad]✗[/]")
    said = [f"run {one.run_id} {outcome.status}", f"{one.rows_written:,} rows written"]
    for count, word in ((one.rows_queued, "queued"), (one.rows_quarantined, "quarantined")):
        if count:
            said.append(f"{count:,} {word}")
    said.append(output.seconds(one.seconds))
    console.say(f"  {sign} {{}}", ", ".join(said))


def _play_days(play: Demo) -> None:
    _title("Business", "a few days of it, with a load after each")
    for day in play.days():
        _played(f"{day:%a %d %b}", play.play_day(day))
        _expect(play.load(), "succeeded")


def _played(when: str, done: TickResult) -> None:
    left = dict(done.done)
    parts = [
        output.plural(left.pop(name), *words)
        for name, words in _ACTION_LABELS.items()
        if name in left
    ]
    if left:
        parts.append(output.plural(sum(left.values()), "other change"))
    console.say("  [quiet]{}[/] {}", f"{when:<10}", ", ".join(parts))


def _expect(outcome: Outcome, status: str) -> None:
    _loaded(outcome)
    if outcome.status != status:
        failed = [task for task in outcome.tasks if task.status == "failed"]
        raise UserError(
            f"The run should have ended as {status}.",
            "Details: oceanrecords status",
            detail="; ".join(f"{task.task}: {task.message}" for task in failed),
        )


def _break_and_repair(play: Demo) -> None:
    _title("A failure", f"on purpose: every load of {BROKEN} raises an error, and business goes on")
    play.break_dimension()
    _played("today", play.play_launch())
    outcome = play.load()
    _expect(outcome, "partial")
    for task in outcome.tasks:
        if task.status == "failed":
            console.say("    [bad]✗[/] {}: {}", task.task, task.message)
    waiting = play.queue()
    if not waiting:
        raise UserError("Facts should wait for the dimension that failed, and none does.")
    for entry in waiting:
        console.say(
            "    {} of {} with key -1 in the queue, until {} is loaded",
            output.plural(entry["entries"], "row"), entry["fact"], entry["dimension"],
        )  # fmt: skip
    _title("The repair", "the cause is gone; the next run mends the rest by itself")
    play.repair_dimension()
    _expect(play.load(), "succeeded")
    left = play.queue()
    if left:
        still = ", ".join(
            f"{output.plural(one['entries'], 'row')} of {one['fact']} for {one['dimension']}"
            for one in left
        )
        raise UserError(
            "The repair did not empty the reprocessing queue.",
            "See: oceanrecords queue",
            detail=still,
        )
    _done("the queue is empty")


def _prove(play: Demo) -> None:
    _title("Reconciliation", "the warehouse against the source, computed in the database")
    verdict = play.reconcile()
    if verdict["status"] != "equal":
        raise UserError(
            "The warehouse differs from its source: "
            f"{output.plural(verdict['differences'], 'difference')}.",
            "`oceanrecords reconcile` names them.",
        )
    _done(
        f"{output.plural(verdict['objects'], 'object')}, "
        f"{output.plural(verdict['rows'], 'row')}: no difference"
    )


def _report(play: Demo) -> None:
    _title("Key figures", "as the business sees them")
    rows = play.rows(
        "SELECT kpi, unit, month_to_date, monthly_average, growth_percent, trend FROM kpi.overview"
    )
    console.print(rows_table(rows, indent=2))
    _done(f"the dashboard is in {play.write_dashboard()}: open it in a browser")


def _what_next(target: Target, *, keep: bool) -> None:
    console.print("\n[title]What to try next[/]")
    commands = []
    if target.embedded and not keep:
        commands.append(("oceanrecords db start", "the data is kept"))
    commands += [
        (f'export OCEANRECORDS_DSN="$(oceanrecords db url --database {DATABASE})"', ""),
        ("oceanrecords status", "what ran, how far everything is, what waits"),
        ("oceanrecords simulate tick && oceanrecords run", "more business, and its load"),
        ("oceanrecords sql dim_product", "the SQL of a task"),
        ("oceanrecords dashboard serve", "the dashboard in a browser"),
        ("oceanrecords db stop", ""),
    ]
    for command, why in commands:
        console.say(
            "  {}" + ("  [quiet]# {}[/]" if why else ""), *((command, why) if why else (command,))
        )
