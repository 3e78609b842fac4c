"""`oceanrecords docs`: pictures and data dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driver import state
from driver.commands.options import JsonOption
from driver.connection import connect
from driver.errors import EXIT_USAGE, UserError
from driver.output import console, emit

# What draws and reads the documentation is imported when it is asked for: every other command
# would wait for it.
if TYPE_CHECKING:
    from driver.docs import catalog

EXAMPLES = "Examples: oceanrecords docs · oceanrecords docs --out /tmp/warehouse"


def docs(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write to. [default: site]"),
    ] = None,
    refresh: Annotated[
        Path | None,
        typer.Option(
            "--refresh",
            metavar="FILE",
            help="Draw the pictures that a Markdown file marks anew, and write nothing else.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write pictures of the warehouse and its data dictionary, from the live database.

    One page (index.html) that needs neither server nor network, and Markdown with Mermaid beside
    it: the operational system, the stars, the layers, the tasks with their last run, where every
    key figure comes from, and what every table and column is. No data is in it.
    """
    if refresh is not None and out is not None:
        raise UserError(
            "--out and --refresh do not go together.", "Call the command twice.", EXIT_USAGE
        )
    from driver.docs import catalog, site

    with connect(state.of(context).dsn, application_name="oceanrecords docs") as connection:
        found = catalog.read(connection)
    if refresh is not None:
        _refresh(refresh, found, as_json=as_json)
        return
    folder = out or Path("site")
    made = site.files(found)
    site.write(made, folder)
    answer = {
        "folder": str(folder.resolve()),
        "page": str((folder / "index.html").resolve()),
        "files": list(made),
        "relations": len(found.relations),
        "without_comment": [name for _, name in found.gaps],
    }
    emit(answer, as_json=as_json, render=_tell)


def _tell(answer: dict[str, Any]) -> None:
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


def _refresh(path: Path, found: catalog.Catalog, *, as_json: bool) -> None:
    from driver.docs import markdown

    try:
        before = path.read_text(encoding="utf-8")
        after = markdown.refresh(before, found)
        if after != before:
            path.write_text(after, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be refreshed: {error.strerror}.") from error
    answer = {"file": str(path.resolve()), "changed": after != before}
    told = "updated" if answer["changed"] else "up to date"
    emit(answer, as_json=as_json, render=lambda one: console.say("{}: {}", one["file"], told))
