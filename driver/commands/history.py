"""`oceanrecords export-history` and `import-history`: versions that the source no longer has."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql
from psycopg.rows import namedtuple_row

from base import output, state
from base.connection import connect
from base.errors import EXIT_USAGE, UserError, from_database, not_installed
from base.options import JsonOption, file_or_folder
from base.output import console, emit

EXAMPLES = (
    "Examples: oceanrecords --dsn postgresql:///old export-history history · "
    "oceanrecords --dsn postgresql:///new import-history history"
)
_CHUNK = 1 << 16

# Needs no catalog of the engine: a database from before 1.0.0 has another one.
_DIMENSIONS = """
SELECT c.relname
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace('dwh') AND c.relkind IN ('r', 'p')
    AND (
        SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attname IN ('valid_from', 'valid_to', 'is_current')
    ) = 3
ORDER BY c.relname
"""
_DIMENSION = """
SELECT d.dimension_table::text AS name, d.surrogate_key, d.business_key, (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute AS a
    WHERE a.attrelid = d.dimension_table AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attgenerated = '' AND a.attname <> 'run_id'
) AS columns
FROM etl.dimension AS d
WHERE d.dimension = %s
"""
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", parser=file_or_folder, help="Folder of one CSV file per dimension."
    ),
]


def export_history(context: typer.Context, folder: Folder, as_json: JsonOption = False) -> None:
    """Write all versions of all dimensions to CSV files, also of a warehouse from before 1.0.0.

    The files hold personal data, as the dimensions do.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty.", "Name another folder.", EXIT_USAGE)
    answer = []
    with connect(state.of(context).dsn, application_name="oceanrecords history") as connection:
        names = [name for (name,) in connection.execute(_DIMENSIONS).fetchall()]
        if not names:
            raise not_installed('schema "dwh" has no dimension')
        folder.mkdir(parents=True, exist_ok=True)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for name in names:
                query = sql.SQL("COPY {} TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8')")
                with (folder / f"{name}.csv").open("wb") as file, connection.cursor() as cursor:
                    with cursor.copy(query.format(sql.Identifier("dwh", name))) as copy:
                        for data in copy:
                            file.write(data)
                    answer.append({"dimension": name, "versions": cursor.rowcount})
    emit(answer, as_json=as_json, render=_render)


def import_history(context: typer.Context, folder: Folder, as_json: JsonOption = False) -> None:
    """Fill empty dimensions with the versions that export-history wrote, before the first run.

    Columns are matched by name. The first run then adds and closes versions as the source says.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(f"There is no CSV file in {folder}.", exit_code=EXIT_USAGE)
    with (
        connect(state.of(context).dsn, application_name="oceanrecords history") as connection,
        connection.transaction(),
    ):
        connection.execute("SELECT etl.await_no_run()")
        answer = []
        for file in files:
            try:
                answer.append(_import(connection, file))
            except psycopg.DataError as error:
                raise from_database(error, context=str(file)) from error
    emit(answer, as_json=as_json, render=_render)


def _import(connection: psycopg.Connection[Any], file: Path) -> dict[str, Any]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        found: Any = cursor.execute(_DIMENSION, [file.stem]).fetchone()
    if found is None:
        raise UserError(
            f"{file}: the warehouse has no dimension {file.stem}.", "Remove or rename the file."
        )
    table, key = sql.SQL(found.name), sql.Identifier(found.surrogate_key)
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} >= 0)").format(table, key)
    ).fetchone()
    if row == (True,):
        raise UserError(
            f"{found.name} has versions already.", "Import into a warehouse before its first run."
        )
    with file.open(encoding="utf-8", newline="") as text:
        header = next(csv.reader(text), [])
    needed = {found.surrogate_key, *found.business_key, "valid_from", "valid_to", "is_current"}
    if not needed <= set(header):
        missing = ", ".join(sorted(needed - set(header)))
        raise UserError(f"{file}: its first line does not name {missing}.")
    columns = [name for name in found.columns if name in header]
    connection.execute("DROP TABLE IF EXISTS pg_temp.history")
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE history ({}) ON COMMIT DROP").format(
            sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(one)) for one in header)
        )
    )
    with (
        file.open("rb") as data,
        connection.cursor() as cursor,
        cursor.copy(
            "COPY pg_temp.history FROM STDIN (FORMAT csv, HEADER, ENCODING 'UTF8')"
        ) as copy,
    ):
        while chunk := data.read(_CHUNK):
            copy.write(chunk)
    # Values are read as their columns' types by way of a record of the table.
    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {table} ({columns}, run_id) SELECT {values}, 0 FROM pg_temp.history AS h "
            "CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, to_jsonb(h)) AS r "
            "WHERE r.{key} >= 0"
        ).format(
            table=table, key=key,
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            values=sql.SQL(", ").join(sql.Identifier("r", one) for one in columns),
        )
    )  # fmt: skip
    connection.execute(
        sql.SQL(
            "SELECT setval(pg_get_serial_sequence(%s, %s), greatest(max({}), 1)) FROM {}"
        ).format(key, table),
        [found.name, found.surrogate_key],
    )
    return {
        "dimension": file.stem,
        "versions": inserted.rowcount,
        "left_out": [one for one in header if one not in (*columns, "run_id")],
    }


def _render(answer: list[dict[str, Any]]) -> None:
    table = output.table("dimension", "versions", "columns left out")
    for one in answer:
        table.add_row(one["dimension"], one["versions"], ", ".join(one.get("left_out", [])))
    console.print(table)
