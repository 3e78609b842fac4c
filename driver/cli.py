"""The command `oceanrecords`: the root of all commands, and the place where errors are shown."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from base import version
from base.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError, from_database
from base.mode import mode
from base.state import State, needs


@dataclass(frozen=True)
class _Command:
    """Place of a command. Its module is imported when the command is called.

    Attributes:
        panel: of the help.
        module: the module.
        function: its function; None when the module defines a group of commands, `app`.
        purpose: what the help says of a group whose packages are slow to import.
    """

    panel: str
    module: str
    function: str | None = None
    purpose: str | None = None

    def load(self, name: str) -> Any:
        """Return the command by the name that it goes by."""
        module = importlib.import_module(self.module)
        if self.function is None:
            command: Any = typer.main.get_group(module.app)
            command.name = name
        else:
            alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
            alone.command(name, epilog=module.EXAMPLES)(getattr(module, self.function))
            command = typer.main.get_command(alone)
        command.rich_help_panel = self.panel
        return _legible(command)


# What a value looks like where an option has no word of its own for it.
_METAVARS = {"int": "N", "int range": "N", "float": "N", "str": "TEXT", "path": "PATH"}


def _legible(command: Any) -> Any:
    """Return a command whose help fits a terminal: an example a line, and nothing that is cut."""
    for one in getattr(command, "commands", {}).values():
        _legible(one)
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    ends = [re.sub(r"^(Examples?): |( · )", _example, command.epilog)] if command.epilog else []
    variables = []
    for one in command.params:
        if one.param_type_name == "option" and not one.is_flag and one.metavar is None:
            one.metavar = _METAVARS.get(one.type.name)
        if getattr(one, "envvar", None):
            one.show_envvar = False  # the table of options would cut a long name
            variables.append(f"{one.envvar}: {one.opts[0]}")
    if variables:
        ends.append("\n".join(["Variables in place of options:", *variables]))
    command.epilog = "\n\n".join(ends) or None
    return command


def _example(match: re.Match[str]) -> str:
    return f"{match[1]}:\n" if match[1] else "\n"


_COMMANDS = {
    "demo": _Command("Set up", "driver.commands.demo", "demo"),
    "db": _Command("Set up", "driver.commands.db"),
    "migrate": _Command("Set up", "driver.commands.migrate", "migrate"),
    "new": _Command("Set up", "driver.commands.new", "new"),
    "export-history": _Command("Set up", "driver.commands.history", "export_history"),
    "import-history": _Command("Set up", "driver.commands.history", "import_history"),
    "doctor": _Command("Set up", "driver.commands.doctor", "doctor"),
    "source": _Command("Set up", "driver.commands.source"),
    "settings": _Command("Set up", "driver.commands.settings"),
    "users": _Command("People", "driver.commands.users"),
    "forget": _Command("People", "driver.commands.forget", "forget"),
    "run": _Command("Load", "driver.commands.run", "run"),
    "plan": _Command("Load", "driver.commands.plan", "plan"),
    "seed": _Command("Load", "driver.commands.seed", "seed"),
    "schedule": _Command("Load", "driver.commands.schedule"),
    "status": _Command("Look", "driver.commands.status", "status"),
    "ls": _Command("Look", "driver.commands.ls", "ls"),
    "queue": _Command("Look", "driver.commands.queue", "queue"),
    "quarantine": _Command("Look", "driver.commands.quarantine", "quarantine"),
    "check": _Command("Look", "driver.commands.check", "check"),
    "reconcile": _Command("Look", "driver.commands.reconcile", "reconcile"),
    "docs": _Command("Look", "driver.commands.docs"),
    "test": _Command("Look", "driver.commands.test", "run_tests"),
    "trace": _Command("Look", "driver.commands.trace", "trace_command"),
    "sql": _Command("Look", "driver.commands.sql", "sql"),
    "kpi": _Command("Look", "driver.commands.kpi", "kpi"),
    "simulate": _Command(
        "Operational system",
        "driver.commands.simulate",
        purpose="Fill the operational system with history, and simulate its business.",
    ),
    "metabase": _Command(
        "Dashboard",
        "driver.commands.metabase",
        purpose="Provision the dashboard in Metabase, and keep it as the files define it.",
    ),
    "dashboard": _Command(
        "Dashboard",
        "driver.commands.dashboard",
        purpose="Show the dashboard without Metabase.",
    ),
}


class RootGroup(TyperGroup):
    """Shows every error as a sentence with a hint, and as JSON where JSON was asked for.

    OCEANRECORDS_DEBUG=1 shows the traceback as well.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # For the help, and for suggestions for a misspelt name.
        self.commands.update({name: TyperGroup(name=name) for name in _COMMANDS})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; for one that is slow to import, only its help."""
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

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run the command line, with usage errors in the form that was asked for."""
        given = list(sys.argv[1:] if args is None else args)
        mode.json = _has(given, "--json")
        mode.quiet = _has(given, "--quiet")
        if mode.quiet and not _is_psql(given):
            given.remove("--quiet")  # it goes anywhere, before or behind the command
        if not mode.json or not options.get("standalone_mode", True):
            return super().main(given, *rest, **options)
        try:
            status = super().main(given, *rest, **{**options, "standalone_mode": False})
        except Exception as error:
            if not _belongs_to_click(error):
                raise
            said = getattr(error, "format_message", lambda: "The command was aborted.")()
            status = getattr(error, "exit_code", 1)
            _print_error(UserError(said, _usage_hint(error), status))
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:  # Typer's own click, or click itself
        """Run the command, and turn what it raises into a message and an exit status."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _maybe_debug()
            _print_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            _print_interrupted()
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError:
            raise
        except Exception as error:
            if _belongs_to_click(error):
                raise
            _maybe_debug()
            _print_error(_as_user_error(error))
            raise typer.Exit(1) from error


def _has(arguments: Sequence[str], option: str) -> bool:
    """Return whether an option is among the arguments, before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return option in arguments[:end]


