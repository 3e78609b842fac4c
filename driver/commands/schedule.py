"""`oceanrecords schedule`: runs on a schedule, by pg_cron."""

from __future__ import annotations

from typing import Annotated, Any

import psycopg
import typer
from psycopg import conninfo, sql
from rich.text import Text

from base import output, state
from base.connection import Target, connect_to, resolve
from base.errors import UserError, from_database
from base.options import JsonOption, LimitOption
from base.output import console, emit
from driver.warehouse import Job, Start, fetch

app = typer.Typer(
    help="Runs on a schedule, by pg_cron.",
    no_args_is_help=True,
    epilog="Without pg_cron: oceanrecords run --every 5m",
)
_STYLES = {"started": "ok", "joined": "ok", "left": "quiet", "failed": "bad"}


@app.command(
    epilog="Examples: oceanrecords schedule install --every '5 minutes' --workers 2 · "
    "oceanrecords schedule install --every '*/10 6-22 * * 1-5'"
)
def install(
    context: typer.Context,
    every: Annotated[
        str,
        typer.Option(
            "--every",
            metavar="TIME",
            help="'1 minute', '5 minutes', '1 hour', '30 seconds' (from pg_cron 1.5 on), "
            "or a cron expression.",
        ),
    ] = "5 minutes",
    workers: Annotated[
        int,
        typer.Option("--workers", "-w", min=1, max=64, help="Jobs that share the tasks of a run."),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Install the schedule, or change the existing one."""
    target = resolve(state.of(context).dsn)
    with connect_to(target) as connection:
        statements = connection.execute(
            "SELECT cron_database, statement FROM etl.schedule_statements(%s, %s)", [every, workers]
        ).fetchall()
        is_elsewhere = _execute_in(target, connection, statements) is not None
        connection.execute(
            "SELECT etl.schedule_install(%s, %s, %s)", [every, workers, is_elsewhere]
        )
        answer = _jobs(connection)
    emit(answer, as_json=as_json, render=_render_installed)


@app.command("list", epilog="Examples: oceanrecords schedule list --json")
def list_jobs(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the schedule and the last start of each job."""
    with connect_to(resolve(state.of(context).dsn)) as connection:
        answer = _jobs(connection)
    emit(answer, as_json=as_json, render=_render_list)


@app.command(epilog="Examples: oceanrecords schedule remove")
def remove(context: typer.Context, as_json: JsonOption = False) -> None:
    """Remove the schedule. A live run goes on."""
    target = resolve(state.of(context).dsn)
    with connect_to(target) as connection:
        statements = connection.execute("SELECT * FROM etl.unschedule_statement()").fetchall()
        removed = _execute_in(target, connection, statements)
        row = connection.execute("SELECT etl.schedule_remove(%s)", [removed is not None]).fetchone()
        if removed is None and row is not None:
            removed = row[0]
    emit({"removed_jobs": removed or 0}, as_json=as_json, render=_render_removed)


@app.command(epilog="Examples: oceanrecords schedule history --limit 50")
def history(
    context: typer.Context,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the last starts, also those that did nothing because a run was running."""
    with connect_to(resolve(state.of(context).dsn)) as connection:
        answer = fetch(connection, Start, "ORDER BY start_id DESC LIMIT %s", limit)
    emit(answer, as_json=as_json, render=_render_history)


def _jobs(connection: psycopg.Connection) -> list[Job]:
    return fetch(connection, Job, "ORDER BY worker")


def _execute_in(
    target: Target, own: psycopg.Connection, statements: list[tuple[Any, ...]]
) -> int | None:
    """Execute statements in the database of pg_cron if that is another one, all or none.

    Parameters:
        target: the warehouse's database.
        own: a connection to it.
        statements: database of pg_cron, and statement.

    Returns:
        The number that the last one returned; None if pg_cron is in the warehouse's database.
    """
    database = statements[0][0]
    if database == own.info.dbname:
        return None
    other = Target(conninfo.make_conninfo(target.conninfo, dbname=database), target.origin)
    with connect_to(other, autocommit=False) as connection:
        if not connection.execute(
            "SELECT 1 FROM pg_extension WHERE extname = 'pg_cron'"
        ).fetchone():
            raise UserError(
                f'pg_cron is loaded, but does not exist in database "{database}".',
                f"In that database: CREATE EXTENSION pg_cron;  (by {target.origin})",
            )
        row: tuple[Any, ...] | None = None
        try:
            for _, statement in statements:
                row = connection.execute(statement.encode()).fetchone()
        except psycopg.errors.InsufficientPrivilege as error:
            role = sql.Identifier(connection.info.user).as_string(connection)
            raise UserError(
                f'Role "{connection.info.user}" may not schedule jobs of pg_cron.',
                f'Let a superuser do, in database "{database}": '
                f"GRANT USAGE ON SCHEMA cron TO {role}; "
                f"GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO {role};",
                detail=str(error.diag.message_primary),
            ) from error
        except psycopg.Error as error:
            raise from_database(error, context=f"In database {database}") from error
    return int(row[0]) if row and row[0] is not None else 0


def _render_installed(answer: list[Job]) -> None:
    one = answer[0]
    jobs = f"{len(answer)} workers share it" if len(answer) > 1 else "one worker"
    console.say(
        "[ok]✓[/] A run every {}, in time zone {}, {}  [quiet]{}[/]",
        one.every,
        one.time_zone,
        jobs,
        one.cron_schedule,
    )
    console.print("[quiet]oceanrecords schedule history shows the starts[/]")


def _render_list(answer: list[Job]) -> None:
    if not answer:
        console.print("Nothing is scheduled.")
        console.print("[quiet]oceanrecords schedule install --every '5 minutes'[/]")
        return
    console.print(_list_table(answer))
    for one in answer:
        fired, failed = one.last_fired_at, one.cron_error_at
        if one.cron_error and (fired is None or (failed is not None and failed >= fired)):
            line = Text(f"  worker {one.worker}: ", style="dim")
            line.append(f"pg_cron says: {one.cron_error.strip()}", style="bad")
            console.print(line, soft_wrap=True)


def _list_table(answer: list[Job]) -> output.Table:
    first = answer[0]
    table = output.table(
        "worker", "active", "last start", "what it did",
        title=f"A run every {first.every}, in time zone {first.time_zone}  "
        f"({first.cron_schedule}; "
        f"pg_cron in database {first.cron_database})",
        wrap=("what it did",),
    )  # fmt: skip
    for one in answer:
        word, style = "elsewhere", "dim"
        if one.is_active is not None:
            word, style = ("yes", "ok") if one.is_active else ("no", "warn")
        table.add_row(
            one.worker,
            Text(word, style=style),
            one.last_fired_at or Text("not yet", style="dim"),
            Text(one.last_message or "", style=_STYLES.get(one.last_outcome or "", "")),
        )
    return table


def _render_removed(answer: dict[str, int]) -> None:
    count = answer["removed_jobs"]
    if count:
        console.say("[ok]✓[/] {} removed", output.plural(count, "job"))
    else:
        console.print("Nothing was scheduled.")


def _render_history(answer: list[Start]) -> None:
    if not answer:
        console.print("The schedule has not started a run yet.")
        return
    table = output.table(
        "start", "worker", "", "what it did", "run ended", "took", "rows",
        title="Starts", right=("took", "rows"), wrap=("what it did",),
    )  # fmt: skip
    for one in answer:
        ended: tuple[object, ...] = ()
        if one.outcome in ("started", "joined"):
            took = output.duration(one.run_seconds)
            ended = (output.status(one.run_status), took, one.rows_written)
        style = _STYLES[one.outcome]
        table.add_row(one.fired_at, one.worker, Text(one.outcome, style=style), one.message, *ended)
    console.print(table)
