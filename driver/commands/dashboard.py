"""`oceanrecords dashboard`: the dashboard without Metabase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.conninfo import make_conninfo

from base import output, state, wsgi
from base.connection import connect, connect_to, resolve
from base.options import JsonOption
from base.output import console, emit
from metabase import definition, preview, targets
from metabase.definition import Dashboard
from metabase.serve import Site, open_pool

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
        help="Folder with dashboard.yaml and questions/; otherwise the one of the program.",
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
    folder: DefinitionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the dashboard to one HTML file, which needs neither server nor network."""
    dashboard = definition.load(folder)
    html = _page(state.of(context).dsn, dashboard)
    preview.write(html, out)
    answer = {
        "file": str(out.resolve()),
        "bytes": len(html.encode()),
        "tiles": [question.key for question, _ in dashboard.tiles],
    }
    emit(answer, as_json=as_json, render=_tell)


def _tell(answer: dict[str, Any]) -> None:
    console.print(
        f"[ok]●[/] {len(answer['tiles'])} tiles in [name]{answer['file']}[/]  "
        f"[quiet]{answer['bytes'] / 1e6:.1f} MB, needs no network[/]",
        soft_wrap=True,
    )


def _page(dsn: str | None, dashboard: Dashboard) -> str:
    with connect(dsn, application_name=_APPLICATION) as connection:
        return preview.render(connection, dashboard)


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
        plural = "" if len(given) == 1 else "s"
        console.print(f"[ok]●[/] {len(given)} target{plural} set, {len(rows)} in all")
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
    folder: DefinitionOption = None,
) -> None:
    """Serve the dashboard until Ctrl-C, read as the business level, with the latest figures."""
    target = resolve(state.of(context).dsn)
    dashboard = definition.load(folder)
    connect_to(target, application_name=_APPLICATION).close()
    conninfo = make_conninfo(target.conninfo, application_name=_APPLICATION, connect_timeout=10)
    hosts = [host, *wsgi.LOCAL_HOSTS, *(allow_host or ())]
    with open_pool(conninfo) as pool:
        site = Site(pool, dashboard, hosts)
        site.page()  # What cannot be shown is reported here, and not to the first visitor.
        wsgi.serve(site, host, port)
