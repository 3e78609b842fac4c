"""`oceanrecords settings`: what the warehouse can be told."""

from __future__ import annotations

from typing import Annotated, Any

import psycopg
import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import unknown
from base.options import JsonOption, complete_setting
from base.output import console, emit
from driver.warehouse import Setting, fetch

app = typer.Typer(
    help="List, show and change the settings of the warehouse.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The setting.", autocompletion=complete_setting),
]


@app.command("list", epilog="Example: oceanrecords settings list --json")
def list_settings(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the settings with their values, types, defaults and meanings."""
    with connect(state.of(context).dsn) as connection:
        answer = fetch(connection, Setting, "ORDER BY name")
    emit(answer, as_json=as_json, render=_render_list)


@app.command(epilog="Example: oceanrecords settings get stale_after")
def get(context: typer.Context, name: _Name, as_json: JsonOption = False) -> None:
    """Print the value of a setting."""
    with connect(state.of(context).dsn) as connection:
        answer = _find(connection, name)
    emit(answer, as_json=as_json, render=lambda one: console.print(Text(one.value)))


@app.command(
    "set",
    epilog="Examples: oceanrecords settings set stale_after '30 minutes' · "
    "oceanrecords settings set stale_after --default",
)
def set_setting(
    context: typer.Context,
    name: _Name,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="The new value.")] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Set it to the value it was installed with.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Change a setting. The database refuses a value that does not fit its type."""
    from base.errors import EXIT_USAGE, UserError

    if (value is None) == (not default):
        raise UserError("Give either a value or --default.", exit_code=EXIT_USAGE)
    with connect(state.of(context).dsn) as connection:
        before = _find(connection, name)
        new = before.default_value if default else value
        if new is None:
            raise UserError(f'The default of "{name}" is not known.', "Give a value.")
        connection.execute("UPDATE etl.setting SET value = %s WHERE name = %s", [new, name])
        answer = _find(connection, name)
    emit(answer, as_json=as_json, render=lambda one: _render_change(before, one))


def _find(connection: psycopg.Connection[Any], name: str) -> Setting:
    found = {one.name: one for one in fetch(connection, Setting, "ORDER BY name")}
    if name not in found:
        raise unknown("setting", name, found, lists="oceanrecords settings list")
    return found[name]


def _render_change(before: Setting, one: Setting) -> None:
    if before.value == one.value:
        console.say("[quiet]○[/] {} is {} already", one.name, _shown(one.value))
    else:
        console.say(
            "[ok]✓[/] {} is now {} [quiet](was {})[/]",
            one.name,
            _shown(one.value),
            _shown(before.value),
        )


def _shown(value: str | None) -> str:
    return "''" if value == "" else value or ""


def _render_list(answer: list[Setting]) -> None:
    table = output.table(
        "setting", "value", "type", "default", "meaning",
        wrap=("meaning",), spare=("type", "default"), quiet=("type", "default", "meaning"),
    )  # fmt: skip
    for one in answer:
        is_changed = one.default_value is not None and one.value != one.default_value
        table.add_row(
            one.name,
            Text(output.one_line(_shown(one.value)), style="yellow" if is_changed else ""),
            one.value_type,
            _shown(one.default_value),
            one.description,
        )
    console.print(table)
