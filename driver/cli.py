"""The command `oceanrecords`: the root of all commands, and the one place where errors are told."""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Any

import psycopg
import typer
from typer.core import TyperGroup

from driver import users, version
from driver.commands import (
    check,
    db,
    demo,
    docs,
    doctor,
    migrate,
    reconcile,
    run,
    schedule,
    source,
    status,
    trace,
)
from driver.errors import EXIT_INTERRUPTED, UserError, from_database
from driver.forget import EXAMPLES as FORGET_EXAMPLES
from driver.forget import forget
from driver.output import console, error_console, print_error
from driver.state import State

# Commands of other packages, each a module that defines `app`: its panel of the help and what it is
# for. They are imported when they are called: the other commands do not pay for what they need.
_SUB_APPS = {
    "simulate": (
        "simulator.cli",
        "Operational system",
        "Fill the operational system with history, and keep it moving.",
    ),
    "metabase": (
        "metabase.cli",
        "Dashboard",
        "Put the dashboard into Metabase, and keep it there as the files say.",
    ),
    "dashboard": (
        "metabase.preview_cli",
        "Dashboard",
        "See the dashboard without Metabase.",
    ),
}


class RootGroup(TyperGroup):
    """Tells every error as a sentence with a hint, and never shows a traceback.

    OCEANRECORDS_DEBUG=1 shows it all the same.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands in the order of the help."""
        return [*super().list_commands(ctx), *_SUB_APPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; for one of another package, what the help says of it."""
        if cmd_name not in _SUB_APPS:
            return super().get_command(ctx, cmd_name)
        _, panel, purpose = _SUB_APPS[cmd_name]
        return TyperGroup(name=cmd_name, help=purpose, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments call, importing its package if need be."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in _SUB_APPS:
            command = typer.main.get_group(importlib.import_module(_SUB_APPS[name][0]).app)
            command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:  # Typer's own click, or click itself
        """Run the command, and turn what it raises into a message and an exit status."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _maybe_debug()
            print_error(error)
            raise typer.Exit(error.exit_code) from error
        except psycopg.Error as error:
            _maybe_debug()
            print_error(from_database(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            error_console.print("interrupted", style="warn")
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError:
            raise
        except Exception as error:
            if _belongs_to_click(error):
                raise
            _maybe_debug()
            print_error(
                UserError(
                    f"Something unforeseen happened: {type(error).__name__}: {error}",
                    "This is a fault of the program. OCEANRECORDS_DEBUG=1 shows where it happened.",
                )
            )
            raise typer.Exit(1) from error


def _belongs_to_click(error: Exception) -> bool:
    """Tell usage errors and exits, which Typer (or the click it uses) shows itself."""
    return any(base.__module__.split(".")[0] in ("typer", "click") for base in type(error).__mro__)


def _maybe_debug() -> None:
    if os.environ.get("OCEANRECORDS_DEBUG"):
        error_console.print_exception()


app = typer.Typer(
    name="oceanrecords",
    cls=RootGroup,
    help="The OceanRecords warehouse: star schemas with history, loaded inside PostgreSQL.",
    epilog="Start with: oceanrecords demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"oceanrecords {version()}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="DSN",
            help="Database to work on: postgresql://user@host/database, or libpq's key=value form. "
            "Otherwise OCEANRECORDS_DSN, then PG* variables, then the embedded server.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that all commands share."""
    context.obj = State(dsn=dsn)


app.command("demo", rich_help_panel="Set up", epilog=demo.EXAMPLES)(demo.demo)
app.add_typer(db.app, name="db", rich_help_panel="Set up")
app.command("migrate", rich_help_panel="Set up", epilog=migrate.EXAMPLES)(migrate.migrate)
app.command("doctor", rich_help_panel="Set up", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(source.app, name="source", rich_help_panel="Set up")
app.add_typer(users.app, name="users", rich_help_panel="People")
app.command("forget", rich_help_panel="People", epilog=FORGET_EXAMPLES)(forget)

app.command("run", rich_help_panel="Load", epilog=run.EXAMPLES)(run.run)
app.add_typer(schedule.app, name="schedule", rich_help_panel="Load")
app.command("status", rich_help_panel="Look", epilog=status.STATUS_EXAMPLES)(status.status)
app.command("queue", rich_help_panel="Look", epilog=status.QUEUE_EXAMPLES)(status.queue)
app.command("quarantine", rich_help_panel="Look", epilog=status.QUARANTINE_EXAMPLES)(
    status.quarantine
)
app.command("check", rich_help_panel="Look", epilog=check.EXAMPLES)(check.check)
app.command("reconcile", rich_help_panel="Look", epilog=reconcile.EXAMPLES)(reconcile.reconcile)
app.command("docs", rich_help_panel="Look", epilog=docs.EXAMPLES)(docs.docs)
app.command("trace", rich_help_panel="Look", epilog=trace.EXAMPLES)(trace.trace_command)
app.command("sql", rich_help_panel="Look", epilog=status.SQL_EXAMPLES)(status.sql)
app.command("kpi", rich_help_panel="Look", epilog=status.KPI_EXAMPLES)(status.kpi)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
