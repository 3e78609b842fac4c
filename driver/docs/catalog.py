"""What the pictures show, asked of the live database: its catalog, its comments, its last run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import dict_row

from driver.errors import not_installed


class Name(NamedTuple):
    """Schema and name of a relation."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Column:
    """A column of a table or view.

    Attributes:
        type: its SQL type.
        is_key: part of the primary key.
        is_reference: part of a foreign key.
        sensitivity: how it is shown to analysts; 'not decided' where that is to be declared; None
            where the layer has no such thing.
    """

    name: str
    type: str
    is_nullable: bool
    is_key: bool
    is_reference: bool
    comment: str | None
    sensitivity: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table or view.

    Attributes:
        kind: 'table', 'view', 'materialized view' or 'foreign table'.
        rows: as the planner knows them; None where it does not.
    """

    name: Name
    kind: str
    comment: str | None
    rows: int | None
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """Return a column by name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the columns of the primary key."""
        return tuple(column.name for column in self.columns if column.is_key)


@dataclass(frozen=True)
class Routine:
    """A function or procedure that is meant to be used."""

    name: Name
    kind: str
    signature: str
    comment: str | None


@dataclass(frozen=True)
class Layer:
    """A schema.

    Attributes:
        position: 1 operational, 2 to 7 source to kpi, 8 others, 9 the engine.
    """

    schema: str
    position: int
    is_operational: bool
    comment: str | None


@dataclass(frozen=True)
class Reference:
    """A foreign key: `columns` of `child` refer to `parent_columns` of `parent`.

    Attributes:
        is_optional: a row may refer to nothing.
        is_unique: at most one row refers to each.
    """

    child: Name
    columns: tuple[str, ...]
    parent: Name
    parent_columns: tuple[str, ...]
    is_optional: bool
    is_unique: bool


@dataclass(frozen=True)
class Dimension:
    """A dimension of the engine's catalog; `types` are the SCD types by attribute."""

    name: str
    table: Name
    surrogate_key: str
    business_key: tuple[str, ...]
    is_loaded: bool
    types: dict[str, int]


@dataclass(frozen=True)
class Fact:
    """A fact of the engine's catalog.

    Attributes:
        roles: the dimension of each key column.
    """

    name: str
    table: Name
    business_key: tuple[str, ...]
    measures: tuple[str, ...]
    roles: dict[str, str]


@dataclass(frozen=True)
class Task:
    """A task, with what the last run that had it did.

    Attributes:
        status: 'never' before the first run.
        rows: counts by what was done.
        sqlstate: error code of a failed one; its message may quote data, and is left out.
    """

    name: str
    kind: str
    object: str
    position: int
    status: str
    seconds: float | None
    rows: dict[str, int]
    sqlstate: str | None


@dataclass(frozen=True)
class Edge:
    """A task that waits for another, for its success or only for its end."""

    task: str
    predecessor: str
    wait_for: str


@dataclass(frozen=True)
class Step:
    """What a load makes of a column: that of `target` comes from that of `origin`."""

    target: Name
    column: str
    origin: Name
    origin_column: str
    how: str


@dataclass(frozen=True)
class Definition:
    """The query of a view, or of an SQL function that gives rows.

    Attributes:
        columns: what it gives; empty for a function that does not name them.
    """

    name: Name
    kind: str
    columns: tuple[str, ...]
    query: str


@dataclass(frozen=True)
class Run:
    """The latest run."""

    run_id: int
    status: str
    started_at: datetime
    seconds: float
    rows: int


@dataclass(frozen=True)
class Catalog:
    """All that the pictures need.

    Attributes:
        gaps: what has no comment, as (kind, name).
        sources: key columns by source table.
        run: the latest run; None before the first.
    """

    layers: tuple[Layer, ...]
    relations: dict[Name, Relation]
    routines: tuple[Routine, ...]
    references: tuple[Reference, ...]
    dimensions: dict[str, Dimension]
    facts: dict[str, Fact]
    aggregates: dict[str, Name]
    sources: dict[str, tuple[str, ...]]
    tasks: tuple[Task, ...]
    edges: tuple[Edge, ...]
    steps: tuple[Step, ...]
    definitions: dict[tuple[str, Name], Definition]
    gaps: tuple[tuple[str, str], ...]
    run: Run | None
    reads: dict[Name, tuple[Name, ...]] = field(default_factory=dict)

    @cached_property
    def operational(self) -> tuple[str, ...]:
        """Schemas of the operational system; none when it is on another server."""
        return tuple(layer.schema for layer in self.layers if layer.is_operational)

    def of(self, schema: str) -> list[Relation]:
        """Return the relations of a schema, in the order of their names."""
        return [one for name, one in sorted(self.relations.items()) if name.schema == schema]

    def position(self, name: Name) -> int:
        """Return the layer's position of a relation."""
        return next((one.position for one in self.layers if one.schema == name.schema), 8)


