"""Tells what has changed in a source since a draft was made, as a patch for its folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from driver.scaffold import files
from driver.scaffold.model import Attribute, Dimension, Fact, Model
from driver.scaffold.text import literal, macro, quoted


def patch(folder: Path, old: Model, new: Model, name: str) -> str:
    """Return the patch, '' if the source is as it was.

    The files are compared as the draft was made then and as it would be made now, so what was
    edited since stays. Tables of the stars are altered by a further migration.

    Parameters:
        folder: the folder of the business; nothing is written to it.
        old: the draft for the source as it was.
        new: the draft for the source as it is.
        name: name of the business.
    """
    before, after = files.render(old, name), files.render(new, name)
    before.pop(files.STARS)
    after.pop(files.STARS)
    migration = _migration(old, new)
    if migration:
        after[f"migrations/{_next_number(folder):04d}.source-changed.sql"] = migration
    result: list[str] = []
    for path in sorted(set(before) | set(after)):
        result += difflib.unified_diff(
            before.get(path, "").splitlines(keepends=True),
            after.get(path, "").splitlines(keepends=True),
            f"a/{path}" if path in before else "/dev/null",
            f"b/{path}" if path in after else "/dev/null",
        )
    return "".join(result)


def _next_number(folder: Path) -> int:
    numbers = [
        int(found[0])
        for path in (folder / "migrations").glob("*.sql")
        if (found := re.match(r"\d+", path.name))
    ]
    return max(numbers, default=0) + 1


def _migration(old: Model, new: Model) -> str:
    """Return the statements that take the tables of the stars along; '' if they stay."""
    parts = [*_gone(old, new)]
    stars: dict[str, Dimension | Fact] = {}
    stars |= {one.name: one for one in old.dimensions}
    stars |= {one.name: one for one in old.facts}
    for one in new.dimensions:
        before = stars.get(one.name)
        parts.append(
            macro("dimension_table", one)
            if not isinstance(before, Dimension)
            else _altered(one.name, before.key, before.attributes, one.key, one.attributes, new)
        )
    for fact in new.facts:
        earlier = stars.get(fact.name)
        if not isinstance(earlier, Fact):
            parts.append(macro("fact_table", fact))
            continue
        parts.append(
            _altered(
                fact.name,
                earlier.key,
                (*earlier.details, *earlier.measures),
                fact.key,
                (*fact.details, *fact.measures),
                new,
            )
        )
        known = {lookup.key_column for lookup in earlier.lookups}
        for lookup in fact.lookups:
            if lookup.key_column not in known:
                kind = "bigint" if lookup.dimension else "integer"
                parts.append(
                    f"ALTER TABLE dwh.{fact.name} ADD COLUMN {quoted(lookup.key_column)} {kind} "
                    f"NOT NULL DEFAULT -1 REFERENCES dwh.{lookup.dimension_name};\n"
                )
        wanted = {lookup.key_column for lookup in fact.lookups}
        for lookup in earlier.lookups:
            if lookup.key_column not in wanted:
                parts.append(
                    f"-- {lookup.key_column} is no longer filled; rows that are there keep it.\n"
                    f"ALTER TABLE dwh.{fact.name} ALTER COLUMN {quoted(lookup.key_column)} "
                    "DROP NOT NULL;\n"
                )
    text = "\n".join(one for one in parts if one)
    return f"-- The source has changed: the stars follow.\n\n{text}" if text else ""


def _altered(
    name: str,
    old_key: tuple[Attribute, ...],
    old: tuple[Attribute, ...],
    new_key: tuple[Attribute, ...],
    new: tuple[Attribute, ...],
    model: Model,
) -> str:
    before = {a.name: a for a in (*old_key, *old)}
    after = {a.name: a for a in (*new_key, *new)}
    lines, is_retyped = [], False
    if [a.name for a in old_key] != [a.name for a in new_key]:
        lines.append(
            f"-- REVIEW: the key of {name} has changed from ({', '.join(a.name for a in old_key)}) to "
            f"({', '.join(a.name for a in new_key)}).\n"
            "-- Rows are told apart by another key now: empty the table and load it again.\n"
            f"-- TRUNCATE dwh.{name} …; DROP TABLE work.{name}_key; then: oceanrecords run --full-refresh {name}\n"
        )
    for column, a in after.items():
        if column not in before:
            lines.append(f"ALTER TABLE dwh.{name} ADD COLUMN {quoted(column)} {a.type};\n")
            lines.append(
                f"COMMENT ON COLUMN dwh.{name}.{quoted(column)} IS {literal(a.comment)};\n"
            )
        elif before[column].type != a.type:
            is_retyped = True
            change = (
                f"ALTER COLUMN {quoted(column)} TYPE {a.type} USING {quoted(column)}::{a.type};\n"
            )
            lines.append(f"ALTER TABLE dwh.{name} {change}")
            if a in new_key:
                lines.append(f"ALTER TABLE IF EXISTS work.{name}_key {change}")
    for column in before:
        if column not in after:
            lines.append(f"-- {column} is no longer filled; it keeps what it holds.\n")
    if is_retyped:
        views = [f"analysis.{name}"]
        views += [
            f"kpi.{view}"
            for view in files.kpi_views(model)
            if view not in ("freshness", "definition")
        ]
        lines.insert(
            0,
            "-- PostgreSQL retypes no column that a view reads; the installation creates the views again.\n"
            f"DROP VIEW IF EXISTS {', '.join(views)};\n",
        )
    return "".join(lines)


def _gone(old: Model, new: Model) -> Iterator[str]:
    """Yield what takes tables and stars that are gone out of the catalog, before it is built."""
    stars = {one.name for one in new.dimensions} | {one.name for one in new.facts}
    tables = {one.name for one in new.contracts}
    objects = [("fact", one.name) for one in old.facts]
    objects += [("dimension", one.name) for one in old.dimensions]
    for kind, name in objects:
        if name not in stars:
            yield (
                f"-- {name} is no longer loaded; dwh.{name} keeps what it holds.\n"
                f"DELETE FROM etl.fact_dimension WHERE {kind} = {literal(name)};\n"
                f"DELETE FROM etl.{kind} WHERE {kind} = {literal(name)};\n"
                f"DELETE FROM etl.dependency WHERE object = {literal(name)};\n"
                f"DELETE FROM etl.declaration WHERE object = {literal(name)};\n"
                f"DROP VIEW IF EXISTS work.{name};\n"
            )
    for contract in old.contracts:
        if contract.name not in tables:
            yield (
                f"-- {contract.name} is no longer read; stage.{contract.name} keeps what it holds.\n"
                f"DELETE FROM etl.source_table WHERE source_table = {literal(contract.name)};\n"
                f"DELETE FROM etl.declaration WHERE object = {literal(contract.name)};\n"
                f"DROP VIEW IF EXISTS source.{quoted(contract.name)};\n"
                f"DROP FUNCTION IF EXISTS source.{quoted('_read_' + contract.name)}();\n"
            )
