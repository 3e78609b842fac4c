"""Reads what the catalog says of an operational system, and keeps it as JSON.

The folder of the business keeps the JSON, so that a later call can compare the source with what the
draft was made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from base.errors import UserError, unknown
from driver.scaffold.text import singular

FILE = "source.json"
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
_COUNT_LIMIT = 1_000_000
# The table of tombstones that `oceanrecords source marks` makes.
TOMBSTONES = "deleted_rows"


@dataclass(frozen=True)
class Column:
    """A column of a source table.

    Attributes:
        name: its name in the source.
        type: its SQL type, as format_type writes it.
        base_type: the same; of a domain, the type below.
        category: pg_type.typcategory of the base type.
        kind: pg_type.typtype: b base, c composite, d domain, e enum, r range.
        is_not_null: whether it is declared NOT NULL.
        default: the expression of its default, or None.
        has_equality: whether values can be compared by a default "=".
        number: its place in pg_attribute, which a rename leaves as it is.
    """

    name: str
    type: str
    base_type: str
    category: str
    kind: str
    is_not_null: bool
    default: str | None
    has_equality: bool
    number: int
    comment: str | None = None


@dataclass(frozen=True)
class Reference:
    """A foreign key, declared or found in the data.

    Attributes:
        schema, table: the table that it refers to.
        to: the columns there.
        is_guess: whether it is not declared.
    """

    columns: tuple[str, ...]
    schema: str
    table: str
    to: tuple[str, ...]
    is_guess: bool = False

    @property
    def at(self) -> tuple[str, str]:
        """Schema and name of the table that it refers to."""
        return self.schema, self.table


@dataclass(frozen=True)
class Trigger:
    """A trigger, as far as it may mark changes."""

    name: str
    function: str
    is_row: bool
    on_update: bool
    on_delete: bool
    on_truncate: bool
    is_always: bool


@dataclass(frozen=True)
class Table:
    """A table of the source.

    Attributes:
        schema, name: what it is called.
        keys: columns that identify a row: the primary key, else unique columns; () if none.
        key_is_guess: whether the key is not declared, but was unique when the draft was made.
        rows: number of rows when it was first read, a million at most.
        days: first and last day of each column of dates or times, when it was first read.
        renames: columns that were renamed since, each with the name that the contract keeps.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_is_guess: bool = False
    references: tuple[Reference, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    rows: int = 0
    days: dict[str, tuple[str, str]] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    comment: str | None = None

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(one for one in self.columns if one.name == name)


@dataclass(frozen=True)
class Source:
    """The tables of an operational system.

    Attributes:
        tables: its tables, by schema and name.
        left_out: tables that the role may not read.
        tombstones: schemas that have a table of tombstones.
        only: tables that the draft was confined to; empty for all.
    """

    schemas: tuple[str, ...]
    tables: tuple[Table, ...]
    left_out: tuple[str, ...] = ()
    tombstones: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def table(self, schema: str, name: str) -> Table | None:
        """Return a table, or None if it is not part of the draft."""
        return next((t for t in self.tables if (t.schema, t.name) == (schema, name)), None)

    def to_json(self) -> str:
        """Return the source as JSON, one line per fact, so that differences read well."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def from_json(path: Path) -> Source:
    """Read what an earlier call has kept.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Source(
            tuple(raw["schemas"]),
            tuple(_table(one) for one in raw["tables"]),
            tuple(raw["left_out"]),
            tuple(raw["tombstones"]),
            tuple(raw["only"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read.",
            "Restore it, for instance from version control: it says what the draft was made from.",
            detail=str(error),
        ) from error


def _table(raw: dict[str, Any]) -> Table:
    """Return a table of JSON, as an earlier call kept it or as the catalog gives it."""
    return Table(
        raw["schema"],
        raw["name"],
        tuple(Column(**one) for one in raw["columns"] or ()),
        tuple(raw["key"]),
        raw.get("key_is_guess", False),
        tuple(
            Reference(**one | {"columns": tuple(one["columns"]), "to": tuple(one["to"])})
            for one in raw["references"] or ()
        ),
        tuple(Trigger(**one) for one in raw["triggers"] or ()),
        raw["rows"],
        {name: (days[0], days[1]) for name, days in raw.get("days", {}).items()},
        raw.get("renames", {}),
        raw["comment"],
    )


def read(
    connection: psycopg.Connection[Any],
    schemas: Iterable[str],
    only: Iterable[str] = (),
    known: Source | None = None,
) -> Source:
    """Read the catalog, and of tables that are new the number of rows and the range of dates.

    Parameters:
        connection: to the source; reads only.
        schemas: schemas to read.
        only: tables to keep, with or without their schema; all if empty.
        known: what an earlier call found: its counts and ranges are kept, so that a later draft
            differs only where the structure of the source does.

    Raises:
        UserError: if a schema or a table does not exist, or nothing can be read.
    """
    wanted_schemas = tuple(schemas)
    text = Path(__file__).with_name("sql").joinpath("tables.sql").read_text(encoding="utf-8")
    there = [name for (name,) in connection.execute(_SCHEMAS).fetchall()]
    for schema in wanted_schemas:
        if schema not in there:
            raise unknown("schema", schema, there)
    raws = [
        row[0]
        for row in connection.execute(text.encode(), {"schemas": list(wanted_schemas)}).fetchall()
    ]
    tombstones = [r["schema"] for r in raws if r["name"] == TOMBSTONES and _is_tombstones(r)]
    raws = [r for r in raws if not (r["name"] == TOMBSTONES and _is_tombstones(r))]
    names = set(only)
    for name in sorted(names):
        # A table that an earlier call was confined to may have been dropped since.
        if name not in (known.only if known else ()) and not any(
            name in (r["name"], f"{r['schema']}.{r['name']}") for r in raws
        ):
            raise unknown("table", name, [r["name"] for r in raws])
    if names:
        raws = [r for r in raws if names & {r["name"], f"{r['schema']}.{r['name']}"}]
    tables = [_from_catalog(connection, raw, known) for raw in raws if raw["is_readable"]]
    if not tables:
        raise UserError(
            f"There is no table to read in {', '.join(wanted_schemas)}.",
            "Let the role of --dsn read the tables: GRANT SELECT ON ALL TABLES IN SCHEMA … TO …",
        )
    found = Source(
        wanted_schemas,
        tuple(tables),
        tuple(f"{r['schema']}.{r['name']}" for r in raws if not r["is_readable"]),
        tuple(tombstones),
        tuple(sorted(names)),
    )
    return _with_guesses(connection, found, known)


def _is_tombstones(raw: dict[str, Any]) -> bool:
    columns = {one["name"]: one["type"] for one in raw["columns"] or ()}
    return {"table_name", "row_key", "deleted_at", "row_xid"} <= set(columns)


def _from_catalog(
    connection: psycopg.Connection[Any], raw: dict[str, Any], known: Source | None
) -> Table:
    before = known.table(raw["schema"], raw["name"]) if known else None
    key = raw["keys"][0]["columns"] if raw["keys"] else []
    table = _table(raw | {"key": key, "rows": before.rows if before else _rows(connection, raw)})
    if before is None:
        return replace(table, days=_days(connection, table))
    return replace(table, days=before.days, renames=_renames(before, table.columns))


def _renames(before: Table, columns: tuple[Column, ...]) -> dict[str, str]:
    """Return the columns that have another name than when the draft was made, with that name."""
    present = {one.name for one in columns}
    old = {one.number: one for one in before.columns if one.name not in present}
    known = {one.name for one in before.columns}
    found = {name: kept for name, kept in before.renames.items() if name in present}
    for one in columns:
        if one.name not in known and one.number in old:
            earlier = old[one.number]
            found[one.name] = before.renames.get(earlier.name, earlier.name)
    return found


def _rows(connection: psycopg.Connection[Any], raw: dict[str, Any]) -> int:
    if raw["estimated_rows"] > _COUNT_LIMIT:
        return _COUNT_LIMIT
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS t").format(
            sql.Identifier(raw["schema"], raw["name"]), sql.Literal(_COUNT_LIMIT)
        )
    ).fetchone()
    return int(row[0]) if row else 0


def _days(connection: psycopg.Connection[Any], table: Table) -> dict[str, tuple[str, str]]:
    """Return the first and last day of each column of dates or times."""
    found = {}
    for column in table.columns:
        if column.category != "D" or column.base_type.startswith("time "):
            continue
        row = connection.execute(
            sql.SQL(
                "SELECT min({c})::date::text, max({c})::date::text FROM {t} "
                "WHERE isfinite({c}) AND {c} BETWEEN '1900-01-01' AND '2199-12-31'"
            ).format(c=sql.Identifier(column.name), t=sql.Identifier(table.schema, table.name))
        ).fetchone()
        if row and row[0]:
            found[column.name] = (row[0], row[1])
    return found


# -- what the catalog does not say ----------------------------------------------------------------


def _with_guesses(
    connection: psycopg.Connection[Any], source: Source, known: Source | None
) -> Source:
    """Return the source with keys and references that its data suggest, where none is declared."""
    tables = []
    for table in source.tables:
        before = known.table(table.schema, table.name) if known else None
        if not table.key:
            if before is not None:
                key = _followed(before.key, table)
                if before.key_is_guess and key is not None:
                    table = replace(table, key=key, key_is_guess=True)
            else:
                likely = _likely_key(connection, table)
                if likely:
                    table = replace(table, key=(likely,), key_is_guess=True)
        tables.append(table)
    result = []
    for table in tables:
        before = known.table(table.schema, table.name) if known else None
        if before is not None:
            guesses = []
            for r in before.references:
                target = next(
                    (t for t in tables if (t.schema, t.name) == (r.schema, r.table)), None
                )
                columns = _followed(r.columns, table)
                to = _followed(r.to, target) if target else None
                if r.is_guess and columns is not None and to is not None:
                    guesses.append(replace(r, columns=columns, to=to))
        else:
            guesses = _likely_references(connection, table, tables)
        taken = {r.columns for r in table.references}
        result.append(
            replace(
                table,
                references=table.references + tuple(r for r in guesses if r.columns not in taken),
            )
        )
    return replace(source, tables=tuple(result))


def _followed(names: tuple[str, ...], table: Table) -> tuple[str, ...] | None:
    """Return columns under their present names, None if one is gone."""
    present = {one.name for one in table.columns}
    by_old = {old: new for new, old in table.renames.items()}
    found = [name if name in present else by_old.get(name, "") for name in names]
    return tuple(found) if all(found) else None


def _likely_key(connection: psycopg.Connection[Any], table: Table) -> str | None:
    """Return a column that is named like a key, and is unique and filled."""
    stem = singular(table.name.lower())
    for column in table.columns:
        name = column.name.lower().replace("_", "")
        if name not in {
            "id", "code", f"{stem}id", f"{stem}no", f"{stem}nr", f"{stem}code", f"{stem}number",
        } or not column.has_equality:  # fmt: skip
            continue
        row = connection.execute(
            sql.SQL("SELECT count(*), count({c}), count(DISTINCT {c}) FROM {t}").format(
                c=sql.Identifier(column.name), t=sql.Identifier(table.schema, table.name)
            )
        ).fetchone()
        if row and row[0] > 0 and row[0] == row[1] == row[2]:
            return column.name
    return None


def _likely_references(
    connection: psycopg.Connection[Any], table: Table, tables: list[Table]
) -> list[Reference]:
    """Return references by columns that are named like the key of another table and hold it."""
    declared = {r.columns for r in table.references}
    found = []
    for column in table.columns:
        if (column.name,) in declared or (column.name,) == table.key:
            continue
        for other in tables:
            if other is table or len(other.key) != 1 or not other.rows:
                continue
            key = other.column(other.key[0])
            stem = singular(other.name.lower())
            wanted = {key.name.lower(), f"{stem}_{key.name.lower()}", f"{stem}{key.name.lower()}"}
            wanted -= {"id", "code", "name"}
            if column.name.lower() not in wanted or column.base_type != key.base_type:
                continue
            row = connection.execute(
                sql.SQL(
                    "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM {o} AS o WHERE "
                    "o.{k} = c.v)) FROM (SELECT DISTINCT t.{c} AS v FROM {t} AS t "
                    "WHERE t.{c} IS NOT NULL LIMIT 10000) AS c"
                ).format(
                    o=sql.Identifier(other.schema, other.name),
                    k=sql.Identifier(key.name),
                    c=sql.Identifier(column.name),
                    t=sql.Identifier(table.schema, table.name),
                )
            ).fetchone()
            if row and row[0] and row[1] * 10 >= row[0] * 9:
                found.append(Reference((column.name,), other.schema, other.name, (key.name,), True))
                break
    return found
