"""The command `oceanrecords`: the root of all commands, and the one place where errors are told."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
import typer
from typer.core import TyperGroup

from driver import version
from driver.errors import EXIT_INTERRUPTED, UserError, from_database
from driver.output import console, error_console, print_error
from driver.state import State


@dataclass(frozen=True)
class _Command:
    """Where a command is. It is imported when it is called: no other pays for what it needs.

    Attributes:
        panel: of the help.
        module: the module.
        function: its function; None when the module defines a group of commands, `app`.
        examples: name of what is shown below the function's help.
        purpose: what the help says of a group whose packages are slow to import.
    """

    panel: str
    module: str
    function: str | None = None
    examples: str = "EXAMPLES"
    purpose: str | None = None

    def load(self, name: str) -> Any:
        """Return the command by the name that it goes by."""
        module = importlib.import_module(self.module)
        if self.function is None:
            command: Any = typer.main.get_group(module.app)
            command.name = name
        else:
            alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
            alone.command(name, epilog=getattr(module, self.examples))(
                getattr(module, self.function)
            )
            command = typer.main.get_command(alone)
        command.rich_help_panel = self.panel
        return command


_COMMANDS = {
    "demo": _Command("Set up", "driver.commands.demo", "demo"),
    "db": _Command("Set up", "driver.commands.db"),
    "migrate": _Command("Set up", "driver.commands.migrate", "migrate"),
    "doctor": _Command("Set up", "driver.commands.doctor", "doctor"),
    "source": _Command("Set up", "driver.commands.source"),
    "users": _Command("People", "driver.users"),
    "forget": _Command("People", "driver.forget", "forget"),
    "run": _Command("Load", "driver.commands.run", "run"),
    "plan": _Command("Load", "driver.commands.plan", "plan"),
    "schedule": _Command("Load", "driver.commands.schedule"),
    "status": _Command("Look", "driver.commands.status", "status", "STATUS_EXAMPLES"),
    "queue": _Command("Look", "driver.commands.status", "queue", "QUEUE_EXAMPLES"),
    "quarantine": _Command("Look", "driver.commands.status", "quarantine", "QUARANTINE_EXAMPLES"),
    "check": _Command("Look", "driver.commands.check", "check"),
    "reconcile": _Command("Look", "driver.commands.reconcile", "reconcile"),
    "docs": _Command("Look", "driver.commands.docs", "docs"),
    "trace": _Command("Look", "driver.commands.trace", "trace_command"),
    "sql": _Command("Look", "driver.commands.status", "sql", "SQL_EXAMPLES"),
    "kpi": _Command("Look", "driver.commands.status", "kpi", "KPI_EXAMPLES"),
    "simulate": _Command(
        "Operational system",
        "simulator.cli",
        purpose="Fill the operational system with history, and keep it moving.",
    ),
    "metabase": _Command(
        "Dashboard",
        "metabase.cli",
        purpose="Put the dashboard into Metabase, and keep it there as the files say.",
    ),
    "dashboard": _Command(
        "Dashboard",
        "metabase.preview_cli",
        purpose="See the dashboard without Metabase.",
    ),
}


class RootGroup(TyperGroup):
    """Tells every error as a sentence with a hint, and never shows a traceback.

    OCEANRECORDS_DEBUG=1 shows it all the same.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # What is listed, and what a misspelt name is held against.
        self.commands.update({name: TyperGroup(name=name) for name in _COMMANDS})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or of one that is slow to import what the help says of it."""
        found = _COMMANDS.get(cmd_name)
        if found is None:
            return super().get_command(ctx, cmd_name)
        if found.purpose is None:
            return found.load(cmd_name)
        return TyperGroup(name=cmd_name, help=found.purpose, rich_help_panel=found.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments call."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and _COMMANDS[name].purpose is not None:
            command = _COMMANDS[name].load(name)
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
