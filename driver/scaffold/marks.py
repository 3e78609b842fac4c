"""`oceanrecords source marks`: write the migration that gives source tables exact change marks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from base import output, state
from base.connection import connect
from base.errors import UserError
from base.options import JsonOption, file_or_folder
from base.output import console, emit
from driver import project
from driver.scaffold import source
from driver.scaffold.source import TOMBSTONES, Table
from driver.scaffold.text import literal, quoted
from driver.scaffold.text import render as write

EXAMPLE = "Example: oceanrecords source marks --schema northwind --write marks.sql"
COLUMN = "row_xid"


def marks(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Option(
            "--write", metavar="FILE", parser=file_or_folder, help="File to write; not overwritten."
        ),
    ],
    schema: Annotated[
        list[str] | None,
        typer.Option(
            "--schema",
            metavar="SCHEMA",
            help="Schema of the tables; may be repeated. By default those of the business.",
        ),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(
            "--tables", metavar="A,B,…", help="Tables to mark; all with a key by default."
        ),
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", metavar="DSN", help="Database with the source's tables; reads only."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the migration that gives source tables exact change marks.

    Each table gets a column with the transaction that wrote the row, its index, and triggers that
    leave a tombstone for deleted rows, changed keys and truncated tables. Let the owner of the
    tables apply the file; then `oceanrecords new` prints the patch for the business.
    """
    schemas = tuple(schema or ())
    if not schemas:
        business = project.chosen(state.of(context).project)
        schemas = business.schemas if business else ()
    if not schemas:
        raise UserError("Which schema holds the tables?", "Name it: --schema SCHEMA", exit_code=2)
    if file.exists():
        raise UserError(f"{file} exists.", "Name another file, or remove it.", exit_code=2)
    only = [one.strip() for one in (tables or "").split(",") if one.strip()]
    with connect(
        dsn or state.of(context).dsn, application_name="oceanrecords source marks"
    ) as connection:
        connection.execute("SET default_transaction_read_only = on")
        found = source.read(connection, schemas, only)
        partitions = {(one.schema, one.name): _partitions(connection, one) for one in found.tables}
    marked = [one for one in found.tables if one.key and not one.key_is_guess]
    unmarked = [f"{one.schema}.{one.name}" for one in found.tables if one not in marked]
    file.write_text(render(marked, unmarked, partitions), encoding="utf-8")
    answer: dict[str, object] = {
        "file": str(file),
        "tables": [f"{one.schema}.{one.name}" for one in marked],
        "without_key": unmarked,
    }
    emit(answer, as_json=as_json, render=_render)


def _partitions(connection: psycopg.Connection[Any], table: Table) -> list[str]:
    """Return the partitions of a table as SQL names them."""
    rows = connection.execute(
        "SELECT format('%%I.%%I', c.relnamespace::regnamespace::name, c.relname) "
        "FROM pg_partition_tree(format('%%I.%%I', %s::text, %s::text)::regclass) AS p "
        "JOIN pg_class AS c ON c.oid = p.relid WHERE p.level > 0 ORDER BY 1",
        [table.schema, table.name],
    ).fetchall()
    return [row[0] for row in rows]


def render(
    marked: list[Table], unmarked: list[str], partitions: dict[tuple[str, str], list[str]]
) -> str:
    """Return the migration's text.

    Parameters:
        marked: the tables, each with a key.
        unmarked: names of tables that stay as they are.
        partitions: partitions by schema and name of their table.
    """
    return write(
        "marks.sql",
        tombstones=TOMBSTONES,
        column=COLUMN,
        unmarked=unmarked,
        schemas=list(dict.fromkeys(quoted(one.schema) for one in marked)),
        tables=[
            {
                "schema": quoted(one.schema),
                "name": f"{quoted(one.schema)}.{quoted(one.name)}",
                "key": one.key,
                "index": f"{one.name}_{COLUMN}"[:63],
                "arguments": ", ".join(literal(name) for name in (one.name, *one.key)),
                "partitions": partitions.get((one.schema, one.name), []),
            }
            for one in marked
        ],
    )


def _render(answer: dict[str, object]) -> None:
    tables, without = answer["tables"], answer["without_key"]
    assert isinstance(tables, list)
    assert isinstance(without, list)
    console.print(
        f"[ok]✓[/] {answer['file']} [quiet]marks {output.plural(len(tables), 'table')}[/]",
        soft_wrap=True,
    )
    if without:
        console.print(f"[quiet]without a key: {', '.join(without)}[/]", soft_wrap=True)
    console.print(
        f"Let their owner apply it: psql -1 -f {answer['file']}, then: oceanrecords new DIR",
        soft_wrap=True,
    )
