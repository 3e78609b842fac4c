"""The command `oceanrecords`: the root of all commands, and the one place where errors are told."""

from __future__ import annotations

import importlib.util
import os
from typing import Annotated, Any

import psycopg
import typer
from typer.core import TyperGroup

from driver import __version__
from driver.commands import db, doctor, migrate, run, status
from driver.errors import EXIT_INTERRUPTED, UserError, from_database
from driver.output import console, error_console, print_error
from driver.state import State


class RootGroup(TyperGroup):
    """Tells every error as a sentence with a hint, and never shows a traceback.

    OCEANRECORDS_DEBUG=1 shows it all the same.
    """

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
        console.print(f"oceanrecords {__version__}")
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


app.add_typer(db.app, name="db", rich_help_panel="Set up")
app.command("migrate", rich_help_panel="Set up", epilog=migrate.EXAMPLES)(migrate.migrate)
app.command("doctor", rich_help_panel="Set up", epilog=doctor.EXAMPLES)(doctor.doctor)

app.command("run", rich_help_panel="Load", epilog=run.EXAMPLES)(run.run)
app.command("status", rich_help_panel="Look", epilog=status.STATUS_EXAMPLES)(status.status)
app.command("queue", rich_help_panel="Look", epilog=status.QUEUE_EXAMPLES)(status.queue)
app.command("sql", rich_help_panel="Look", epilog=status.SQL_EXAMPLES)(status.sql)
app.command("kpi", rich_help_panel="Look", epilog=status.KPI_EXAMPLES)(status.kpi)

# The other packages' commands; each is one module that defines `app`.
for _name, _module, _panel in (
    ("simulate", "simulator.cli", "Operational system"),
    ("metabase", "metabase.cli", "Dashboard"),
    ("dashboard", "metabase.preview_cli", "Dashboard"),
):
    if importlib.util.find_spec(_module) is None:
        continue
    app.add_typer(importlib.import_module(_module).app, name=_name, rich_help_panel=_panel)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