def read(connection: psycopg.Connection[Any]) -> Catalog:
    """Ask the database for all that the pictures show, on one snapshot.

    Parameters:
        connection: autocommit connection to the warehouse.

    Raises:
        UserError: if the warehouse is not installed.
        psycopg.Error: if something may not be read.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            return _read(connection)
        except psycopg.errors.UndefinedTable as error:
            raise not_installed(
                f"There is no warehouse to document: {error.diag.message_primary}", error.sqlstate
            ) from error


def _rows(connection: psycopg.Connection[Any], query: LiteralString) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def _read(connection: psycopg.Connection[Any]) -> Catalog:
    layers = tuple(
        Layer(row["schema_name"], row["position"], row["is_operational"], row["comment"])
        for row in _rows(connection, "SELECT * FROM etl.layer ORDER BY position, schema_name")
    )
    objects = _rows(
        connection, "SELECT * FROM etl.dictionary_object ORDER BY layer, schema_name, object_name"
    )
    latest = _rows(connection, "SELECT * FROM etl.run_status ORDER BY run_id DESC LIMIT 1")
    return Catalog(
        layers=layers,
        relations=_relations(connection, objects),
        routines=tuple(
            Routine(
                Name(row["schema_name"], row["object_name"]),
                row["kind"],
                row["signature"],
                row["comment"],
            )
            for row in objects
            if row["kind"] in ("function", "procedure", "aggregate") and row["is_public"]
        ),
        references=tuple(
            Reference(
                Name(row["schema_name"], row["object_name"]),
                tuple(row["column_names"]),
                Name(row["parent_schema_name"], row["parent_name"]),
                tuple(row["parent_column_names"]),
                row["is_optional"],
                row["is_unique"],
            )
            for row in _rows(
                connection,
                "SELECT * FROM etl.dictionary_reference "
                "ORDER BY schema_name, object_name, column_names",
            )
        ),
        dimensions=_dimensions(connection),
        facts=_facts(connection),
        aggregates={
            row["aggregate"]: Name(row["schema_name"], row["table_name"])
            for row in _rows(connection, "SELECT * FROM etl.star_aggregate ORDER BY aggregate")
        },
        sources={
            row["source_table"]: tuple(row["key_columns"])
            for row in _rows(connection, "SELECT * FROM etl.source_table ORDER BY source_table")
        },
        tasks=_tasks(connection),
        edges=tuple(
            Edge(row["task"], row["predecessor"], row["wait_for"])
            for row in _rows(connection, "SELECT * FROM etl.task_edge ORDER BY task, predecessor")
        ),
        steps=tuple(
            Step(
                Name(row["schema_name"], row["object_name"]),
                row["column_name"],
                Name(row["origin_schema_name"], row["origin_name"]),
                row["origin_column_name"],
                row["how"],
            )
            for row in _rows(
                connection,
                "SELECT * FROM etl.lineage_step ORDER BY schema_name, object_name, column_name, "
                "origin_schema_name, origin_name, origin_column_name",
            )
        ),
        definitions={
            (row["kind"], Name(row["schema_name"], row["object_name"])): Definition(
                Name(row["schema_name"], row["object_name"]),
                row["kind"],
                tuple(row["column_names"] or ()),
                row["definition"],
            )
            for row in _rows(connection, "SELECT * FROM etl.lineage_definition")
        },
        gaps=tuple(
            (row["kind"], row["object"])
            for row in _rows(connection, "SELECT * FROM etl.dictionary_gap ORDER BY kind, object")
        ),
        run=_run(latest[0]) if latest else None,
    )


def _relations(
    connection: psycopg.Connection[Any], objects: Iterable[dict[str, Any]]
) -> dict[Name, Relation]:
    columns: dict[Name, list[Column]] = {}
    for row in _rows(
        connection,
        "SELECT d.*, CASE WHEN s.position IS NOT NULL THEN coalesce(s.sensitivity, 'not decided') "
        "END AS sensitivity FROM etl.dictionary_column AS d LEFT JOIN etl.column_status AS s "
        "USING (schema_name, object_name, column_name) "
        "ORDER BY d.layer, schema_name, object_name, d.position",
    ):
        columns.setdefault(Name(row["schema_name"], row["object_name"]), []).append(
            Column(
                row["column_name"],
                row["data_type"],
                row["is_nullable"],
                row["is_primary_key"],
                row["is_foreign_key"],
                row["comment"],
                row["sensitivity"],
            )
        )
    relations = {}
    for row in objects:
        name = Name(row["schema_name"], row["object_name"])
        if row["kind"] in ("table", "view", "materialized view", "foreign table"):
            relations[name] = Relation(
                name, row["kind"], row["comment"], row["estimated_rows"], tuple(columns[name])
            )
    return relations


def _dimensions(connection: psycopg.Connection[Any]) -> dict[str, Dimension]:
    return {
        row["dimension"]: Dimension(
            row["dimension"],
            Name(row["schema_name"], row["table_name"]),
            row["surrogate_key"],
            tuple(row["business_key"]),
            row["is_loaded"],
            row["attributes"],
        )
        for row in _rows(connection, "SELECT * FROM etl.star_dimension ORDER BY dimension")
    }


def _facts(connection: psycopg.Connection[Any]) -> dict[str, Fact]:
    return {
        row["fact"]: Fact(
            row["fact"],
            Name(row["schema_name"], row["table_name"]),
            tuple(row["business_key"]),
            tuple(row["measures"]),
            row["roles"],
        )
        for row in _rows(connection, "SELECT * FROM etl.star_fact ORDER BY fact")
    }


def _tasks(connection: psycopg.Connection[Any]) -> tuple[Task, ...]:
    counts = ("read", "inserted", "updated", "deleted", "queued", "quarantined")
    return tuple(
        Task(
            row["task"],
            row["kind"],
            row["object"],
            row["position"],
            row["status"] or "never",
            None if row["seconds"] is None else float(row["seconds"]),
            {count: row[f"rows_{count}"] or 0 for count in counts},
            row["sqlstate"],
        )
        for row in _rows(connection, "SELECT * FROM etl.task_graph ORDER BY position")
    )


def _run(row: dict[str, Any]) -> Run:
    return Run(
        row["run_id"], row["status"], row["started_at"], float(row["seconds"]), row["rows_written"]
    )
