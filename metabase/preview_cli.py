"""`oceanrecords dashboard`: the dashboard without Metabase."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from driver import state
from driver.commands.options import JsonOption
from driver.connection import connect
from driver.errors import UserError, from_database
from driver.output import console, emit
from metabase import definition, preview
from metabase.definition import Dashboard

app = typer.Typer(
    help="The dashboard as a page of its own, from the definition that Metabase gets too.",
    no_args_is_help=True,
)

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
    with connect(dsn, application_name="oceanrecords dashboard") as connection:
        return preview.render(connection, dashboard)


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
        typer.Option("--host", help="Address to listen on; the page asks nobody for a password."),
    ] = "127.0.0.1",
    folder: DefinitionOption = None,
) -> None:
    """Serve the dashboard, with the figures of the moment at every reload, until Ctrl-C."""
    dsn = state.of(context).dsn
    dashboard = definition.load(folder)
    _page(dsn, dashboard)  # What cannot be shown is told here, and not to the first visitor.
    try:
        server = _Server((host, port), dsn, dashboard)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"Port {port} of {host} cannot be used: {getattr(error, 'strerror', None) or error}.",
            "Choose another one with --port, or --port 0 for one that is free.",
        ) from error
    with server:
        shown = f"[{host}]" if ":" in host else host
        console.print(f"[ok]●[/] http://{shown}:{server.server_port}/  [quiet]Ctrl-C ends[/]")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("[quiet]ended[/]")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], dsn: str | None, dashboard: Dashboard) -> None:
        super().__init__(address, _Handler)
        self.dsn = dsn
        self.dashboard = dashboard


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of / with the page."""

    server: _Server
    server_version = "oceanrecords"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the page's headers."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.path.partition("?")[0] not in ("/", "/index.html"):
            self.send_error(HTTPStatus.NOT_FOUND, "There is one page here: /")
            return
        try:
            body = _page(self.server.dsn, self.server.dashboard).encode()
        except UserError as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "Not now", error.message)
            return
        except psycopg.Error as error:
            message = from_database(error).message
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "Not now", message)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet."""
