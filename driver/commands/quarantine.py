"""`oceanrecords quarantine`: rows that cannot be loaded."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer
from psycopg.types.json import Jsonb

from base import output, state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError
from base.options import JsonOption, LimitOption, complete_object
from base.output import console, emit
from driver.rows import plain
from driver.selection import Catalog
from driver.warehouse import Quarantined, QuarantinedRow, fetch

EXAMPLES = (
    "Examples: oceanrecords quarantine · oceanrecords quarantine fact_order --retry · "
    "oceanrecords quarantine accept fact_order --key order_id=17"
)
_ACCEPT = "accept"


def quarantine(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[accept] [OBJECT]",
            help="Source table, dimension or fact; all by default.",
            autocompletion=complete_object,
        ),
    ] = None,
    limit: LimitOption = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let the next run retry all of them.")
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="COLUMN=VALUE", help="accept: this row only; once per key column."
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="accept: undo the acceptance.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that cannot be loaded, each with its reason; or accept them.

    A run retries a row when it changes in the source. A run that puts rows into quarantine is
    partial, unless they are accepted.
    """
    given = list(words or [])
    is_accepting = given[:1] == [_ACCEPT]
    if is_accepting:
        given = given[1:]
    if len(given) > 1 or (is_accepting and not given):
        raise UserError(
            "accept takes one object." if is_accepting else "Name one object, or none.",
            exit_code=EXIT_USAGE,
        )
    if not is_accepting and (key or undo):
        raise UserError("--key and --undo go with accept.", exit_code=EXIT_USAGE)
    if is_accepting and retry:
        raise UserError("--retry goes without accept.", exit_code=EXIT_USAGE)
    name = given[0] if given else None
    with connect(state.of(context).dsn) as connection:
        if name is not None:
            Catalog.read(connection).require(name)
        if is_accepting:
            assert name is not None
            accepted = _accept(connection, name, key or [], is_accepted=not undo)
            if not as_json:
                done = "no longer accepted" if undo else "accepted"
                console.say("[ok]✓[/] {} {}", output.plural(accepted, "row"), done)
                return
        if retry:
            connection.execute("SELECT etl.retry_quarantine(%s)", [name])
        where = "WHERE object = coalesce(%s, object) ORDER BY"
        summary = fetch(connection, Quarantined, f"{where} object", name)
        rows = fetch(connection, QuarantinedRow, f"{where} quarantined_at LIMIT %s", name, limit)
    emit(
        {"summary": summary, "entries": rows},
        as_json=as_json,
        render=lambda _: _render(summary, rows),
    )


def _accept(connection: psycopg.Connection, name: str, key: list[str], *, is_accepted: bool) -> int:
    """Accept the rows of an object, or the one with a key, and return their number."""
    row_key = None
    if key:
        wanted = dict(part.partition("=")[::2] for part in key)
        row = connection.execute(
            "SELECT q.row_key FROM etl.quarantine AS q WHERE q.object = %s AND NOT EXISTS ("
            "SELECT FROM jsonb_each_text(%s) AS k "
            "WHERE q.row_key ->> k.key IS DISTINCT FROM k.value)",
            [name, Jsonb(wanted)],
        ).fetchall()
        if len(row) != 1:
            told = "no row" if not row else "more than one row"
            raise UserError(
                f"The quarantine holds {told} of {name} with this key.",
                f"`oceanrecords quarantine {name}` shows the keys.",
            )
        row_key = Jsonb(row[0][0])
    found = connection.execute(
        "SELECT etl.accept_quarantine(%s, %s, %s)", [name, row_key, is_accepted]
    ).fetchone()
    return int(found[0]) if found else 0


def summary_table(quarantine: list[Quarantined]) -> output.Table:
    """Return rows of etl.quarantine_status as a table."""
    table = output.table(
        "object", "rows", "accepted", "oldest", "age", "latest reason",
        title="Quarantine", wrap=("latest reason",), spare=("oldest",),
    )  # fmt: skip
    for one in quarantine:
        table.add_row(
            one.object, one.row_count, one.accepted, one.oldest, one.age, one.latest_reason
        )
    return table


def _render(summary: list[Quarantined], rows: list[QuarantinedRow]) -> None:
    if not summary:
        console.print("The quarantine is empty: every row could be loaded.")
        return
    console.print(summary_table(summary))
    console.print()
    table = output.table(
        "object", "key", "code", "reason", "tries", "since", title="Oldest rows",
        wrap=("reason",), spare=("tries", "code"),
    )  # fmt: skip
    for one in rows:
        table.add_row(
            one.object, plain(one.row_key), one.sqlstate, one.reason, one.attempts,
            one.quarantined_at,
        )  # fmt: skip
    console.print(table)
    rest = sum(one.row_count for one in summary) - len(rows)
    if rest > 0:
        console.say("[quiet]{}; --limit shows more of them[/]", output.plural(rest, "more row"))
