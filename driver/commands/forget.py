"""`oceanrecords forget`: erase the personal data of one subject, everywhere and for good."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.errors import UserError
from base.mode import mode
from base.options import JsonOption
from base.output import console, emit, error_console
from driver.warehouse import rows

EXAMPLES = "Example: oceanrecords forget customer 42"


def forget(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="KIND", help="Kind of subject, such as customer.")
    ],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its business key.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase the personal data of a subject in all layers and versions; facts and totals stay.

    It shows what it will erase. On a terminal it asks before it does; in a pipe or a script it does
    not ask, with or without --yes. Later extractions replace the data again. Waits for a live run.
    """
    dsn = state.of(context).dsn
    preview = "SELECT * FROM etl.forget_preview(%s, %s)"
    with connect(dsn, application_name="oceanrecords forget") as connection:
        found = rows(connection, preview, subject, key)
        if not mode.quiet:
            _announce([row for row in found if row["is_reached"]])
        if not yes and sys.stdin.isatty():
            error_console.print("This cannot be undone.", style="warn")
            if not typer.confirm(f"Forget {subject} {key.strip()}?", err=True):
                raise UserError(f"{subject} {key.strip()} was not forgotten.")
        query = "SELECT relation, rows_replaced FROM etl.forget(%s, %s)"
        replaced = rows(connection, query, subject, key)
        columns = preview.replace("*", "relation, row_count, columns")
        remaining = rows(connection, f"{columns} WHERE NOT is_reached", subject, key)
        limits = rows(connection, "SELECT place, remedy FROM etl.forgetting_limit")
    answer = {
        "subject": subject,
        "key": key.strip(),
        "replaced": replaced,
        "remaining": remaining,
        "not_reached": limits,
    }
    emit(answer, as_json=as_json, render=_render)


def _announce(found: list[dict[str, Any]]) -> None:
    """Show what will be erased, on standard error: it is no part of the answer."""
    table = output.table("will be erased in", "rows", "columns", wrap=["columns"])
    for row in found:
        table.add_row(row["relation"], row["row_count"], ", ".join(row["columns"]))
    if found:
        error_console.print(table)
    else:
        error_console.print("No layer has personal data of this key.", style="quiet")


def _render(answer: dict[str, Any]) -> None:
    console.print(Text(f"{answer['subject']} {answer['key']} is forgotten."))
    if answer["replaced"]:
        table = output.table("replaced in", "rows")
        for row in answer["replaced"]:
            table.add_row(row["relation"], row["rows_replaced"])
        console.print(table)
    else:
        console.print("Nothing was left to replace.", style="quiet")
    for one in answer["remaining"]:
        console.say(
            "[warn]Not erased: {} of the operational system, read as {}: {}.[/]\n"
            "[warn]Erase the data there as well; the warehouse does not load them again.[/]",
            output.plural(one["row_count"], "row"), one["relation"], ", ".join(one["columns"]),
        )  # fmt: skip
    console.print("\nNot reached:")
    for one in answer["not_reached"]:
        console.print(Text(f"  {one['place']}. {one['remedy']}", style="quiet"), soft_wrap=True)
