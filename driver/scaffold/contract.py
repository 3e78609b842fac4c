"""Decides what the warehouse reads of each source table, and how it finds what has changed."""

from __future__ import annotations

import re
from dataclasses import replace

from driver.scaffold.model import Contract, Field
from driver.scaffold.source import Column, Source, Table
from driver.scaffold.text import quoted, shorten, snake, unique

# Rows up to which each run reads a table as a whole: exact, and cheap enough.
FEW_ROWS = 50_000
# Names that mirrors and stars use themselves.
RESERVED = {"batch_id", "deleted_at", "operation", "effective_at", "is_deleted", "run_id",
            "valid_from", "valid_to", "is_current", "row_hash", "row_copy"}  # fmt: skip
WITH_ZONE = "timestamp with time zone"

_CHANGED_AT = re.compile(
    r"^(updated_?(at|on)?|last_?updated?|last_?modified|modified_?(at|on|date)?|changed_?(at|on)?"
    r"|mod_?date)$"
)
_NOT_KEPT = {"bytea": "binary data", "tsvector": "a search index", "tsquery": "a search query"}
_TAKEN_RELATIONS = {"tombstones", "extraction_point", "columns"}


def contracts(source: Source) -> tuple[Contract, ...]:
    """Return the contract of each table of a source."""
    found: list[Contract] = []
    names = [snake(table.name) for table in source.tables]
    for table, name in zip(source.tables, names, strict=True):
        if names.count(name) > 1 or name in _TAKEN_RELATIONS:
            name = shorten(f"{snake(table.schema)}_{name}")
        found.append(_contract(source, table, unique(name, (c.name for c in found))))
    return tuple(found)


def _contract(source: Source, table: Table, name: str) -> Contract:
    fields: list[Field] = []
    left_out: list[tuple[Column, str]] = []
    for column in table.columns:
        plain = snake(table.renames.get(column.name, column.name))
        if plain in RESERVED:
            plain = f"source_{plain}"
        made = _field(column, unique(plain, (f.name for f in fields)))
        if isinstance(made, str):
            left_out.append((column, made))
        else:
            fields.append(made)
    by_column = {f.column.name: f for f in fields if f.column}
    key = tuple(by_column[c].name for c in table.key if c in by_column)
    if not key or len(key) < len(table.key):
        fields += [Field("row_hash", None, "", "text"), Field("row_copy", None, "", "bigint")]
        return Contract(
            table, name, tuple(fields), tuple(left_out), ("row_hash", "row_copy"),
            "comparison", None, "comparison",
            "it has no key: whole rows are compared, and a changed row is a new row",
            is_review=True, is_hashed=True,
        )  # fmt: skip
    detection, change, deletion, reason, is_review = _detection(source, table)
    if detection == "timestamp":
        assert change is not None
        fields = [_in_utc(f) if f is by_column[change] else f for f in fields]
    return Contract(
        table, name, tuple(fields), tuple(left_out), key, detection,
        by_column[change].name if change else None, deletion, reason, is_review, is_hashed=False,
    )  # fmt: skip


def _in_utc(one: Field) -> Field:
    if one.type.endswith("with time zone"):
        return one
    expression = f"{one.expression} AT TIME ZONE 'UTC'"
    return replace(one, expression=expression, type=WITH_ZONE, note="REVIEW: taken to be in UTC")


def _field(column: Column, name: str) -> Field | str:
    """Return the field of a column, or why it is left out."""
    source = f"t.{quoted(column.name)}"
    # The result of a function has no length or precision; the values keep theirs.
    base = re.sub(r"\([^)]*\)", "", column.base_type)
    plain = base.removesuffix("[]")
    is_own = "." in plain or '"' in plain

    def cast(type_: str, note: str = "") -> Field:
        return Field(name, column, f"{source}::{type_}", type_, note)

    if base in _NOT_KEPT:
        return _NOT_KEPT[base]
    if column.category == "E":
        return cast("text", "text, so that a new value fits")
    if column.category == "A" and is_own:
        return cast("text[]", "text, so that a new value fits")
    if plain.startswith("character varying") and column.category != "A":
        return cast("text")
    if plain == "bit":
        return cast("bit varying")
    if plain in ("character", "bpchar", '"char"'):
        return cast("text", "text, without padding")
    if plain == "money":
        return cast("numeric", "a number, not money")
    if plain.rsplit(".", 1)[-1] == "citext":
        return cast("text", "text, so that a change of case counts")
    if not column.has_equality or is_own or plain.startswith("reg"):
        return cast("text", f"text: {base} cannot be compared")
    if column.kind == "d":
        return cast(base, f"{base}, not the domain {column.type}")
    return Field(name, column, source, base)


def _detection(source: Source, table: Table) -> tuple[str, str | None, str, str, bool]:
    """Choose how changes are found: detection, column, deletion, the reason, whether to review."""
    buries = table.schema in source.tombstones and any(
        t.is_row and t.on_delete and t.function.endswith("bury_row") for t in table.triggers
    )
    is_marked = any(t.is_row and t.on_update for t in table.triggers)
    deletion = "tombstone" if buries else "comparison"
    gone = "deleted rows leave tombstones" if buries else "deleted keys are found by comparing keys"
    for c in table.columns:
        if c.type == "xid8" and "pg_current_xact_id" in (c.default or "") and is_marked:
            reason = f"{c.name} holds the transaction that wrote the row; {gone}"
            return "snapshot", c.name, deletion, reason, False
    if table.rows <= FEW_ROWS:
        reason = f"it has {_about(table.rows)}: reading all of them is exact and cheap"
        return "comparison", None, "comparison", reason, False
    for c in table.columns:
        is_time = c.base_type.startswith("timestamp") and c.is_not_null
        if is_time and is_marked and _CHANGED_AT.search(snake(c.name)):
            reason = f"a trigger keeps {c.name}, to be confirmed; {gone}"
            return "timestamp", c.name, deletion, reason, True
    reason = (
        f"nothing marks a change, so each run reads all {_about(table.rows)}; "
        "`oceanrecords source marks` writes marks"
    )
    return "comparison", None, "comparison", reason, True


def _about(rows: int) -> str:
    """Return a number of rows rounded, so that it need not be right to the row."""
    if rows < 100:
        return "fewer than 100 rows"
    scale = 10 ** (len(str(rows)) - 1)
    return f"about {rows // scale * scale:,} rows"
