"""`oceanrecords plan`: which objects the next run loads completely, why, and what that changes."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from base import state
from base.connection import connect_to, resolve
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit
from driver.rows import plain
from driver.selection import Catalog
from driver.warehouse import rows as rows_of

EXAMPLES = (
    "Examples: oceanrecords plan · oceanrecords plan --rows · "
    "oceanrecords plan dim_product --rows --sample 20"
)
_COUNTS = (
    ("rows_inserted", "new"),
    ("rows_updated", "changed"),
    ("rows_deleted", "deleted"),
    ("rows_queued", "queued"),
    ("rows_quarantined", "quarantined"),
)


def plan(
    context: typer.Context,
    objects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OBJECT]...", help="With --rows: load these, whether they changed or not."
        ),
    ] = None,
    rows: Annotated[
        bool,
        typer.Option(
            "--rows", help="Count the rows that would change: load them, and undo it all."
        ),
    ] = False,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", min=0, max=1000, help="With --rows: changed rows to show of each."
        ),
    ] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show which objects the next run loads completely, and why.

    An object is loaded completely when something that its rows depend on has changed: a view, a
    function, a setting, its declaration. Rows that are right already are not written. With --rows
    the load takes as long as a real one, and no run can start meanwhile.
    """
    names = list(objects or [])
    with connect_to(resolve(state.of(context).dsn)) as connection:
        catalog = Catalog.read(connection)
        for name in names:
            if name not in catalog.tasks:
                catalog.require(name)
        planned = rows_of(connection, "SELECT * FROM etl.plan()")
        counts = []
        if rows or names:
            if not rows_of(connection, "SELECT source_table FROM etl.watermark LIMIT 1"):
                raise UserError(
                    "Nothing has been extracted yet, so no change of rows can be counted.",
                    "The first run loads all rows: oceanrecords run",
                )
            query = "SELECT * FROM etl.plan_rows(%s::name[], %s)"
            counts = rows_of(connection, query, names or None, sample)
    emit(_answer(planned, counts, names), as_json=as_json, render=_render)


def _answer(
    planned: list[dict[str, Any]], counts: list[dict[str, Any]], names: list[str]
) -> list[dict[str, Any]]:
    """Return one entry an object: why it is loaded, and with --rows what that changes."""
    reasons = {one["object"]: one["reasons"] for one in planned}
    if not counts:
        return [{**one, "rows": None} for one in planned if not names or one["object"] in names]
    return [
        {
            "object": one["object"],
            "kind": one["kind"],
            "reasons": reasons.get(one["object"], []),
            "rows": {key: value for key, value in one.items() if key not in ("object", "kind")},
        }
        for one in counts
    ]


def _render(answer: list[dict[str, Any]]) -> None:
    if not answer:
        console.print("Nothing is loaded completely: no definition has changed since the last run.")
        return
    for one in answer:
        console.print(Text(f"{one['object']}", style="bold"), soft_wrap=True)
        for reason in one["reasons"] or ["nothing has changed"]:
            console.print(Text(f"  {reason}"), soft_wrap=True)
        if one["rows"] is not None:
            _render_rows(one["rows"])


def _render_rows(rows: dict[str, Any]) -> None:
    if rows["message"]:
        console.print(Text(f"  cannot be loaded: {rows['message']}", style="bad"), soft_wrap=True)
        return
    parts = [f"{rows[key]:,} {word}" for key, word in _COUNTS if rows[key]]
    console.print(Text(f"  rows: {', '.join(parts) or 'none would change'}"), soft_wrap=True)
    for row in rows["sample"] or []:
        key = plain(row["key"] or {})
        before, after = row["before"] or {}, row["after"] or {}
        changes = ", ".join(
            f"{name}: {plain(before.get(name))} → {plain(after.get(name))}"
            if row["operation"] != "insert"
            else f"{name}: {plain(after[name])}"
            for name in sorted(before.keys() | after.keys())
        )
        console.print(
            Text(f"    {row['operation']} {key}: {changes}", style="quiet"), soft_wrap=True
        )
