"""`oceanrecords queue`: fact rows that wait for a member of a dimension."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from psycopg.rows import dict_row

from base import output, state
from base.connection import connect
from base.options import JsonOption, LimitOption, complete_fact
from base.output import console, emit
from driver.rows import key
from driver.selection import Catalog

EXAMPLES = "Examples: oceanrecords queue · oceanrecords queue --fact fact_order_line --limit 100"


def queue(
    context: typer.Context,
    fact: Annotated[
        str | None,
        typer.Option(
            "--fact",
            metavar="FACT",
            help="Only what this fact waits for.",
            autocompletion=complete_fact,
        ),
    ] = None,
    limit: LimitOption = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run look all of them up again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the fact rows that wait for a member of a dimension, the oldest first.

    The next run resolves them by itself once the member is loaded.
    """
    with connect(state.of(context).dsn) as connection:
        if fact is not None:
            Catalog.read(connection).require(fact, "fact")
        if retry:
            connection.execute("SELECT etl.retry_queue(%s)", [fact])
        with connection.cursor(row_factory=dict_row) as cursor:
            answer = {
                "summary": cursor.execute(
                    "SELECT * FROM etl.queue_status "
                    "WHERE %(fact)s::text IS NULL OR fact = %(fact)s ORDER BY fact, dimension",
                    {"fact": fact},
                ).fetchall(),
                "entries": cursor.execute(
                    "SELECT * FROM etl.queue_entry "
                    "WHERE %(fact)s::text IS NULL OR fact = %(fact)s "
                    "ORDER BY queued_at LIMIT %(limit)s",
                    {"fact": fact, "limit": limit},
                ).fetchall(),
            }
    emit(answer, as_json=as_json, render=_render)


def summary_table(queue: list[dict[str, Any]]) -> output.Table:
    """Return rows of etl.queue_status as a table."""
    table = output.table(
        "fact", "waits for", "rows", "ready", "oldest", "age",
        title="Reprocessing queue", right=("rows", "ready", "age"), spare=("oldest",),
    )  # fmt: skip
    for one in queue:
        table.add_row(
            one["fact"],
            one["dimension"],
            output.number(one["entries"]),
            output.number(one["ready"]),
            output.moment(one["oldest"]),
            output.seconds(one["age"]),
        )
    return table


def _render(answer: dict[str, Any]) -> None:
    if not answer["summary"]:
        console.print("The reprocessing queue is empty: every fact row has its members.")
        return
    console.print(summary_table(answer["summary"]))
    console.print()
    table = output.table(
        "fact", "key", "column", "waits for", "member", "tries", "age", title="Oldest rows",
        right=("tries", "age"), spare=("tries", "column"),
    )  # fmt: skip
    for one in answer["entries"]:
        table.add_row(
            one["fact"],
            key(one["fact_key"]),
            one["key_column"],
            one["dimension"],
            key(one["dimension_key"]),
            str(one["attempts"]),
            output.seconds(one["age"]),
        )
    console.print(table)
    rest = sum(one["entries"] for one in answer["summary"]) - len(answer["entries"])
    if rest > 0:
        console.say("[quiet]{} more; --limit shows more of them[/]", output.plural(rest, "row"))
