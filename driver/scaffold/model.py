"""Makes a star out of the tables of a source: what is a fact, what a dimension, what a lookup.

Nothing here reads a database. Whatever is a guess carries a note, which the files mark with REVIEW.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from driver.scaffold.source import Column, Reference, Source, Table, singular

# Rows up to which a table is read as a whole by every run: exact, and cheap enough.
FEW_ROWS = 50_000
_FOLD_DEPTH = 2

_AUDIT = re.compile(
    r"(^|_)(created|inserted|updated|modified|changed|last_?update|last_?modified|row_xid|row_?version)"
)
_NO_EVENT = re.compile(
    r"(^|_)(updated|modified|changed|deleted|last_?update|last_?modified|birth|born|dob|hired?"
    r"|valid|expir\w*|since|registered|joined|discontinued|until)"
)
_LATE = re.compile(r"(^|_)(created|inserted)")
_NO_MEASURE = re.compile(
    r"(^|_)(id|no|nr|number|code|year|month|day|zip|postal|phone|lat|lng|lon|latitude|longitude"
    r"|version|position|rank|flag|type|status|class|line|sort|order)(_|$)|id$"
)
_CHANGED_AT = re.compile(
    r"^(updated_?(at|on)?|last_?updated?|last_?modified|modified_?(at|on|date)?|changed_?(at|on)?"
    r"|mod_?date)$"
)
_TYPE_1 = re.compile(
    r"(^|_)(name|title|description|phone|fax|e?mail|address|street|url|notes?|comments?|homepage"
    r"|photo|first|last|text|label)(_|$)|name$"
)
_LONG_TEXT = re.compile(r"(^|_)(description|comments?|notes?|body|html|xml|json|text|content)(_|$)")
_PERSON = re.compile(
    r"(^|_)(customers?|clients?|contacts?|persons?|people|employees?|staff|members?|patients?|users?"
    r"|actors?|doctors?|students?|drivers?|guests?)(_|$)"
)
_PERSONAL = re.compile(
    r"(^|_)(name|first|last|middle|full_?name|phone|mobile|fax|e?mail|address\d?|street|birth|born|dob"
    r"|contact|iban|ssn|passport|photo|login|password)(_|$)"
)
_NOT_KEPT = {"bytea": "binary data", "tsvector": "a search index", "tsquery": "a search query"}
_RESERVED = {"batch_id", "deleted_at", "operation", "effective_at", "is_deleted", "run_id",
             "valid_from", "valid_to", "is_current"}  # fmt: skip
_TAKEN_RELATIONS = {"tombstones", "extraction_point", "columns"}


def snake(name: str) -> str:
    """Return a name in small letters, its words joined by _."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", words)
    result = re.sub(r"\W+", "_", words).strip("_").lower()
    return (result if re.match(r"[^\W\d]", result) else f"c_{result}")[:50]


def quoted(name: str) -> str:
    """Return a name as SQL writes it, in quotation marks if it needs them."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _SQL_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


_SQL_WORDS = {
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
}


@dataclass(frozen=True)
class Field:
    """A column of the contract.

    Attributes:
        name: its name in the contract.
        column: the column of the source; None for the two columns that stand in for a key.
        expression: what the contract reads, over the alias t.
        type: its type in the contract.
        note: why it is not as the source has it, or ''.
    """

    name: str
    column: Column | None
    expression: str
    type: str
    note: str = ""


@dataclass(frozen=True)
class Contract:
    """A source table as the warehouse reads it.

    Attributes:
        table: the table.
        name: its name in the schemas source, delta and stage.
        fields: the columns that are read.
        left_out: columns that are left out on purpose, each with the reason.
        key: names of the fields that identify a row.
        change_detection, change_column, delete_detection: as in etl.source_table.
        reason: why they were chosen.
        is_review: whether the choice needs a look.
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

    def field(self, column: str) -> Field | None:
        """Return the field that reads a column of the source."""
        return next((f for f in self.fields if f.column and f.column.name == column), None)

    def named(self, name: str) -> Field:
        """Return the field of a name."""
        return next(f for f in self.fields if f.name == name)

    def changed_at(self, alias: str) -> str:
        """Return the expression of the moment of a row's last change."""
        if self.change_detection == "timestamp" and self.change_column:
            return f"{alias}.{quoted(self.change_column)}"
        return (
            "coalesce((SELECT b.read_at FROM etl.batch AS b WHERE b.batch_id = "
            f"{alias}.batch_id), '-infinity')"
        )


