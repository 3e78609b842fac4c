"""What a draft consists of: contracts with the source's tables, dimensions and facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from driver.scaffold.source import Column, Source, Table
from driver.scaffold.text import quoted, snake, words

_AUDIT = re.compile(
    r"(^|_)(created|inserted|updated|modified|changed|last_?update|last_?modified|row_xid|row_?version)"
)
_PERSON = re.compile(
    r"(^|_)(customers?|clients?|contacts?|persons?|people|employees?|staff|members?|patients?|users?"
    r"|actors?|doctors?|students?|drivers?|guests?)(_|$)"
)
_PERSONAL = re.compile(
    r"(^|_)(name|first|last|middle|full_?name|phone|mobile|fax|e?mail|address\d?|street|birth|born|dob"
    r"|contact|iban|ssn|passport|photo|login|password)(_|$)"
)

At = tuple[str, str]  # schema and name of a source table
Pairs = tuple[tuple[str, str, str], ...]  # alias and column on one side, column on the other


@dataclass(frozen=True)
class Field:
    """A column of the contract.

    Attributes:
        name: its name in the contract.
        column: the column of the source; None for the two columns that stand in for a key.
        expression: what the contract reads, over the alias t.
        type: its type in the contract.
        note: how and why it differs from the source, or ''.
    """

    name: str
    column: Column | None
    expression: str
    type: str
    note: str = ""

    @property
    def comment(self) -> str:
        """What it is, in a sentence: the source's own comment if it has one."""
        if self.column is None:
            return _STAND_INS[self.name]
        text = (self.column.comment or "").strip() or words(self.name)
        return text if text.endswith(".") else f"{text}."

    @property
    def is_audit(self) -> bool:
        """Whether it says when or by what transaction the row was written."""
        return self.column is not None and bool(_AUDIT.search(snake(self.column.name)))


_STAND_INS = {
    "row_hash": "Checksum of the row: it stands in for a key.",
    "row_copy": "Number among equal rows, from 1.",
}


@dataclass(frozen=True)
class Contract:
    """A source table as the warehouse reads it.

    Attributes:
        name: its name in the schemas source, delta and stage.
        fields: the columns that are read.
        left_out: columns that are left out on purpose, each with the reason.
        key: names of the fields that identify a row.
        change_detection, change_column, delete_detection: as in etl.source_table.
        reason: why they were chosen.
        is_review: whether the choice needs a review.
        is_hashed: whether the key is made of the whole row.
    """

    table: Table
    name: str
    fields: tuple[Field, ...]
    left_out: tuple[tuple[Column, str], ...]
    key: tuple[str, ...]
    change_detection: str
    change_column: str | None
    delete_detection: str
    reason: str
    is_review: bool
    is_hashed: bool

    @property
    def at(self) -> At:
        """Schema and name of the table."""
        return self.table.schema, self.table.name

    @property
    def quote(self) -> str:
        """The dollar quote of the function that reads the table: no column has it in its name."""
        tag = "read"
        while any(f"${tag}$" in f.expression for f in self.fields):
            tag += "_"
        return f"${tag}$"

    def field(self, column: str) -> Field | None:
        """Return the field that reads a column of the source."""
        return next((f for f in self.fields if f.column and f.column.name == column), None)

    def named(self, name: str) -> Field:
        """Return the field of a name."""
        return next(f for f in self.fields if f.name == name)

    def is_personal(self, one: Field) -> bool:
        """Whether a column looks like personal data."""
        return bool(
            _PERSON.search(self.name)
            and _PERSONAL.search(one.name)
            and not one.name.startswith("company")
            and one.name not in self.key
        )

    def is_link(self, one: Field) -> bool:
        """Whether a column refers to another table."""
        return any(one.column and one.column.name in r.columns for r in self.table.references)

    def changed_at(self, alias: str) -> str:
        """Return the expression of the time of a row's last change."""
        if self.change_detection == "timestamp" and self.change_column:
            return f"{alias}.{quoted(self.change_column)}"
        return (
            "coalesce((SELECT b.read_at FROM etl.batch AS b WHERE b.batch_id = "
            f"{alias}.batch_id), '-infinity')"
        )


@dataclass(frozen=True)
class Join:
    """A table whose columns are folded into the row of another.

    Attributes:
        alias: its alias in the view.
        contract: the table.
        on: alias and column of the table before, and column of this one.
        parent: the join before it, None next to the base table.
    """

    alias: str
    contract: Contract
    on: Pairs
    parent: Join | None

    @property
    def depth(self) -> int:
        """Number of joins from the base table to this one."""
        return 1 if self.parent is None else 1 + self.parent.depth

    def back(self, table: str) -> str:
        """Return the join from this table back to the one before it."""
        on = " AND ".join(
            f"{alias}.{quoted(column)} = {self.alias}.{quoted(to)}" for alias, column, to in self.on
        )
        return f" JOIN {table} ON {on}"


