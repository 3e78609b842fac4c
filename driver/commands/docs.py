"""`oceanrecords docs`: diagrams, lineage and data dictionary of the live database."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from base import state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError
from base.options import JsonOption, file_or_folder
from base.output import console, emit

# What reads and draws the documentation is slow to import: `docs --help` does without it.
if TYPE_CHECKING:
    from base.wsgi import Response
    from driver.docs.catalog import Catalog

app = typer.Typer(
    help="Write or serve diagrams, lineage and data dictionary of the live database.",
    epilog="Examples: oceanrecords docs · oceanrecords docs --out /tmp/warehouse · "
    "oceanrecords docs serve",
    invoke_without_command=True,
)
_FRESH_FOR = 2.0  # seconds for which a page is not generated again


@app.callback()
def write(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            parser=file_or_folder,
            help="Folder to write to. [default: site]",
        ),
    ] = None,
    refresh: Annotated[
        Path | None,
        typer.Option(
            "--refresh",
            metavar="FILE",
            parser=file_or_folder,
            help="Update the pictures and references that a Markdown file marks, nothing else.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write diagrams, lineage and data dictionary of the live database.

    One page (index.html) that needs neither a server nor a network, and the same as Markdown with
    Mermaid: the operational system, the star schemas, the initial state, the tasks with their last
    run, the lineage of every KPI, the SQL of every transformation, the quality checks, and every
    table and column. It contains no rows.
    """
    if context.invoked_subcommand is not None:
        if out is not None or refresh is not None or as_json:
            raise UserError("`docs serve` takes no options of `docs`.", exit_code=EXIT_USAGE)
        return
    if refresh is not None and out is not None:
        raise UserError(
            "--out and --refresh do not go together.", "Call the command twice.", EXIT_USAGE
        )
    from driver.docs import site

    found = _read(context)
    if refresh is not None:
        _refresh(refresh, found, as_json=as_json)
        return
    folder = out or Path("site")
    files = site.files(found)
    site.write(files, folder)
    answer = {
        "folder": str(folder.resolve()),
        "page": str((folder / "index.html").resolve()),
        "files": list(files),
        "relations": len(found.relations),
        "without_comment": [one.object for one in found.gaps],
    }
    emit(answer, as_json=as_json, render=_render)


def _read(context: typer.Context) -> Catalog:
    from driver.docs import catalog

    with connect(state.of(context).dsn, application_name="oceanrecords docs") as connection:
        return catalog.read(connection)


def _render(answer: dict[str, Any]) -> None:
    console.say(
        "[ok]●[/] {} tables and views in [name]{}[/]  "
        "[quiet]and {} Markdown files; needs no network[/]",
        answer["relations"], answer["page"], len(answer["files"]) - 1,
    )  # fmt: skip
    gaps = answer["without_comment"]
    if gaps:
        more = f" and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        console.say(
            "[warn]![/] Without a comment: {}. COMMENT ON adds one.", ", ".join(gaps[:3]) + more
        )


def _refresh(path: Path, found: Catalog, *, as_json: bool) -> None:
    from driver.docs import markdown

    try:
        before = path.read_text(encoding="utf-8")
        after = markdown.refresh(before, found)
        if after != before:
            path.write_text(after, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be refreshed: {error.strerror}.") from error
    answer = {"file": str(path.resolve()), "changed": after != before}
    status = "updated" if answer["changed"] else "up to date"
    emit(answer, as_json=as_json, render=lambda one: console.say("{}: {}", one["file"], status))


@app.command(
    "serve",
    epilog="Examples: oceanrecords docs serve · oceanrecords docs serve --port 9000",
)
def serve(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 for a free one.")
    ] = 8322,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; the page asks for no password."),
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Another host name under which the page can be reached.",
        ),
    ] = None,
) -> None:
    """Serve the page until Ctrl-C, generated from the database when it is loaded."""
    from base import wsgi
    from driver.docs import site
    from driver.docs.lineage import Lineage

    lock = threading.Lock()
    page, generated_at = b"", float("-inf")

    def answer(path: str, _query: str) -> Response:
        nonlocal page, generated_at
        if path not in ("/", "/index.html"):
            return wsgi.text(HTTPStatus.NOT_FOUND, "There is one page here: /")
        with lock:
            if time.monotonic() - generated_at > _FRESH_FOR:
                found = _read(context)
                page = site.page(found, Lineage(found)).encode()
                generated_at = time.monotonic()
            return wsgi.html(page)

    answer("/", "")  # An error is reported here, and not to the first visitor.
    wsgi.serve(wsgi.Pages(answer, (host, *wsgi.LOCAL_HOSTS, *(allow_host or ()))), host, port)
