"""What the documentation shows, read from the live database: its catalog, comments and last run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
from psycopg.rows import class_row

from base.errors import not_installed

_T = TypeVar("_T")


class Name(NamedTuple):
    """Schema and name of a relation or routine."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


class _Named:
    """A row whose columns `schema` and `object` become one `Name`, the attribute `name`."""

    schema: str
    object: str

    @cached_property
    def name(self) -> Name:
        """Schema and name."""
        return Name(self.schema, self.object)


@dataclass
class Column(_Named):
    """A column of a table or view.

    Attributes:
        column: its name.
        is_key: part of the primary key.
        is_reference: part of a foreign key.
        sensitivity: how analysts see it; 'not decided' if it is not declared; None in layers
            without sensitivity.
    """

    schema: str
    object: str
    column: str
    type: str
    is_nullable: bool
    is_key: bool
    is_reference: bool
    comment: str | None
    sensitivity: str | None


@dataclass
class Relation(_Named):
    """A table or view.

    Attributes:
        kind: 'table', 'view', 'materialized view' or 'foreign table'.
        rows: the planner's estimate; None if it has none.
    """

    schema: str
    object: str
    kind: str
    comment: str | None
    rows: int | None
    columns: tuple[Column, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the columns of the primary key."""
        return tuple(one.column for one in self.columns if one.is_key)


@dataclass
class Routine(_Named):
    """A public function or procedure."""

    schema: str
    object: str
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
    """A foreign key: `columns` of `child` reference `parent_columns` of `parent`.

    Attributes:
        is_optional: the key can be NULL.
        is_unique: at most one row references each parent row.
    """

    child: Name
    columns: tuple[str, ...]
    parent: Name
    parent_columns: tuple[str, ...]
    is_optional: bool
    is_unique: bool

    def __post_init__(self) -> None:
        for end in ("child", "parent"):
            object.__setattr__(self, end, Name(*getattr(self, end)))


@dataclass
class Dimension(_Named):
    """A declared dimension; `types` are the SCD types by attribute."""

    dimension: str
    schema: str
    object: str
    surrogate_key: str
    business_key: list[str]
    types: dict[str, int]


@dataclass
class Fact(_Named):
    """A declared fact; `roles` are the dimensions by key column."""

    fact: str
    schema: str
    object: str
    business_key: list[str]
    measures: list[str]
    roles: dict[str, str]


@dataclass(frozen=True)
class Object:
    """A declared object and the state of its load.

    Attributes:
        kind: 'source table', 'dimension', 'fact' or 'aggregate'.
        state: 'loaded', 'not loaded', 'full refresh requested', or 'filled by a migration'.
        rows: the planner's estimate.
    """

    object: str
    kind: str
    state: str
    rows: int | None
    upstream: list[str]


@dataclass(frozen=True)
class Migration:
    """A migration that was applied."""

    folder: str
    migration: str
    applied_at: datetime


@dataclass(frozen=True)
class Task:
    """A task and its result in the last run that included it.

    Attributes:
        status: 'never' before the first run.
        sqlstate: error code if it failed; its message may quote data and is left out.
    """

    name: str
    kind: str
    object: str
    status: str
    seconds: float | None
    read: int
    inserted: int
    updated: int
    deleted: int
    queued: int
    quarantined: int
    sqlstate: str | None


@dataclass(frozen=True)
class Edge:
    """A task that waits for another: for 'success', or for 'end' whatever its outcome."""

    task: str
    predecessor: str
    wait_for: str


@dataclass(frozen=True)
class Step:
    """A column that a load writes: `column` of `target` comes from `origin_column` of `origin`."""

    target: Name
    column: str
    origin: Name
    origin_column: str
    how: str

    def __post_init__(self) -> None:
        for end in ("target", "origin"):
            object.__setattr__(self, end, Name(*getattr(self, end)))


@dataclass
class Definition(_Named):
    """The query of a view, or of an SQL function that returns rows.

    Attributes:
        columns: its output; empty for a function that does not name them.
    """

    schema: str
    object: str
    kind: str
    columns: list[str]
    query: str


@dataclass(frozen=True)
class Statement:
    """A statement or compiled routine that the tasks of an object run."""

    object: str
    title: str
    statement: str


@dataclass(frozen=True)
class Check:
    """A data quality check and its latest result, without its message and sample of rows."""

    check: str
    severity: str
    description: str
    is_enabled: bool
    status: str
    violations: int | None
    checked_at: datetime | None


@dataclass(frozen=True)
class Gap:
    """Something without a comment."""

    kind: str
    object: str


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
    """All that the documentation needs; `run` is None before the first run."""

    layers: tuple[Layer, ...]
    relations: dict[Name, Relation]
    routines: tuple[Routine, ...]
    references: tuple[Reference, ...]
    dimensions: dict[str, Dimension]
    facts: dict[str, Fact]
    objects: dict[str, Object]
    sources: dict[str, list[str]]
    migrations: tuple[Migration, ...]
    tasks: tuple[Task, ...]
    edges: tuple[Edge, ...]
    steps: tuple[Step, ...]
    definitions: dict[tuple[str, Name], Definition]
    statements: tuple[Statement, ...]
    checks: tuple[Check, ...]
    gaps: tuple[Gap, ...]
    run: Run | None

    @cached_property
    def operational(self) -> tuple[str, ...]:
        """Schemas of the operational system; none if it is on another server."""
        return tuple(layer.schema for layer in self.layers if layer.is_operational)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {layer.schema: layer.position for layer in self.layers}

    def of(self, schema: str) -> list[Relation]:
        """Return the relations of a schema, ordered by name."""
        return [one for name, one in sorted(self.relations.items()) if name.schema == schema]

    def tables(self, schema: str) -> list[Relation]:
        """Return the tables of a schema, ordered by name."""
        return [one for one in self.of(schema) if one.kind in ("table", "foreign table")]

    def position(self, name: Name) -> int:
        """Return the position of a relation's layer."""
        return self._positions.get(name.schema, 8)


def read(connection: psycopg.Connection[Any]) -> Catalog:
    """Read all that the documentation shows, under one snapshot.

    Parameters:
        connection: autocommit connection to the warehouse.

    Raises:
        UserError: if the warehouse is not installed.
        psycopg.Error: if a privilege is missing.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        try:
            return _read(connection)
        except psycopg.errors.UndefinedTable as error:
            raise not_installed(
                f"There is no warehouse to document: {error.diag.message_primary}", error.sqlstate
            ) from error


_COLUMNS = """
    SELECT
        d.schema_name AS schema, d.object_name AS object, d.column_name AS column,
        d.data_type AS type, d.is_nullable, d.is_primary_key AS is_key,
        d.is_foreign_key AS is_reference, d.comment,
        CASE WHEN s.position IS NOT NULL THEN coalesce(s.sensitivity, 'not decided') END
            AS sensitivity
    FROM etl.dictionary_column AS d
    LEFT JOIN etl.column_status AS s USING (schema_name, object_name, column_name)
    ORDER BY d.layer, schema_name, object_name, d.position
"""
_OBJECTS = """
    SELECT
        o.object, o.kind, s.row_estimate AS rows, s.upstream,
        CASE
            WHEN o.view_name IS NULL AND o.kind = 'dimension' THEN 'filled by a migration'
            WHEN s.batch_id IS NULL THEN 'not loaded'
            WHEN o.needs_full_refresh THEN 'full refresh requested'
            ELSE 'loaded'
        END AS state
    FROM etl.object AS o
    JOIN etl.object_status AS s USING (object)
    ORDER BY s.position NULLS FIRST, o.object
"""
_TASKS = """
    SELECT
        t.task AS name, t.kind, t.object, coalesce(s.status, 'never') AS status, s.seconds::float8,
        coalesce(s.rows_read, 0) AS read, coalesce(s.rows_inserted, 0) AS inserted,
        coalesce(s.rows_updated, 0) AS updated, coalesce(s.rows_deleted, 0) AS deleted,
        coalesce(s.rows_queued, 0) AS queued, coalesce(s.rows_quarantined, 0) AS quarantined,
        s.sqlstate
    FROM etl.task AS t
    LEFT JOIN etl.task_status AS s USING (task)
    ORDER BY t.position
"""
_STEPS = """
    SELECT
        ARRAY[schema_name, object_name] AS target, column_name AS column,
        ARRAY[origin_schema_name, origin_name] AS origin, origin_column_name AS origin_column, how
    FROM etl.lineage_step
    ORDER BY 1, 2, 3, 4
"""
_REFERENCES = """
    SELECT
        ARRAY[schema_name, object_name] AS child, column_names AS columns,
        ARRAY[parent_schema_name, parent_name] AS parent, parent_column_names AS parent_columns,
        is_optional, is_unique
    FROM etl.dictionary_reference
    ORDER BY 1, 2
"""
_STATEMENTS = """
    SELECT t.object, s.title, s.statement
    FROM (SELECT object, min(position) AS position FROM etl.task GROUP BY object) AS t
    CROSS JOIN LATERAL etl.object_sql(t.object::text) AS s
    ORDER BY t.position, s.step
"""
_MIGRATIONS = """
    SELECT
        split_part(migration_id, '/', 1) AS folder, split_part(migration_id, '/', 2) AS migration,
        applied_at_utc AS applied_at
    FROM yoyo._yoyo_migration
    ORDER BY applied_at_utc
"""


def _read(connection: psycopg.Connection[Any]) -> Catalog:
    def rows(kind: type[_T], query: LiteralString) -> list[_T]:
        with connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(query).fetchall()

    columns: dict[Name, list[Column]] = {}
    for column in rows(Column, _COLUMNS):
        columns.setdefault(column.name, []).append(column)
    relations = rows(
        Relation,
        "SELECT schema_name AS schema, object_name AS object, kind, comment, estimated_rows AS rows"
        " FROM etl.dictionary_object WHERE kind IN"
        " ('table', 'view', 'materialized view', 'foreign table')"
        " ORDER BY layer, schema_name, object_name",
    )
    for relation in relations:
        relation.columns = tuple(columns.get(relation.name, ()))
    return Catalog(
        layers=tuple(
            rows(
                Layer,
                "SELECT schema_name AS schema, position, is_operational, comment FROM etl.layer"
                " ORDER BY position, schema_name",
            )
        ),
        relations={one.name: one for one in relations},
        routines=tuple(
            rows(
                Routine,
                "SELECT schema_name AS schema, object_name AS object, kind, signature, comment"
                " FROM etl.dictionary_object"
                " WHERE kind IN ('function', 'procedure', 'aggregate') AND is_public"
                " ORDER BY layer, schema_name, object_name, signature",
            )
        ),
        references=tuple(rows(Reference, _REFERENCES)),
        dimensions={
            one.dimension: one
            for one in rows(
                Dimension,
                "SELECT dimension, schema_name AS schema, table_name AS object, surrogate_key,"
                " business_key, attributes AS types FROM etl.star_dimension"
                " ORDER BY dimension",
            )
        },
        facts={
            one.fact: one
            for one in rows(
                Fact,
                "SELECT fact, schema_name AS schema, table_name AS object, business_key, measures,"
                " roles FROM etl.star_fact ORDER BY fact",
            )
        },
        objects={one.object: one for one in rows(Object, _OBJECTS)},
        sources=dict(
            connection.execute("SELECT source_table, key_columns FROM etl.source_table").fetchall()
        ),
        migrations=_migrations(connection),
        tasks=tuple(rows(Task, _TASKS)),
        edges=tuple(
            rows(
                Edge,
                "SELECT task, predecessor, wait_for FROM etl.task_edge ORDER BY task, predecessor",
            )
        ),
        steps=tuple(rows(Step, _STEPS)),
        definitions={
            (one.kind, one.name): one
            for one in rows(
                Definition,
                "SELECT kind, schema_name AS schema, object_name AS object,"
                " coalesce(column_names, '{}') AS columns, definition AS query"
                " FROM etl.lineage_definition",
            )
        },
        statements=tuple(rows(Statement, _STATEMENTS)),
        checks=tuple(
            rows(
                Check,
                "SELECT check_name AS check, severity, description, is_enabled,"
                " coalesce(status, 'never') AS status, violations, checked_at"
                " FROM etl.check_status ORDER BY check_name",
            )
        ),
        gaps=tuple(rows(Gap, "SELECT kind, object FROM etl.dictionary_gap ORDER BY kind, object")),
        run=next(
            iter(
                rows(
                    Run,
                    "SELECT run_id, status, started_at, seconds::float8, rows_written AS rows"
                    " FROM etl.run_status ORDER BY run_id DESC LIMIT 1",
                )
            ),
            None,
        ),
    )


def _migrations(connection: psycopg.Connection[Any]) -> tuple[Migration, ...]:
    """Return what the migrations recorded; nothing to a role that may not read their log."""
    (is_readable,) = connection.execute(
        "SELECT CASE WHEN has_schema_privilege(to_regnamespace('yoyo'), 'USAGE')"
        " THEN has_table_privilege(to_regclass('yoyo._yoyo_migration'), 'SELECT') END"
    ).fetchone() or (None,)
    if not is_readable:
        return ()
    with connection.cursor(row_factory=class_row(Migration)) as cursor:
        return tuple(cursor.execute(_MIGRATIONS).fetchall())