@dataclass(frozen=True)
class Attribute:
    """A column of a dimension or fact.

    Attributes:
        name: its name in the star.
        expression: what the view computes.
        scd_type: 1 or 2, in a dimension.
        is_personal: whether it looks like personal data.
    """

    name: str
    expression: str
    type: str
    comment: str = ""
    scd_type: int = 1
    is_personal: bool = False

    @property
    def selected(self) -> str:
        """The column as a view selects it."""
        if re.fullmatch(rf"\w+\.{re.escape(quoted(self.name))}", self.expression):
            return self.expression
        return f"{self.expression} AS {quoted(self.name)}"


@dataclass(frozen=True)
class Star:
    """What dimensions and facts have in common.

    Attributes:
        name: such as dim_product or fact_order.
        base: the table that identifies its rows.
        joins: further tables that its view reads.
    """

    name: str
    base: Contract
    key: tuple[Attribute, ...]
    joins: tuple[Join, ...]

    @property
    def queries(self) -> list[tuple[str, str]]:
        """For each further table of the view: the query that leads from its changes to the key.

        The dependency on the base table follows from the key.
        """
        found: dict[str, list[str]] = {}
        for join in self.joins:
            if join.contract.is_hashed:
                continue
            listed = ", ".join(f"t.{quoted(a.name)}" for a in self.key)
            text = f"SELECT {listed} FROM changed AS {join.alias}"
            one = join
            while one.parent is not None:
                text += one.back(f"stage.{quoted(one.parent.contract.name)} AS {one.parent.alias}")
                one = one.parent
            text += one.back(f"stage.{quoted(self.base.name)} AS t")
            found.setdefault(join.contract.name, []).append(text)
        return [(table, " UNION ".join(queries)) for table, queries in found.items()]


@dataclass(frozen=True)
class Dimension(Star):
    """A dimension, with lookup tables folded in.

    Attributes:
        attributes: what is known of a member.
        label: the attribute by which people know a member; None if there is none.
    """

    attributes: tuple[Attribute, ...]
    label: str | None
    parents: ClassVar[tuple[Join, ...]] = ()  # a member outlives the rows that are folded into it

    @property
    def surrogate_key(self) -> str:
        """Name of the surrogate key."""
        return f"{self.name.removeprefix('dim_')}_key"

    @property
    def columns(self) -> list[str]:
        """What its view selects."""
        times = [self.base.changed_at("t"), *(j.contract.changed_at(j.alias) for j in self.joins)]
        changed = times[0]
        if len(times) > 1:
            changed = "greatest(\n        " + ",\n        ".join(times) + "\n    )"
        return [
            *(a.selected for a in (*self.key, *self.attributes)),
            f"{changed} AS effective_at",
            "t.deleted_at",
        ]


@dataclass(frozen=True)
class Lookup:
    """A key of a fact.

    Attributes:
        key_column: column of the fact table.
        columns: columns of the fact's view that hold the business key.
        null_key: key when there is none.
        is_guess: whether the reference is not declared in the source.
    """

    key_column: str
    dimension: Dimension | None
    columns: tuple[str, ...]
    null_key: int
    comment: str
    is_guess: bool = False

    @property
    def dimension_name(self) -> str:
        """Name of the dimension."""
        return self.dimension.name if self.dimension else "dim_date"


@dataclass(frozen=True)
class Fact(Star):
    """A fact. Its event may come from a joined table: that of an order line from its order.

    Attributes:
        event: the time of the event, a column of the fact.
        event_note: why it is a guess, or ''.
        lookup_fields: columns of the view that only find dimensions.
        dates: columns of the view that hold dates.
        lookups: keys of dimensions and of the calendar.
        details: other columns that the fact keeps.
        measures: what can be summed up; the last one is 1.
    """

    event: Attribute
    event_note: str
    lookup_fields: tuple[Attribute, ...]
    dates: tuple[Attribute, ...]
    lookups: tuple[Lookup, ...]
    details: tuple[Attribute, ...]
    measures: tuple[Attribute, ...]

    @property
    def columns(self) -> list[str]:
        """What its view selects."""
        listed = (
            *self.key, *self.lookup_fields, *self.dates, self.event, *self.details, *self.measures,
        )  # fmt: skip
        seen = {a.name: a.selected for a in reversed(listed)}
        deleted = [f"{alias}.deleted_at" for alias in ("t", *(one.alias for one in self.parents))]
        return [
            *(seen[name] for name in dict.fromkeys(a.name for a in listed)),
            f"coalesce({', '.join(deleted)}) AS deleted_at" if self.parents else deleted[0],
        ]

    @property
    def parents(self) -> tuple[Join, ...]:
        """The join whose deletion deletes the row: that of an order deletes its lines."""
        return self.joins[:1]


@dataclass(frozen=True)
class Model:
    """The draft of a business.

    Attributes:
        source: what it was made from.
        contracts: the tables that are read.
        calendar: first and last year of the events, None if there is none.
    """

    source: Source
    contracts: tuple[Contract, ...]
    dimensions: tuple[Dimension, ...]
    facts: tuple[Fact, ...]
    unused: tuple[Contract, ...]
    calendar: tuple[int, int] | None
