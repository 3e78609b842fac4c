"""`oceanrecords quarantine`: rows that cannot be loaded."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from psycopg.rows import dict_row

from driver import output, state
from driver.commands.options import JsonOption, LimitOption, complete_object
from driver.connection import connect
from driver.output import console, emit
from driver.rows import key
from driver.selection import Catalog

EXAMPLES = "Examples: oceanrecords quarantine · oceanrecords quarantine fact_order --retry"


def quarantine(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[OBJECT]",
            help="Source table, dimension or fact; all by default.",
            autocompletion=complete_object,
        ),
    ] = None,
    limit: LimitOption = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run try all of them again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that cannot be loaded, each with its reason.

    A row is tried again by itself when it changes in the source.
    """
    with connect(state.of(context).dsn) as connection:
        if name is not None:
            Catalog.read(connection).require(name)
        if retry:
            connection.execute("SELECT etl.retry_quarantine(%s)", [name])
        with connection.cursor(row_factory=dict_row) as cursor:
            answer = {
                "summary": cursor.execute(
                    "SELECT * FROM etl.quarantine_status "
                    "WHERE %(name)s::text IS NULL OR object = %(name)s ORDER BY object",
                    {"name": name},
                ).fetchall(),
                "entries": cursor.execute(
                    "SELECT * FROM etl.quarantine "
                    "WHERE %(name)s::text IS NULL OR object = %(name)s "
                    "ORDER BY quarantined_at LIMIT %(limit)s",
                    {"name": name, "limit": limit},
                ).fetchall(),
            }
    emit(answer, as_json=as_json, render=_render)


def summary_table(quarantine: list[dict[str, Any]]) -> output.Table:
    """Return rows of etl.quarantine_status as a table."""
    table = output.table(
        "object", "rows", "oldest", "age", "latest reason",
        title="Quarantine", right=("rows", "age"), wrap=("latest reason",), spare=("oldest",),
    )  # fmt: skip
    for one in quarantine:
        table.add_row(
            one["object"],
            output.number(one["row_count"]),
            output.moment(one["oldest"]),
            output.seconds(one["age"]),
            one["latest_reason"],
        )
    return table


def _render(answer: dict[str, Any]) -> None:
    if not answer["summary"]:
        console.print("The quarantine is empty: every row could be loaded.")
        return
    console.print(summary_table(answer["summary"]))
    console.print()
    table = output.table(
        "object", "key", "code", "reason", "tries", "since", title="Oldest rows", right=("tries",),
        wrap=("reason",), spare=("tries", "code"),
    )  # fmt: skip
    for one in answer["entries"]:
        table.add_row(
            one["object"],
            key(one["row_key"]),
            one["sqlstate"],
            one["reason"],
            str(one["attempts"]),
            output.moment(one["quarantined_at"]),
        )
    console.print(table)
    rest = sum(one["row_count"] for one in answer["summary"]) - len(answer["entries"])
    if rest > 0:
        console.say("[quiet]{} more; --limit shows more of them[/]", output.plural(rest, "row"))
