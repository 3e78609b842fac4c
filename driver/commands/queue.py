"""`oceanrecords queue`: fact rows with unresolved or outdated keys."""

from __future__ import annotations

from typing import Annotated

import typer

from base import output, state
from base.connection import connect
from base.options import JsonOption, LimitOption, complete_fact
from base.output import console, emit
from driver.rows import plain
from driver.selection import Catalog
from driver.warehouse import Queued, QueueEntry, fetch

EXAMPLES = "Examples: oceanrecords queue · oceanrecords queue --fact fact_order_line --limit 100"


def queue(
    context: typer.Context,
    fact: Annotated[
        str | None,
        typer.Option(
            "--fact",
            metavar="FACT",
            help="Rows of this fact only.",
            autocompletion=complete_fact,
        ),
    ] = None,
    limit: LimitOption = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run look up all keys again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the fact rows that wait for a member of a dimension, the oldest first.

    The run that loads the member resolves them.
    """
    with connect(state.of(context).dsn) as connection:
        if fact is not None:
            Catalog.read(connection).require(fact, "fact")
        if retry:
            connection.execute("SELECT etl.retry_queue(%s)", [fact])
        where = "WHERE fact = coalesce(%s, fact) ORDER BY"
        summary = fetch(connection, Queued, f"{where} fact, dimension", fact)
        entries = fetch(connection, QueueEntry, f"{where} queued_at LIMIT %s", fact, limit)
    emit(
        {"summary": summary, "entries": entries},
        as_json=as_json,
        render=lambda _: _render(summary, entries),
    )


def summary_table(queue: list[Queued]) -> output.Table:
    """Return rows of etl.queue_status as a table."""
    table = output.table(
        "fact", "waits for", "rows", "ready", "oldest", "age",
        title="Reprocessing queue", spare=("oldest",),
    )  # fmt: skip
    for one in queue:
        table.add_row(one.fact, one.dimension, one.entries, one.ready, one.oldest, one.age)
    return table


def _render(summary: list[Queued], entries: list[QueueEntry]) -> None:
    if not summary:
        console.print("The reprocessing queue is empty: every fact row has its members.")
        return
    console.print(summary_table(summary))
    console.print()
    table = output.table(
        "fact", "key", "column", "waits for", "member", "tries", "age", title="Oldest rows",
        spare=("tries", "column"),
    )  # fmt: skip
    for one in entries:
        table.add_row(
            one.fact, plain(one.fact_key), one.key_column, one.dimension,
            plain(one.dimension_key),
            one.attempts, one.age,
        )  # fmt: skip
    console.print(table)
    rest = sum(one.entries for one in summary) - len(entries)
    if rest > 0:
        console.say("[quiet]{}; --limit shows more of them[/]", output.plural(rest, "more row"))
