"""`oceanrecords source marks`: write the migration that gives source tables exact change marks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from base import state
from base.connection import connect
from base.errors import UserError
from base.options import JsonOption
from base.output import console, emit
from driver import project
from driver.scaffold import source
from driver.scaffold.declare import literal
from driver.scaffold.model import quoted
from driver.scaffold.source import TOMBSTONES, Table

EXAMPLE = "Example: oceanrecords source marks --schema northwind --write marks.sql"
COLUMN = "row_xid"


def marks(
    context: typer.Context,
    file: Annotated[
        Path, typer.Option("--write", metavar="FILE", help="File to write; not overwritten.")
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
    parts = [
        "-- Exact change marks for the warehouse. Apply it once, as the owner of the tables, in one transaction: psql -1 -f FILE.\n"
        "-- Adding the column does not rewrite the tables; creating an index blocks writers while it lasts.\n"
    ]
    parts += [f"-- {name} has no key: it stays as it is.\n" for name in unmarked]
    for schema in dict.fromkeys(one.schema for one in marked):
        parts.append(_of_schema(quoted(schema)))
    for one in marked:
        parts.append(_of_table(one, partitions.get((one.schema, one.name), [])))
    return "\n".join(parts)


def _of_schema(schema: str) -> str:
    return f"""\
CREATE TABLE {schema}.{TOMBSTONES} (
    table_name text NOT NULL,
    row_key jsonb NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    row_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX {TOMBSTONES}_row_xid ON {schema}.{TOMBSTONES} (row_xid);
COMMENT ON TABLE {schema}.{TOMBSTONES} IS 'Rows that were deleted, for the warehouse. Old ones may be removed once it has read them.';

CREATE FUNCTION {schema}.mark_row()
RETURNS trigger
LANGUAGE plpgsql
AS $mark_row$
BEGIN
    NEW.{COLUMN} := pg_current_xact_id();
    RETURN NEW;
END
$mark_row$;
COMMENT ON FUNCTION {schema}.mark_row() IS 'Trigger: notes the transaction that writes the row.';

-- Arguments of these triggers: the table that tombstones name, then the key columns.
CREATE FUNCTION {schema}.bury_row()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $bury_row$
BEGIN
    INSERT INTO {schema}.{TOMBSTONES} (table_name, row_key)
    SELECT TG_ARGV[0], jsonb_object_agg(k.name, to_jsonb(OLD) -> k.name)
    FROM unnest(TG_ARGV[1:]) AS k (name);
    RETURN NULL;
END
$bury_row$;
COMMENT ON FUNCTION {schema}.bury_row() IS 'Trigger: leaves a tombstone for a row that is deleted, or whose key changes.';

CREATE FUNCTION {schema}.bury_all()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $bury_all$
BEGIN
    EXECUTE format(
        'INSERT INTO {schema.replace("'", "''")}.{TOMBSTONES} (table_name, row_key) SELECT %L, jsonb_build_object(%s) FROM %I.%I',
        TG_ARGV[0], (SELECT string_agg(format('%L, %I', k.name, k.name), ', ') FROM unnest(TG_ARGV[1:]) AS k (name)),
        TG_TABLE_SCHEMA, TG_TABLE_NAME
    );
    RETURN NULL;
END
$bury_all$;
COMMENT ON FUNCTION {schema}.bury_all() IS 'Trigger: leaves a tombstone for every row of a table that is truncated.';
REVOKE ALL ON FUNCTION {schema}.bury_row(), {schema}.bury_all() FROM PUBLIC;
"""


def _of_table(one: Table, partitions: list[str]) -> str:
    schema, table = quoted(one.schema), f"{quoted(one.schema)}.{quoted(one.name)}"
    arguments = ", ".join(literal(name) for name in (one.name, *one.key))
    differs = " OR ".join(
        f"OLD.{quoted(name)} IS DISTINCT FROM NEW.{quoted(name)}" for name in one.key
    )
    index = quoted(f"{one.name}_{COLUMN}"[:63])
    text = f"""\
ALTER TABLE {table} ADD COLUMN {COLUMN} xid8 NOT NULL DEFAULT pg_current_xact_id();
COMMENT ON COLUMN {table}.{COLUMN} IS 'Transaction that last wrote the row, for the warehouse.';
CREATE INDEX {index} ON {table} ({COLUMN});
CREATE TRIGGER mark_row BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.mark_row();
CREATE TRIGGER bury_row AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.bury_row({arguments});
CREATE TRIGGER bury_key AFTER UPDATE ON {table}
    FOR EACH ROW WHEN ({differs}) EXECUTE FUNCTION {schema}.bury_row({arguments});
CREATE TRIGGER bury_all BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.bury_all({arguments});
"""
    # A partition can be truncated by itself, and its triggers are enabled by themselves.
    for name in partitions:
        text += (
            f"CREATE TRIGGER bury_all BEFORE TRUNCATE ON {name} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {schema}.bury_all({arguments});\n"
        )
    text += "-- Also for sessions that apply changes as a replica does.\n"
    for name in (table, *partitions):
        text += (
            f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER mark_row, ENABLE ALWAYS TRIGGER bury_row,\n"
            "    ENABLE ALWAYS TRIGGER bury_key, ENABLE ALWAYS TRIGGER bury_all;\n"
        )
    return text


def _render(answer: dict[str, object]) -> None:
    tables, without = answer["tables"], answer["without_key"]
    assert isinstance(tables, list)
    assert isinstance(without, list)
    console.print(f"[ok]✓[/] {answer['file']} [quiet]marks {len(tables)} tables[/]", soft_wrap=True)
    if without:
        console.print(f"[quiet]without a key: {', '.join(without)}[/]", soft_wrap=True)
    console.print(
        f"Let their owner apply it: psql -1 -f {answer['file']}, then: oceanrecords new DIR",
        soft_wrap=True,
    )
