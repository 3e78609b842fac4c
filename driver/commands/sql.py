"""`oceanrecords sql`: the statements that the engine runs for an object."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from base import output, state
from base.connection import connect
from base.mode import mode
from base.options import ExcludeOption, JsonOption, complete_task
from base.output import console, emit
from driver.selection import Catalog
from driver.warehouse import rows

EXAMPLES = (
    "Examples: oceanrecords sql dim_product · oceanrecords sql +fact_order | less · "
    "oceanrecords sql fact:fact_order"
)


def sql(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SELECTOR...",
            help="Objects or tasks: dim_product, +fact_order, tag:finance (see `ls`).",
            autocompletion=complete_task,
        ),
    ],
    exclude: ExcludeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the SQL that the tasks of an object run, in order."""
    with connect(state.of(context).dsn) as connection:
        catalog = Catalog.read(connection)
        chosen = catalog.names_for_a_run(names, exclude or []) or []
        answer: list[dict[str, Any]] = []
        for name in chosen:
            query = "SELECT step, title, statement FROM etl.object_sql(%s) ORDER BY step"
            answer += rows(connection, query, name)
    for number, one in enumerate(answer, 1):
        one["step"] = number
    emit(answer, as_json=as_json, render=_render)


def _render(answer: list[dict[str, Any]]) -> None:
    text = "\n".join(
        f"-- {one['step']}. {one['title']}\n{one['statement'].strip().rstrip(';')};\n"
        for one in answer
    )
    if console.is_terminal and not console.no_color:
        from rich.syntax import Syntax  # a command without a terminal does not need it

        syntax = Syntax(text, "postgresql", theme="ansi_dark", background_color="default")
        # The terminal wraps long lines: what is copied is the statement.
        console.print(syntax.highlight(text), no_wrap=True, overflow="ignore", crop=False)
    elif not mode.quiet:
        console.file.write(output.visible(text))