@dataclass(frozen=True)
class Join:
    """A table whose columns are folded into another one's row.

    Attributes:
        alias: its alias in the view.
        contract: the table.
        on: pairs of (alias, column) before and column of this table.
    """

    alias: str
    contract: Contract
    on: tuple[tuple[str, str, str], ...]
    parent: Join | None


@dataclass(frozen=True)
class Attribute:
    """A column of a dimension or fact.

    Attributes:
        name: its name in the star.
        expression: what the view computes.
        type: its SQL type.
        comment: what it is.
        scd_type: 1 or 2, of a dimension's.
        is_personal: whether it looks like personal data.
    """

    name: str
    expression: str
    type: str
    comment: str
    scd_type: int = 1
    is_personal: bool = False


@dataclass(frozen=True)
class Dimension:
    """A dimension.

    Attributes:
        name: such as dim_product.
        base: the table that identifies its members.
        key: the business key.
        attributes: what is known of a member.
        joins: lookup tables that are folded in.
        label: the attribute that people know a member by; None if there is none.
    """

    name: str
    base: Contract
    key: tuple[Attribute, ...]
    attributes: tuple[Attribute, ...]
    joins: tuple[Join, ...]
    label: str | None

    @property
    def surrogate_key(self) -> str:
        """Name of the surrogate key."""
        return f"{self.name.removeprefix('dim_')}_key"


@dataclass(frozen=True)
class Lookup:
    """A key of a fact.

    Attributes:
        key_column: column of the fact table.
        dimension: the dimension; None for the calendar.
        columns: columns of the fact's view that hold the business key.
        null_key: key when there is none.
        comment: what it is.
    """

    key_column: str
    dimension: Dimension | None
    columns: tuple[str, ...]
    null_key: int
    comment: str


@dataclass(frozen=True)
class Fact:
    """A fact.

    Attributes:
        name: such as fact_order.
        base: the table that gives its grain.
        event: the moment of the event, a column of the fact.
        event_note: why it is a guess.
        key: the business key.
        lookup_fields: columns of the view that only find dimensions.
        dates: columns of the view that hold dates.
        lookups: keys of dimensions and of the calendar.
        details: other columns that the fact keeps.
        measures: what can be summed up.
        joins: the table that the event is taken from, where it is not the base.
    """

    name: str
    base: Contract
    event: Attribute
    event_note: str
    key: tuple[Attribute, ...]
    lookup_fields: tuple[Attribute, ...]
    dates: tuple[Attribute, ...]
    lookups: tuple[Lookup, ...]
    details: tuple[Attribute, ...]
    measures: tuple[Attribute, ...]
    joins: tuple[Join, ...]


@dataclass(frozen=True)
class Model:
    """The draft of a business.

    Attributes:
        source: what it was made from.
        contracts: the tables that are read.
        dimensions, facts: the stars.
        unused: tables that neither a fact nor a dimension is made of.
        calendar: first and last year of the events, None if there is none.
    """

    source: Source
    contracts: tuple[Contract, ...]
    dimensions: tuple[Dimension, ...]
    facts: tuple[Fact, ...]
    unused: tuple[Contract, ...]
    calendar: tuple[int, int] | None


def build(source: Source) -> Model:
    """Return the draft for a source."""
    return _Builder(source).model()


# -- contract -------------------------------------------------------------------------------------


def _unique(name: str, taken: Iterable[str]) -> str:
    known = set(taken)
    result, number = name, 2
    while result in known:
        result, number = f"{name}_{number}", number + 1
    return result