def _is_psql(arguments: Sequence[str]) -> bool:
    """Return whether the command is `db psql`, whose further arguments are psql's."""
    return any(pair == ("db", "psql") for pair in pairwise(arguments))


def _usage_hint(error: Exception) -> str | None:
    context = getattr(error, "ctx", None)
    return f"Try: {context.command_path} --help" if context is not None else None


def _belongs_to_click(error: Exception) -> bool:
    """Return whether an error is a usage error or exit, which Typer shows itself."""
    return any(base.__module__.split(".")[0] in ("typer", "click") for base in type(error).__mro__)


def _as_user_error(error: Exception) -> UserError:
    psycopg = sys.modules.get("psycopg")  # a module that is not imported raised nothing
    if psycopg is not None and isinstance(error, psycopg.Error):
        return from_database(error)
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename} cannot be used: {error.strerror}.")
    return UserError(
        f"internal error: {type(error).__name__}: {error}",
        "This is a bug. Set OCEANRECORDS_DEBUG=1 to print the traceback.",
        code="internal",
    )


def _print_error(error: UserError) -> None:
    from base.output import print_error  # a command that succeeds may print nothing

    print_error(error)


def _print_interrupted() -> None:
    if mode.json:
        _print_error(UserError("The command was interrupted.", exit_code=EXIT_INTERRUPTED))
        return
    from base.output import error_console

    error_console.print("interrupted", style="warn")


def _maybe_debug() -> None:
    if os.environ.get("OCEANRECORDS_DEBUG"):
        from base.output import error_console

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


def _target_names() -> list[str]:
    from base import targets

    try:
        return [one.name for one in targets.read()]
    except UserError:
        return []


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oceanrecords {version()}")
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
            "Otherwise OCEANRECORDS_DSN, OCEANRECORDS_TARGET, PG* variables, the default target, "
            "the embedded server.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="Database by its name in oceanrecords.toml, or in ~/.config/oceanrecords/.",
            autocompletion=_target_names,
        ),
    ] = None,
    quiet: Annotated[  # noqa: ARG001  # read by RootGroup.main
        bool,
        typer.Option("--quiet", help="Print errors and JSON only."),
    ] = False,
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            metavar="DIR",
            help="Folder of the business, made by `oceanrecords new`. Otherwise "
            "OCEANRECORDS_PROJECT, the current folder if it has a warehouse.toml, then the "
            "business that the database holds.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that all commands share."""
    if project is not None:
        needs(project, "--project")
    if target is not None:
        from base import targets

        if dsn is not None:
            raise UserError("--target goes without --dsn.", exit_code=EXIT_USAGE)
        dsn = targets.find(target)
    context.obj = State(dsn=dsn, project=project)
