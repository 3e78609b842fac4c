"""`oceanrecords dashboard`: the dashboard without Metabase."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from psycopg.conninfo import make_conninfo

from base import output, state, wsgi
from base.connection import connect, connect_to, resolve
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit
from driver import project
from metabase import analysis, definition, preview, targets
from metabase.serve import ORDERS, Site, open_pool

app = typer.Typer(
    help="The dashboard as a page of its own, from the definition that Metabase gets too.",
    no_args_is_help=True,
)

_APPLICATION = "oceanrecords dashboard"

DefinitionOption = Annotated[
    Path | None,
    typer.Option(
        "--definition",
        metavar="FOLDER",
        help="Folder with dashboard.yaml and questions/; by default that of the business.",
    ),
]


@app.command(
    "preview",
    epilog="Examples: oceanrecords dashboard preview · "
    "oceanrecords dashboard preview --out /tmp/monday.html",
)
def write_preview(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the page.")
    ] = Path("dashboard.html"),
    orders: Annotated[
        str,
        typer.Option(
            "--orders",
            metavar="URL",
            help="Address of the page with the orders behind the figures, in Metabase or served; "
            "the tiles link to it.",
        ),
    ] = "",
    folder: DefinitionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the dashboard to one HTML file, which needs neither server nor network."""
    if orders and urlsplit(orders).scheme not in ("http", "https"):
        raise UserError(
            f"'{orders}' is not the address of a page.", "Write --orders https://host/path"
        )
    dashboard = definition.load(folder or _folder(context))
    with connect(state.of(context).dsn, application_name=_APPLICATION) as connection:
        html = preview.render(connection, dashboard, orders=orders)
    preview.write(html, out)
    answer = {
        "file": str(out.resolve()),
        "bytes": len(html.encode()),
        "tiles": [question.key for question, _ in dashboard.tiles],
    }
    emit(answer, as_json=as_json, render=_tell)


def _folder(context: typer.Context) -> Path | None:
    return project.dashboard(state.of(context).project, state.of(context).dsn)


def _tell(answer: dict[str, Any]) -> None:
    console.print(
        f"[ok]●[/] {len(answer['tiles'])} tiles in [name]{answer['file']}[/]  "
        f"[quiet]{answer['bytes'] / 1e6:.1f} MB, needs no network[/]",
        soft_wrap=True,
    )


@app.command(
    "targets",
    epilog="Examples: oceanrecords dashboard targets · oceanrecords dashboard targets sales.csv",
)
def sales_targets(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="CSV with the columns month (2025-03), sales and, if need be, country.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the targets of sales by month, or set those that a CSV file names."""
    given = None if file is None else targets.read(file)
    with connect(state.of(context).dsn, application_name=_APPLICATION) as connection:
        if given is not None:
            targets.store(connection, given)
        answer = targets.stored(connection)
    emit(answer, as_json=as_json, render=lambda rows: _tell_targets(rows, given))


def _tell_targets(rows: list[dict[str, Any]], given: list[targets.Target] | None) -> None:
    if given is not None:
        count = output.plural(len(given), "target")
        console.print(f"[ok]●[/] {count} set, {len(rows)} in all")
        return
    if not rows:
        console.print(
            "There are no targets. [quiet]Set them: oceanrecords dashboard targets FILE[/]"
        )
        return
    table = output.table("month", "country", "sales", right=("sales",))
    for row in rows:
        table.add_row(f"{row['month']:%b %Y}", row["country"], f"{row['sales']:,.2f}")
    console.print(table)


@app.command(
    "serve",
    epilog="Examples: oceanrecords dashboard serve · oceanrecords dashboard serve --port 9000",
)
def serve(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 for one that is free.")
    ] = 8321,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; the page asks for no password."),
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Host name under which the page is reached, besides the address and localhost.",
        ),
    ] = None,
    orders_as: Annotated[
        str | None,
        typer.Option(
            "--orders-as",
            metavar="LOGIN",
            help="Also serve the orders behind the figures, as this login of level analyst sees "
            "them. Everyone who reaches the page sees them.",
        ),
    ] = None,
    folder: DefinitionOption = None,
) -> None:
    """Serve the dashboard until Ctrl-C, read as the business level, with the latest figures."""
    target = resolve(state.of(context).dsn)
    dashboard = definition.load(folder or _folder(context))
    connect_to(target, application_name=_APPLICATION).close()
    conninfo = make_conninfo(target.conninfo, application_name=_APPLICATION, connect_timeout=10)
    hosts = [host, *wsgi.LOCAL_HOSTS, *(allow_host or ())]
    with ExitStack() as stack:
        pool = stack.enter_context(open_pool(conninfo))
        detail = None
        if orders_as:
            analysts = stack.enter_context(open_pool(conninfo, orders_as, analysis.SCHEMA))
            detail = (definition.load(analysis.DETAIL), analysts)
        site = Site(pool, dashboard, hosts, detail)
        site.page()  # What cannot be shown is reported here, and not to the first visitor.
        if detail:
            site.page(ORDERS)
        wsgi.serve(site, host, port)
