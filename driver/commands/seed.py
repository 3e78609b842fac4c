"""`oceanrecords seed`: small reference tables from CSV files."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql

from base import output, state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError
from base.options import JsonOption, file_or_folder
from base.output import console, emit
from driver import project

EXAMPLES = (
    "Examples: oceanrecords seed · oceanrecords seed seeds/public.country_region.csv · "
    "oceanrecords seed regions.csv --table public.region"
)
FOLDER = "seeds"
_MOST_ROWS = 100_000
# Tried in this order: the first that takes all values of a column is its type.
_TYPES = (
    ("boolean", re.compile(r"true|false", re.IGNORECASE)),
    ("bigint", re.compile(r"-?(0|[1-9]\d{0,17})")),
    ("numeric", re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    (
        "timestamptz",
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)"),
    ),
)


@dataclass
class Seeded:
    """Outcome of a file.

    Attributes:
        rows: rows that the table has now.
        inserted, deleted: rows that were written; a changed row counts in both.
        created: whether the table was made.
    """

    table: str
    file: str
    rows: int
    inserted: int
    deleted: int
    created: bool


def seed(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            parser=file_or_folder,
            help=f"Files named schema.table.csv, or folders of them; by default {FOLDER} in the "
            "folder of the business.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="SCHEMA.TABLE", help="Table, whatever the file is called."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load small reference tables from CSV files.

    The first line names the columns; an empty field is NULL. A table that does not exist is made,
    with types that fit the values. All files are one transaction: a second call writes nothing.
    """
    business = project.chosen(state.of(context).project)
    own = business.folder if business and business.folder else Path()
    files = _files(paths or [own / FOLDER])
    if table is not None and len(files) != 1:
        raise UserError("--table takes one file.", exit_code=EXIT_USAGE)
    with (
        connect(state.of(context).dsn, application_name="oceanrecords seed") as connection,
        connection.transaction(),
    ):
        connection.execute("SET LOCAL client_min_messages = warning")
        answer = [_load(connection, file, _name(file, table)) for file in files]
    emit([asdict(one) for one in answer], as_json=as_json, render=_render)


def _files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} does not exist.",
                "Name a CSV file, or a folder of files named schema.table.csv.",
                EXIT_USAGE,
            )
        found += sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not found:
        raise UserError(f"There are no CSV files in {paths[0]}.", exit_code=EXIT_USAGE)
    return found


def _name(file: Path, table: str | None) -> tuple[str, str]:
    """Return schema and name of a file's table."""
    schema, dot, name = (table or file.stem).partition(".")
    if not (dot and schema and name) or "." in name:
        raise UserError(
            f"The table of {file} is not known.",
            "Name the file schema.table.csv, or give --table schema.table.",
            EXIT_USAGE,
        )
    return schema, name


def _read(file: Path) -> tuple[list[str], list[list[str | None]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows: list[list[str | None]] = []
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise UserError(
                        f"{file}, line {reader.line_num}: {output.plural(len(fields), 'field')} "
                        f"instead of {len(header)}."
                    )
                rows.append([value if value != "" else None for value in fields])
                if len(rows) > _MOST_ROWS:
                    raise UserError(
                        f"{file} has more than {_MOST_ROWS:,} rows.",
                        "Seeds are for small tables; load larger ones with COPY.",
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} cannot be read.", detail=reason) from error
    if not header or not all(header) or len(set(header)) != len(header):
        raise UserError(f"The first line of {file} does not name its columns, each once.")
    return header, rows


def _load(connection: psycopg.Connection[Any], file: Path, name: tuple[str, str]) -> Seeded:
    header, rows = _read(file)
    table = sql.Identifier(*name)
    is_there = _value(connection, "SELECT to_regclass(%s) IS NOT NULL", table.as_string())
    if not is_there:
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(_type(rows, place)))
            for place, column in enumerate(header)
        )
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, columns))
    columns = sql.SQL(", ").join(map(sql.Identifier, header))
    draft = sql.Identifier("pg_temp", "seed")
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE seed ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
            columns, table
        )
    )
    try:
        with connection.cursor().copy(
            sql.SQL("COPY {} ({}) FROM STDIN").format(draft, columns)
        ) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.DataError as error:
        line = re.search(r"seed, line (\d+), column (.*)", error.diag.context or "")
        place = f", row {line[1]}, column {line[2]}" if line else ""
        raise UserError(
            f"{file}{place}: {error.diag.message_primary}", code=error.sqlstate
        ) from error
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))
    deleted, inserted = _merge(connection, table, draft, header)
    count = _value(connection, sql.SQL("SELECT count(*) FROM {}").format(table))
    connection.execute("DROP TABLE pg_temp.seed")
    return Seeded(".".join(name), str(file), count, inserted, deleted, not is_there)


def _merge(
    connection: psycopg.Connection[Any],
    table: sql.Identifier,
    draft: sql.Identifier,
    header: list[str],
) -> tuple[int, int]:
    """Write the rows that differ, and return how many were deleted and inserted.

    Equal rows are numbered, so that a row that the file has twice is there twice.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, header))
    same = sql.SQL(" AND ").join(
        sql.SQL("a.{0} IS NOT DISTINCT FROM b.{0}").format(sql.Identifier(name)) for name in header
    )
    numbered = sql.SQL(
        "(SELECT {columns}, ctid AS place, "
        "row_number() OVER (PARTITION BY {columns}) AS copy_number FROM {relation})"
    )
    parts = {
        "table": table,
        "columns": columns,
        "same": sql.SQL("{} AND a.copy_number = b.copy_number").format(same),
        "there": numbered.format(columns=columns, relation=table),
        "wanted": numbered.format(columns=columns, relation=draft),
    }
    deleted = connection.execute(
        sql.SQL(
            "DELETE FROM {table} WHERE ctid IN (SELECT a.place FROM {there} AS a "
            "WHERE NOT EXISTS (SELECT FROM {wanted} AS b WHERE {same}))"
        ).format(**parts)
    ).rowcount
    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {wanted} AS a "
            "WHERE NOT EXISTS (SELECT FROM {there} AS b WHERE {same})"
        ).format(**parts)
    ).rowcount
    return deleted, inserted


def _type(rows: list[list[str | None]], place: int) -> str:
    """Return the type that fits all values of a column; otherwise text."""
    values = [row[place] for row in rows if row[place] is not None]
    for name, pattern in _TYPES:
        if values and all(pattern.fullmatch(value) for value in values if value is not None):
            return name
    return "text"


def _value(connection: psycopg.Connection[Any], query: Any, *parameters: object) -> Any:
    row = connection.execute(query, parameters or None).fetchone()
    return row[0] if row else None


def _render(answer: list[dict[str, Any]]) -> None:
    for one in answer:
        if one["created"]:
            outcome = f"created, {output.plural(one['rows'], 'row')}"
        elif one["inserted"] or one["deleted"]:
            outcome = f"{one['inserted']:,} inserted, {one['deleted']:,} deleted"
        else:
            outcome = f"no change, {output.plural(one['rows'], 'row')}"
        console.say("[ok]✓[/] {}  {}", one["table"], outcome)
