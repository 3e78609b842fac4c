"""`oceanrecords forget`: erase the personal data of one subject, everywhere and for good."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from psycopg.rows import dict_row
from rich.text import Text

from driver import output, state
from driver.commands.options import JsonOption
from driver.connection import connect
from driver.output import console, emit

EXAMPLES = "Example: oceanrecords forget customer 42"


def forget(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="KIND", help="Kind of subject: customer.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its business key.")],
    as_json: JsonOption = False,
) -> None:
    """Erase the personal data of a customer in every layer and version; facts and totals stay.

    What the source still has, or brings again, is replaced as it comes in. Backups, the write-ahead
    log and dead rows until VACUUM are out of reach. Waits for a run that is at work.
    """
    dsn = state.of(context).dsn
    with (
        connect(dsn, application_name="oceanrecords forget") as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        cursor.execute("SELECT relation, rows_replaced FROM etl.forget(%s, %s)", [subject, key])
        replaced = cursor.fetchall()
        cursor.execute("SELECT location FROM etl.forgetting_reach")
        reach = cursor.fetchone()
    answer = {
        "subject": subject,
        "key": key.strip(),
        "source": reach["location"] if reach else None,
        "replaced": replaced,
    }
    emit(answer, as_json=as_json, render=_render)


def _render(answer: dict[str, Any]) -> None:
    console.print(Text(f"{answer['subject']} {answer['key']} is forgotten."))
    if answer["replaced"]:
        table = output.table("replaced in", "rows", right=["rows"])
        for row in answer["replaced"]:
            table.add_row(row["relation"], output.number(row["rows_replaced"]))
        console.print(table)
    else:
        console.print("Nothing was left to replace.", style="quiet")
    if answer["source"] == "remote":
        console.print(
            "The operational system is on another server: have it forget there as well. "
            "What it still has does not come in again.",
            style="warn",
        )
    console.print(
        "Not reached: backups, the write-ahead log, dead rows until VACUUM.", style="quiet"
    )