def _field(column: Column, name: str) -> Field | str:
    """Return the field of a column, or why it is left out."""
    source = f"t.{quoted(column.name)}"
    # What a function returns has no length or precision; the values keep theirs.
    base = re.sub(r"\([^)]*\)", "", column.base_type)
    if base in _NOT_KEPT:
        return _NOT_KEPT[base]
    plain = base.removesuffix("[]")
    if column.category == "E":
        return Field(name, column, f"{source}::text", "text", "text, so that a new value fits")
    if plain.startswith("character varying") and column.category != "A":
        return Field(name, column, f"{source}::text", "text")
    if plain == "bit":
        return Field(name, column, f"{source}::bit varying", "bit varying")
    if plain in ("character", "bpchar", '"char"'):
        return Field(name, column, f"{source}::text", "text", "text, without padding")
    if plain == "money":
        return Field(name, column, f"{source}::numeric", "numeric", "a number, not money")
    if plain.rsplit(".", 1)[-1] == "citext":
        return Field(
            name, column, f"{source}::text", "text", "text, so that a change of case counts"
        )
    if column.category == "A" and ("." in base or '"' in base):
        return Field(name, column, f"{source}::text[]", "text[]", "text, so that a new value fits")
    if not column.has_equality or "." in plain or '"' in plain or plain.startswith("reg"):
        return Field(name, column, f"{source}::text", "text", f"text: {base} cannot be compared")
    if column.kind == "d":
        return Field(
            name, column, f"{source}::{base}", base, f"{base}, not the domain {column.type}"
        )
    return Field(name, column, source, base)


def _contracts(source: Source) -> tuple[Contract, ...]:
    result: list[Contract] = []
    names = [snake(table.name) for table in source.tables]
    for table, name in zip(source.tables, names, strict=True):
        if names.count(name) > 1 or name in _TAKEN_RELATIONS:
            name = f"{snake(table.schema)}_{name}"
        result.append(_contract(source, table, _unique(name, (c.name for c in result))))
    return tuple(result)


def _contract(source: Source, table: Table, name: str) -> Contract:
    fields: list[Field] = []
    left_out: list[tuple[Column, str]] = []
    for column in table.columns:
        plain = snake(table.renames.get(column.name, column.name))
        if plain in _RESERVED:
            plain = f"source_{plain}"
        made = _field(column, _unique(plain, (f.name for f in fields)))
        if isinstance(made, str):
            left_out.append((column, made))
        else:
            fields.append(made)
    by_column = {f.column.name: f for f in fields if f.column}
    key = tuple(by_column[c].name for c in table.key if c in by_column)
    is_hashed = not key or len(key) < len(table.key)
    if is_hashed:
        key = ("row_hash", "row_copy")
        fields += [
            Field("row_hash", None, "", "text"),
            Field("row_copy", None, "", "bigint"),
        ]
    detection, column_name, deletion, reason, is_review = _detection(source, table, by_column)
    if is_hashed:
        detection, column_name, deletion = "comparison", None, "comparison"
        reason = "it has no key: whole rows are compared, and a changed row is a new row"
        is_review = True
    if column_name and detection == "timestamp":
        fields = [
            Field(
                f.name,
                f.column,
                f"{f.expression} AT TIME ZONE 'UTC'",
                _WITH_ZONE,
                "REVIEW: taken to be in UTC",
            )
            if f.name == column_name
            and f.type.startswith("timestamp")
            and not f.type.endswith("with time zone")
            else f
            for f in fields
        ]
    return Contract(
        table, name, tuple(fields), tuple(left_out), key, detection, column_name, deletion, reason,
        is_review, is_hashed,
    )  # fmt: skip


_WITH_ZONE = "timestamp with time zone"


def _detection(
    source: Source, table: Table, by_column: dict[str, Field]
) -> tuple[str, str | None, str, str, bool]:
    """Choose how changes are found: detection, column, deletion, the reason, whether to review."""
    buries = table.schema in source.tombstones and any(
        t.is_row and t.on_delete and t.function.endswith("bury_row") for t in table.triggers
    )
    is_marked = any(t.is_row and t.on_update for t in table.triggers)
    deletion = "tombstone" if buries else "comparison"
    gone = "deleted rows leave tombstones" if buries else "deleted keys are found by comparing keys"
    for column in table.columns:
        if column.type == "xid8" and "pg_current_xact_id" in (column.default or "") and is_marked:
            return (
                "snapshot", by_column[column.name].name, deletion,
                f"{column.name} holds the transaction that wrote the row; {gone}", False,
            )  # fmt: skip
    few = table.rows <= FEW_ROWS
    if few:
        return (
            "comparison", None, "comparison",
            f"it has {_about(table.rows)} rows: reading all of them is exact and cheap", False,
        )  # fmt: skip
    for column in table.columns:
        if (
            _CHANGED_AT.search(snake(column.name))
            and column.base_type.startswith("timestamp")
            and column.is_not_null
            and is_marked
        ):
            return (
                "timestamp", by_column[column.name].name, deletion,
                f"a trigger keeps {column.name}, to be confirmed; {gone}", True,
            )  # fmt: skip
    return (
        "comparison", None, "comparison",
        f"nothing marks a change, so each run reads all {_about(table.rows)} rows; "
        "`oceanrecords source marks` writes marks", True,
    )  # fmt: skip


