"""`oceanrecords new`: write the first draft of a business, or the patch for what has changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from base import state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError
from base.options import JsonOption, file_or_folder
from base.output import console, emit, plural
from driver import project
from driver.scaffold import changes, files, source, stars

EXAMPLES = (
    "Examples: oceanrecords new northwind --schema northwind · "
    "oceanrecords new shop --dsn postgresql:///shop --schema sales --schema hr · "
    "oceanrecords new northwind | patch -d northwind -p1"
)


def new(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", parser=file_or_folder, help="Folder of the business.")
    ],
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", metavar="DSN", help="Database with the source's tables; reads only."),
    ] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option("--schema", metavar="SCHEMA", help="Schema to read; may be repeated."),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option("--tables", metavar="A,B,…", help="Tables to read; all by default."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the business; by default that of the folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the first draft of a warehouse for the tables of a schema.

    The draft runs as it is. What the catalog does not say is guessed and marked with REVIEW. Called
    again for a folder, the command changes no file: it prints what has changed in the source as a
    patch, to be applied with `patch -p1`.
    """
    only = [one.strip() for one in tables.split(",") if one.strip()] if tables else []
    is_there = (folder / project.FILE).is_file()
    if is_there:
        if name is not None:
            raise UserError(
                f"{folder} is the folder of a business, which has a name.",
                f"Leave out --name, or name another folder. The name is in {project.FILE}.",
                EXIT_USAGE,
            )
        business = project.read(folder)
        known = source.from_json(folder / source.FILE)
        schemas = tuple(schema or known.schemas)
        only = only or list(known.only)
        chosen = business.name
    else:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} is not empty, and not the folder of a business.",
                "Name a folder that does not exist.",
                exit_code=2,
            )
        if not schema:
            raise UserError(
                "Which schema holds the source's tables?", "Name it: --schema SCHEMA", exit_code=2
            )
        known, schemas = None, tuple(schema)
        chosen = name or re.sub(r"[^a-z0-9_-]", "_", folder.resolve().name.lower())
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", chosen) or chosen in (
            project.ENGINE, project.BUILT_IN,
        ):  # fmt: skip
            raise UserError(
                f"'{chosen}' is no name for a business.",
                "Name one of small letters, digits, - and _: --name northwind",
                exit_code=2,
            )
    with connect(dsn or state.of(context).dsn, application_name="oceanrecords new") as connection:
        connection.execute("SET default_transaction_read_only = on")
        found = source.read(connection, schemas, only, known)
    draft = stars.build(found)
    if known is not None:
        patch = changes.patch(folder, stars.build(known), draft, chosen)
        if as_json:
            emit({"folder": str(folder), "patch": patch}, as_json=True, render=lambda _: None)
        else:
            console.file.write(patch)
            if not patch:
                console.print("[quiet]The source is as it was: there is nothing to change.[/]")
        return
    written = files.render(draft, chosen)
    for path, text in written.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    answer = {
        "folder": str(folder),
        "files": list(written),
        "source_tables": [c.name for c in draft.contracts],
        "dimensions": [d.name for d in draft.dimensions],
        "facts": [f.name for f in draft.facts],
        "unused": [c.name for c in draft.unused],
        "left_out": list(found.left_out),
        "reviews": sum(text.count("REVIEW:") for text in written.values()),
    }
    emit(answer, as_json=as_json, render=_render)


def _render(answer: dict[str, object]) -> None:
    def listed(key: str) -> str:
        value = answer[key]
        assert isinstance(value, list)
        return ", ".join(value) or "none"

    console.print(f"[ok]✓[/] {answer['folder']} [quiet]written[/]", soft_wrap=True)
    console.print(f"  source tables  {listed('source_tables')}", soft_wrap=True)
    console.print(f"  dimensions     {listed('dimensions')}", soft_wrap=True)
    console.print(f"  facts          {listed('facts')}", soft_wrap=True)
    if answer["unused"]:
        console.print(f"  in no star     {listed('unused')}", soft_wrap=True)
    if answer["left_out"]:
        console.print(f"  [warn]not readable[/]   {listed('left_out')}", soft_wrap=True)
    console.print(
        f"\n{plural(int(str(answer['reviews'])), 'guess', 'guesses')} marked: "
        f"grep -rn REVIEW: {answer['folder']}\n"
        f"Then: oceanrecords --project {answer['folder']} migrate && oceanrecords run",
        soft_wrap=True,
    )
