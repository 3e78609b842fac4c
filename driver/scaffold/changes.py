"""What has changed in a source since a draft was made, as a patch for its folder."""

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
    known: dict[str, Dimension | Fact] = {}
    known |= {one.name: one for one in old.dimensions}
    known |= {one.name: one for one in old.facts}
    parts = [*_gone(old, new)]
    stars: list[Dimension | Fact] = [*new.dimensions, *new.facts]
    for star in stars:
        before = known.get(star.name)
        if before is None or type(before) is not type(star):
            parts.append(macro(_table(star), star))
        elif [a.name for a in before.key] != [a.name for a in star.key]:
            parts.append(_rekeyed(before, star, old, new))
        else:
            parts.append(_altered(before, star, old, new))
    text = "\n".join(one for one in parts if one)
    return f"-- The source has changed: the stars follow.\n\n{text}" if text else ""


def _table(star: Dimension | Fact) -> str:
    return "dimension_table" if isinstance(star, Dimension) else "fact_table"


def _columns(star: Dimension | Fact) -> tuple[Attribute, ...]:
    if isinstance(star, Dimension):
        return star.attributes
    return (*star.details, *star.measures)


def _views(star: Dimension | Fact, *models: Model) -> str:
    """Return the statement that drops the views on a star's table; the installation makes them."""
    views = [view for model in models for view in files.kpi_views(model) if view != "definition"]
    names = [f"analysis.{star.name}", *(f"kpi.{view}" for view in dict.fromkeys(views))]
    return (
        "-- The installation creates these views again, those that the draft still has.\n"
        f"DROP VIEW IF EXISTS {', '.join(names)};\n"
    )


def _altered(before: Dimension | Fact, star: Dimension | Fact, *models: Model) -> str:
    """Return what adds and retypes the columns of a star."""
    table = f"ALTER TABLE dwh.{star.name}"
    old = {a.name: a for a in (*before.key, *_columns(before))}
    wanted = {a.name: a for a in (*star.key, *_columns(star))}
    lines, must_drop_views = [], False
    for name, a in wanted.items():
        column = quoted(name)
        if name not in old:
            lines.append(
                f"{table} ADD COLUMN {column} {a.type};\n"
                f"COMMENT ON COLUMN dwh.{star.name}.{column} IS {literal(a.comment)};\n"
            )
        elif old[name].type != a.type:
            must_drop_views = True
            change = f"ALTER COLUMN {column} TYPE {a.type} USING {column}::{a.type};\n"
            lines.append(f"{table} {change}")
            if a in star.key:
                lines.append(f"ALTER TABLE IF EXISTS work.{star.name}_key {change}")
    gone = [name for name in old if name not in wanted]
    if isinstance(before, Fact) and isinstance(star, Fact):
        lines += _relinked(before, star)
        kept = {k.key_column for k in star.lookups}
        gone += [k.key_column for k in before.lookups if k.key_column not in kept]
        # A load writes all columns of a fact. Its declaration still names those that go.
        lines += [_undeclared("fact", star.name)] * bool(gone)
        lines += [
            f"-- REVIEW: the values of {name} are lost; copy them first if they are needed.\n"
            f"{table} DROP COLUMN {quoted(name)};\n"
            for name in gone
        ]
        must_drop_views = must_drop_views or bool(gone)
    else:
        lines += [f"-- {name} is no longer filled; it keeps what it holds.\n" for name in gone]
    return "".join([_views(star, *models)] * must_drop_views + lines)


def _relinked(before: Fact, star: Fact) -> list[str]:
    """Return what adds the key columns of a fact that are new."""
    old = {k.key_column for k in before.lookups}
    return [
        f"ALTER TABLE dwh.{star.name} ADD COLUMN {quoted(k.key_column)} "
        f"{'bigint' if k.dimension else 'integer'} NOT NULL DEFAULT -1 "
        f"REFERENCES dwh.{k.dimension_name};\n"
        for k in star.lookups
        if k.key_column not in old
    ]


def _rekeyed(before: Dimension | Fact, star: Dimension | Fact, old: Model, model: Model) -> str:
    """Return what creates the table of a star again, as another key identifies its rows."""
    keys = [", ".join(a.name for a in one.key) for one in (before, star)]
    is_dimension = isinstance(star, Dimension)
    text = (
        f"-- REVIEW: the key of {star.name} has changed from ({keys[0]}) to ({keys[1]}). Its table "
        "is created again, and the next run\n-- loads it from the mirrors. "
    )
    if is_dimension:
        text += "Its history begins again; `oceanrecords export-history` keeps the old one."
    text += "\n"
    for fact in old.facts:
        links = [k for k in fact.lookups if k.dimension_name == star.name]
        if links:
            # The surrogate keys change, so these facts are loaded again too.
            text += _undeclared("fact", fact.name)
            text += "UPDATE etl.load_state SET needs_reload = true WHERE object = "
            text += f"{literal(fact.name)};\n"
        for k in links:
            name = f"{fact.name}_{k.key_column}"
            text += (
                f"ALTER TABLE dwh.{fact.name} DROP CONSTRAINT IF EXISTS {quoted(name + '_fkey')}, "
                f"DROP CONSTRAINT IF EXISTS {quoted(name)};\n"
            )
    text += _undeclared("dimension" if is_dimension else "fact", star.name)
    text += f"DELETE FROM etl.load_state WHERE object = {literal(star.name)};\n"
    text += _views(star, old, model)
    text += f"DROP TABLE IF EXISTS work.{star.name}_key, work.{star.name}_decision;\n"
    text += f"DROP TABLE dwh.{star.name};\n"
    return text + macro(_table(star), star)


def _undeclared(kind: str, name: str) -> str:
    """Return what takes a star out of the catalog; the installation declares what is left of it."""
    return (
        f"DELETE FROM etl.fact_dimension WHERE {kind} = {literal(name)};\n"
        f"DELETE FROM etl.{kind} WHERE {kind} = {literal(name)};\n"
        f"DELETE FROM etl.dependency WHERE object = {literal(name)};\n"
        f"DELETE FROM etl.declaration WHERE object = {literal(name)};\n"
    )


def _gone(old: Model, new: Model) -> Iterator[str]:
    """Yield what takes tables and stars that are gone out of the catalog, before it is built."""
    stars = {one.name for one in (*new.dimensions, *new.facts)}
    tables = {one.name for one in new.contracts}
    objects = [("fact", one.name) for one in old.facts]
    objects += [("dimension", one.name) for one in old.dimensions]
    for kind, name in objects:
        if name not in stars:
            yield (
                f"-- {name} is no longer loaded; dwh.{name} keeps what it holds.\n"
                f"{_undeclared(kind, name)}DROP VIEW IF EXISTS work.{name};\n"
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