def _about(rows: int) -> str:
    """Return a number of rows rounded, so that it need not be right to the row."""
    if rows < 100:
        return "fewer than 100"
    scale = 10 ** (len(str(rows)) - 1)
    return f"about {rows // scale * scale:,}"


# -- stars ----------------------------------------------------------------------------------------


@dataclass
class _Candidate:
    """What speaks for a table as a fact.

    Attributes:
        event: column of its own moment, None if it has none.
        rank: 1 is a sure event, 4 an unsure one, 9 none.
        measures: columns that can be summed up.
        parent: for rows of detail, the reference to the table that has the moment.
    """

    event: Column | None = None
    rank: int = 9
    measures: list[Column] = field(default_factory=list)
    parent: Reference | None = None


class _Builder:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._contracts = {(c.table.schema, c.table.name): c for c in _contracts(source)}
        self._candidates = {at: self._candidate(c) for at, c in self._contracts.items()}
        self._dimensions: dict[tuple[str, str], Dimension] = {}

    def model(self) -> Model:
        facts_at = self._fact_tables()
        wanted: list[tuple[str, str]] = []
        for at in facts_at:
            for reference in self._references(at):
                target = (reference.schema, reference.table)
                if target in self._contracts and target not in facts_at and target not in wanted:
                    wanted.append(target)
            parent = self._candidates[at].parent
            if parent is not None:
                for reference in self._references((parent.schema, parent.table)):
                    target = (reference.schema, reference.table)
                    if target in self._contracts and target not in facts_at + wanted:
                        wanted.append(target)
        if not facts_at:
            # Nothing happens in this source: its largest tables are dimensions all the same.
            wanted = [at for at in self._contracts if self._contracts[at].fields]
        names: list[str] = []
        for at in wanted:
            stem = singular(self._contracts[at].name)
            name = _unique(f"dim_{'calendar_' if stem == 'date' else ''}{stem}", names)
            names.append(name)
            self._dimensions[at] = self._dimension(at, name, facts_at)
        facts: list[Fact] = []
        for at in facts_at:
            name = _unique(f"fact_{singular(self._contracts[at].name)}", (f.name for f in facts))
            facts.append(self._fact(at, name))
        used = set(facts_at) | set(wanted)
        for joins in [one.joins for one in self._dimensions.values()] + [
            one.joins for one in facts
        ]:
            used |= {(j.contract.table.schema, j.contract.table.name) for j in joins}
        return Model(
            self._source,
            tuple(self._contracts.values()),
            tuple(self._dimensions.values()),
            tuple(facts),
            tuple(c for at, c in self._contracts.items() if at not in used),
            self._calendar(facts_at),
        )

    # -- which tables are facts ---------------------------------------------

    def _references(self, at: tuple[str, str]) -> list[Reference]:
        """Return the references of a table that lead to tables of the draft, but itself."""
        contract = self._contracts[at]
        return [
            r
            for r in contract.table.references
            if (r.schema, r.table) in self._contracts
            and (r.schema, r.table) != at
            and not self._contracts[(r.schema, r.table)].is_hashed
            and tuple(self._contracts[(r.schema, r.table)].table.key) == r.to
            and all(contract.field(c) for c in r.columns)
        ]

    def _candidate(self, contract: Contract) -> _Candidate:
        table = contract.table
        stem = snake(singular(table.name.split("_")[-1]))[:4]
        linked = {c for r in table.references for c in r.columns} | set(table.key)
        found = _Candidate(
            measures=[
                c
                for c in table.columns
                if c.category == "N"
                and c.name not in linked
                and c.base_type.split("(")[0] not in ("oid",)
                and not c.base_type.startswith("reg")
                and not _NO_MEASURE.search(snake(c.name))
            ]
        )
        for column in table.columns:
            if column.category != "D" or column.base_type.startswith("time "):
                continue
            name = snake(column.name)
            if _NO_EVENT.search(name) or not contract.field(column.name):
                continue
            if _LATE.search(name):
                rank = 4
            elif stem in name or name in ("date", "day", "at", "ts", "time", "timestamp", "moment"):
                rank = 1
            else:
                rank = 2 if column.is_not_null else 3
            if rank < found.rank:
                found.event, found.rank = column, rank
        return found

    def _fact_tables(self) -> list[tuple[str, str]]:
        referrers: dict[tuple[str, str], list[tuple[str, str]]] = {at: [] for at in self._contracts}
        for at in self._contracts:
            for r in self._references(at):
                referrers[(r.schema, r.table)].append(at)
        facts = set()
        for at, candidate in self._candidates.items():
            links = self._references(at)
            if candidate.event is None or (not links and referrers[at]):
                continue
            if not links and not candidate.measures:
                continue
            details = [one for one in referrers[at] if self._is_detail_of(one, at)]
            is_lookup = bool(referrers[at]) and not details
            if candidate.rank >= 3 and (is_lookup or not candidate.measures or not links):
                continue
            if candidate.rank == 2 and is_lookup:
                continue
            facts.add(at)
        for at, candidate in self._candidates.items():
            if at in facts:
                continue
            parents = [
                r for r in self._references(at)
                if (r.schema, r.table) in facts and self._is_detail_of(at, (r.schema, r.table))
            ]  # fmt: skip
            if parents:
                key = self._contracts[at].table.key
                parents.sort(key=lambda r: (not set(r.columns) <= set(key), r.columns))
                candidate.parent = parents[0]
        facts |= {at for at, one in self._candidates.items() if one.parent is not None}
        return [at for at in self._contracts if at in facts]

    def _is_detail_of(self, at: tuple[str, str], parent: tuple[str, str]) -> bool:
        """Tell whether rows of a table are details of those of another, such as order lines."""
        candidate, table = self._candidates[at], self._contracts[at].table
        if candidate.event is not None and candidate.rank <= 3:
            return False
        for r in self._references(at):
            if (r.schema, r.table) == parent:
                return bool(candidate.measures) or (
                    set(r.columns) <= set(table.key) and len(self._references(at)) > 1
                )
        return False

    def _calendar(self, facts_at: list[tuple[str, str]]) -> tuple[int, int] | None:
        years = [
            int(day[:4])
            for at in facts_at
            for days in self._contracts[at].table.days.values()
            for day in days
        ]
        return (min(years), max(years)) if years else None

    # -- dimensions ---------------------------------------------------------

    def _dimension(
        self, at: tuple[str, str], name: str, facts_at: list[tuple[str, str]]
    ) -> Dimension:
        base = self._contracts[at]
        taken = {f"{name.removeprefix('dim_')}_key"} | _RESERVED
        key = tuple(
            Attribute(k, f"t.{quoted(k)}", base.named(k).type, _comment(base.named(k)))
            for k in base.key
        )
        taken |= set(base.key)
        attributes: list[Attribute] = []
        joins: list[Join] = []
        for one in base.fields:
            if one.name in base.key or _is_audit(one):
                continue
            attributes.append(_attribute(base, one, "t", one.name, taken))
        for join, prefix in self._folds(base, "t", None, facts_at, {at}, 1, []):
            joins.append(join)
            for one in join.contract.fields:
                if one.name in join.contract.key or _is_audit(one) or _is_link(join.contract, one):
                    continue
                full = one.name if one.name.startswith(prefix) else f"{prefix}_{one.name}"
                attributes.append(_attribute(join.contract, one, join.alias, full, taken))
        texts = [a for a in attributes if a.type.split("(")[0] in ("text", "character varying")]
        named = [a.name for a in texts if re.search(r"(name|title|label)$", a.name)]
        # A family name tells people apart, a given name does not.
        label = next((n for n in named if "first" not in n), next(iter(named), None))
        return Dimension(
            name, base, key, tuple(attributes), tuple(joins),
            label or (texts[0].name if texts else None),
        )  # fmt: skip

    def _folds(
        self,
        base: Contract,
        alias: str,
        parent: Join | None,
        facts_at: list[tuple[str, str]],
        path: set[tuple[str, str]],
        depth: int,
        made: list[Join],
    ) -> Iterator[tuple[Join, str]]:
        """Yield the lookup tables along the foreign keys, each with the prefix of its columns."""
        for reference in self._references((base.table.schema, base.table.name)):
            at = (reference.schema, reference.table)
            if at in path or at in facts_at:
                continue
            target = self._contracts[at]
            pairs = []
            for column, to in zip(reference.columns, reference.to, strict=True):
                one, other = base.field(column), target.field(to)
                assert one is not None
                assert other is not None
                pairs.append((alias, one.name, other.name))
            join = Join(f"j{len(made) + 1}", target, tuple(pairs), parent)
            made.append(join)
            prefix = _role(pairs, target)
            yield join, prefix
            if depth < _FOLD_DEPTH:
                yield from self._folds(
                    target, join.alias, join, facts_at, path | {at}, depth + 1, made
                )

    # -- facts --------------------------------------------------------------

    def _fact(self, at: tuple[str, str], name: str) -> Fact:
        base, candidate = self._contracts[at], self._candidates[at]
        joins: list[Join] = []
        origin, alias = base, "t"
        if candidate.parent is not None:
            origin = self._contracts[(candidate.parent.schema, candidate.parent.table)]
            pairs = []
            for column, to in zip(candidate.parent.columns, candidate.parent.to, strict=True):
                one, other = base.field(column), origin.field(to)
                assert one is not None
                assert other is not None
                pairs.append(("t", one.name, other.name))
            alias = "p"
            joins.append(Join(alias, origin, tuple(pairs), None))
            candidate_event = self._candidates[(origin.table.schema, origin.table.name)].event
        else:
            candidate_event = candidate.event
        assert candidate_event is not None
        event_field = origin.field(candidate_event.name)
        assert event_field is not None
        taken = set(_RESERVED)
        key = tuple(
            Attribute(k, f"t.{quoted(k)}", base.named(k).type, _comment(base.named(k)))
            for k in base.key
        )
        taken |= set(base.key)
        stem = re.sub(r"_(at|on|date|time|day|ts|timestamp)$", "", event_field.name)
        event_name = _unique(f"{stem}_at" if stem != "date" else "happened_at", taken)
        taken.add(event_name)
        value = f"{alias}.{quoted(event_field.name)}"
        moment = _moment(value, event_field.type)
        note = (
            "" if candidate.rank == 1 or candidate.parent else "the moment of the event is a guess"
        )
        if not candidate_event.is_not_null:
            moment = f"coalesce({moment}, '-infinity')"
            note = "; ".join(filter(None, [note, "without the moment, the first versions count"]))
        event = Attribute(event_name, moment, _WITH_ZONE, "Moment of the event.")
        lookups: list[Lookup] = []
        lookup_fields: dict[str, Attribute] = {}
        links: set[str] = set()
        for owner, owner_alias in [(base, "t")] + ([(origin, "p")] if joins else []):
            for reference in self._references((owner.table.schema, owner.table.name)):
                target = (reference.schema, reference.table)
                if target not in self._dimensions:
                    continue
                dimension = self._dimensions[target]
                columns, pairs = [], []
                for column, to in zip(reference.columns, reference.to, strict=True):
                    one, other = owner.field(column), dimension.base.field(to)
                    assert one is not None
                    assert other is not None
                    pairs.append((owner_alias, one.name, other.name))
                    lookup = one.name if owner is base else f"{singular(owner.name)}_{one.name}"
                    lookup_fields.setdefault(
                        lookup,
                        Attribute(lookup, f"{owner_alias}.{quoted(one.name)}", one.type, ""),
                    )
                    columns.append(lookup)
                    if owner is base:
                        links.add(one.name)
                role = _unique(f"{_role(pairs, dimension.base)}_key", taken)
                taken.add(role)
                guess = " REVIEW: the reference is not declared." if reference.is_guess else ""
                lookups.append(
                    Lookup(
                        role,
                        dimension,
                        tuple(columns),
                        -1,
                        f"{_title(role.removesuffix('_key'))}, in the version valid at the event."
                        + guess,
                    )
                )
        dates: list[Attribute] = []
        for one in base.fields if not joins else (event_field, *base.fields):
            if one.column is None or one.column.category != "D" or _is_audit(one):
                continue
            if one.type.startswith("time "):
                continue
            at_event = one is event_field
            stem = re.sub(r"_(at|on|date|time|day|ts|timestamp)$", "", one.name)
            stem = "event" if stem == "date" else stem
            day = _unique(f"{stem}_on", taken | {d.name for d in dates} | set(base.key))
            dates.append(
                Attribute(
                    day,
                    _day(f"{alias if at_event else 't'}.{quoted(one.name)}", one.type),
                    "date",
                    "",
                )
            )
            role = _unique(f"{stem}_date_key", taken)
            taken.add(role)
            lookups.append(
                Lookup(
                    role,
                    None,
                    (day,),
                    -1 if at_event else -2,
                    f"Date: {_title(stem)}."
                    if at_event
                    else f"Date: {_title(stem)}; -2 while there is none.",
                )
            )
        measured = {c.name for c in candidate.measures}
        details, measures = [], []
        for one in base.fields:
            if one.name in base.key or one.column is None or _is_audit(one) or one.name in links:
                continue
            if one is event_field or one.column.category == "D":
                continue
            if one.column.name in measured:
                measures.append(
                    Attribute(
                        _free(one.name, taken),
                        f"t.{quoted(one.name)}",
                        one.type,
                        f"Measure: {_comment(one)}",
                    )
                )
            elif not _LONG_TEXT.search(one.name):
                details.append(
                    Attribute(
                        _free(one.name, taken), f"t.{quoted(one.name)}", one.type, _comment(one)
                    )
                )
        count = _free(f"{name.removeprefix('fact_')}_count", taken)
        measures.append(Attribute(count, "1", "integer", "Measure: 1, to be counted."))
        known = set(base.key) | {d.name for d in details}
        return Fact(
            name, base, event, note, key,
            tuple(a for n, a in lookup_fields.items() if n not in known),
            tuple(dates), tuple(lookups), tuple(details), tuple(measures), tuple(joins),
        )  # fmt: skip


