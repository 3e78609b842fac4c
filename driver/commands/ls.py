"""`oceanrecords ls`: the objects of the warehouse, and their place in the graph."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from base import output, state
from base.connection import connect
from base.options import ExcludeOption, JsonOption, complete_task
from base.output import console, emit
from driver.selection import Catalog
from driver.warehouse import Object

EXAMPLES = (
    "Examples: oceanrecords ls · oceanrecords ls +fact_order · oceanrecords ls dim_product+ "
    "--exclude kind:aggregate · oceanrecords ls tag:finance"
)


def ls(
    context: typer.Context,
    selectors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SELECTOR]...",
            help="name, +name (upstream), name+ (downstream), 2+name, dim_*, tag:NAME, kind:KIND; "
            "a comma takes what both select. All by default.",
            autocompletion=complete_task,
        ),
    ] = None,
    exclude: ExcludeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List source tables, dimensions, facts and aggregates, in the order of their loads."""
    with connect(state.of(context).dsn) as connection:
        catalog = Catalog.read(connection)
    names = catalog.select(selectors or [], exclude or [])
    answer = [catalog.objects[name] for name in names if name in catalog.objects]
    emit(answer, as_json=as_json, render=_render)


def _render(answer: list[Object]) -> None:
    table = output.table(
        "object", "kind", "layer", "rows", "complete until", "tags", "placement", "loaded from",
        "loads",
        wrap=("loaded from", "loads"),
        spare=("placement", "tags", "loads", "loaded from", "layer"),
        quiet=("kind", "layer", "placement", "loaded from", "loads"),
    )  # fmt: skip
    for one in answer:
        until = one.complete_until or Text("never" if one.is_stale else "", style="yellow")
        table.add_row(
            one.object, one.kind, one.layer, one.row_estimate, until, ", ".join(one.tags),
            one.placement, ", ".join(one.upstream), ", ".join(one.downstream),
        )  # fmt: skip
    console.print(table)
