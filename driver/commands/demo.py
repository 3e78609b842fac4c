"""`oceanrecords demo`: from an empty database to a warehouse that has failed and repaired itself.

It works in a database of its own, which it creates again each time, so that it can be repeated or
interrupted at will and touches nothing else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer
from psycopg import conninfo, sql

from base import output, state
from base.connection import Target, connect_to, resolve
from base.errors import UserError
from base.output import console
from base.server import EmbeddedServer
from driver.live import RunView, summary
from driver.migrate import Migrator
from driver.rows import rows_table
from driver.run import Outcome, run
from driver.warehouse import Queued, fetch, rows

# The simulator is imported where it is used: the help of the command would wait for it.
if TYPE_CHECKING:
    from simulator.actions import TickResult

EXAMPLES = (
    "Examples: oceanrecords demo · oceanrecords demo --keep · oceanrecords demo --orders 200000"
)
DATABASE = "oceanrecords_demo"
BROKEN = "dim_product"
_DAYS = 4  # of business after the history, the last of them today
_ROUNDS_A_DAY = 4

_BREAK = """
    CREATE FUNCTION dwh.demo_refusal() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'broken on purpose by the demonstration'; END$$;
    CREATE TRIGGER demo_refusal BEFORE INSERT OR UPDATE ON dwh.dim_product
    EXECUTE FUNCTION dwh.demo_refusal();
"""
_REPAIR = "DROP FUNCTION dwh.demo_refusal() CASCADE"
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
    with _server(state.of(context).dsn, keep=keep) as server:
        given = conninfo.make_conninfo(server.conninfo, dbname=DATABASE)
        target = Target(given, "the demonstration", server.embedded)
        rng = random.Random(42)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        begins = today - timedelta(days=_DAYS)
        _prepare(server, target)
        with connect_to(target) as connection:
            _load_history(target, connection, orders, months, begins)
            _play_days(target, connection, rng, begins)
            _break_and_repair(target, connection, rng)
            _prove(connection)
            _report(connection)
        console.say("\n[ok]●[/] Done in {}.", output.seconds(time.monotonic() - started))
        _what_next(server, keep=keep)


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


def _prepare(server: Target, target: Target) -> None:
    _title("Set up", "a database, and the warehouse in it")
    name = sql.Identifier(DATABASE)
    with connect_to(server) as connection:
        try:
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        except psycopg.errors.InsufficientPrivilege as error:
            raise UserError(
                f"The role {connection.info.user} may not create the database {DATABASE}, "
                "in which the demonstration plays.",
                "ALTER ROLE … CREATEDB, or leave --dsn out and use the embedded server.",
            ) from error
    count = output.plural(len(Migrator(target).apply()), "migration")
    _done(f"database {DATABASE}: {count} applied, routines installed")


def _load_history(
    target: Target,
    connection: psycopg.Connection[Any],
    orders: int,
    months: int,
    ends: datetime,
) -> None:
    from driver.commands.simulate import progress_bar
    from simulator.seed import seed

    _title("History", "the operational system as it has grown")
    with progress_bar(console) as advance:
        result = seed(connection, orders=orders, months=months, until=ends.date(), progress=advance)
    _done(
        f"{result.orders:,} orders of {result.customers:,} customers,"
        f" {result.order_lines:,} lines, {result.starts_on:%b %Y} to {result.ends_on:%b %Y}"
    )
    _title("First load", "source, delta, stage, work, dwh: two workers share the tasks")
    with RunView(console, brief=True) as view:
        _loaded(run(target, workers=2, follow=view.follow))


def _loaded(outcome: Outcome) -> None:
    sign = {"succeeded": "[ok]✓[/]", "partial": "[warn]![/]"}.get(outcome.status, "[bad]✗[/]")
    one = outcome.run
    console.say(f"  {sign} {{}}", f"run {one.run_id} {outcome.status}: {summary(one)}")


def _play_days(
    target: Target, connection: psycopg.Connection[Any], rng: random.Random, begins: datetime
) -> None:
    from simulator.actions import TickPlan, TickResult, tick

    _title("Business", "a few days of it, with a load after each")
    plan = TickPlan(span=timedelta(hours=12) / _ROUNDS_A_DAY)
    for number in range(_DAYS):
        day = begins + timedelta(days=number)
        clocks = (day + timedelta(hours=9) + place * plan.span for place in range(_ROUNDS_A_DAY))
        done = (tick(connection, plan, rng, clock) for clock in clocks)
        _played(f"{day:%a %d %b}", sum(done, TickResult()))
        _expect(target, "succeeded")


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


def _expect(target: Target, status: str) -> Outcome:
    outcome = run(target, workers=2)
    _loaded(outcome)
    if outcome.status != status:
        failed = [task for task in outcome.tasks if task.status == "failed"]
        raise UserError(
            f"The run should have ended as {status}.",
            "Details: oceanrecords status",
            detail="; ".join(f"{task.task}: {task.message}" for task in failed),
        )
    return outcome


def _break_and_repair(
    target: Target, connection: psycopg.Connection[Any], rng: random.Random
) -> None:
    from simulator.actions import TickPlan, tick

    _title("A failure", f"on purpose: every load of {BROKEN} raises an error, and business goes on")
    connection.execute(_BREAK)
    _played("today", tick(connection, TickPlan(products=3, orders=40, prices=5), rng))
    for task in _expect(target, "partial").tasks:
        if task.status == "failed":
            console.say("    [bad]✗[/] {}: {}", task.task, task.message)
    waiting = fetch(connection, Queued, "ORDER BY fact, dimension")
    if not waiting:
        raise UserError("Facts should wait for the dimension that failed, and none does.")
    for entry in waiting:
        console.say(
            "    {} of {} with key -1 in the queue, until {} is loaded",
            output.plural(entry.entries, "row"), entry.fact, entry.dimension,
        )  # fmt: skip
    _title("The repair", "the cause is gone; the next run mends the rest by itself")
    connection.execute(_REPAIR)
    _expect(target, "succeeded")
    left = fetch(connection, Queued, "ORDER BY fact, dimension")
    if left:
        waiting_for = (f"{output.plural(one.entries, 'row')} of {one.fact}" for one in left)
        raise UserError(
            "The repair did not empty the reprocessing queue.",
            "See: oceanrecords queue",
            detail=", ".join(waiting_for),
        )
    _done("the queue is empty")


def _prove(connection: psycopg.Connection[Any]) -> None:
    _title("Reconciliation", "the warehouse against the source, computed in the database")
    connection.execute("CALL etl.reconcile()")
    (verdict,) = rows(
        connection,
        "SELECT overall_status AS status, overall_differences AS differences,"
        " count(*) AS objects, sum(expected_rows) AS rows"
        " FROM etl.reconciliation_status GROUP BY 1, 2",
    )
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


def _report(connection: psycopg.Connection[Any]) -> None:
    from metabase import definition, preview

    _title("KPIs", "as the business sees them")
    columns = "kpi, unit, month_to_date, monthly_average, growth_percent, trend"
    shown = rows(connection, f"SELECT {columns} FROM kpi.overview")  # noqa: S608
    console.print(rows_table(shown, indent=2))
    page = EmbeddedServer().home / "dashboard.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    preview.write(preview.render(connection, definition.load()), page)
    _done(f"the dashboard is in {page}: open it in a browser")


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
        console.say("  {}" + ("  [quiet]# {}[/]" if why else ""), *filter(None, (command, why)))