def _free(name: str, taken: set[str]) -> str:
    result = _unique(name, taken)
    taken.add(result)
    return result


def _role(pairs: list[tuple[str, str, str]], target: Contract) -> str:
    """Return what a referenced row is to the row that refers to it, such as ship_via."""
    if len(pairs) == 1:
        stem = re.sub(r"_(id|no|nr|code|key|number)$|(?<=[a-z])id$", "", pairs[0][1])
        if stem and stem not in ("id", "code"):
            return stem
    return singular(target.name)


def _attribute(contract: Contract, one: Field, alias: str, name: str, taken: set[str]) -> Attribute:
    free = _free(name, taken)
    kind = 1 if _TYPE_1.search(one.name) else 2
    return Attribute(
        free, f"{alias}.{quoted(one.name)}", one.type, _comment(one), kind,
        is_personal(contract, one),
    )  # fmt: skip


def is_personal(contract: Contract, one: Field) -> bool:
    """Tell whether a column of the contract looks like personal data."""
    return bool(
        _PERSON.search(contract.name)
        and _PERSONAL.search(one.name)
        and not one.name.startswith("company")
        and one.name not in contract.key
    )


def _is_audit(one: Field) -> bool:
    return one.column is not None and bool(_AUDIT.search(snake(one.column.name)))


def _is_link(contract: Contract, one: Field) -> bool:
    return one.column is not None and any(
        one.column.name in r.columns for r in contract.table.references
    )


def _moment(expression: str, type_: str) -> str:
    if type_.endswith("with time zone"):
        return expression
    value = f"{expression}::timestamp" if type_ == "date" else expression
    return f"{value} AT TIME ZONE (SELECT etl.get_setting('time_zone'))"


def _day(expression: str, type_: str) -> str:
    if type_ == "date":
        return expression
    if type_.endswith("with time zone"):
        return f"({expression} AT TIME ZONE (SELECT etl.get_setting('time_zone')))::date"
    return f"{expression}::date"


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _comment(one: Field) -> str:
    said = (one.column.comment or "").strip() if one.column else ""
    text = said or _title(one.name)
    return text if text.endswith(".") else f"{text}."
