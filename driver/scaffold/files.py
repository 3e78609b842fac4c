"""Writes a draft as files: warehouse.toml, migrations, plpgsql and the dashboard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from driver.scaffold import source
from driver.scaffold.model import Attribute, Model
from driver.scaffold.text import render as write
from driver.scaffold.text import shorten, singular, snake

STARS = "migrations/0001.stars.sql"
_NOT_SUMMED = re.compile(r"(^|_)(price|rate|ratio|percent|pct|discount|share|tax_?rate|age|score)")


def render(model: Model, name: str) -> dict[str, str]:
    """Return the text of each file of the draft, by its path in the folder.

    Parameters:
        model: the draft.
    """
    persons = _persons(model)
    figures = _figures(model)
    stars = [one.name for one in (*model.dimensions, *model.facts)]
    files = {
        "warehouse.toml": write("warehouse.toml", model=model, name=name),
        STARS: write("stars.sql", model=model),
        "plpgsql/install.txt": write("install.txt", model=model, persons=persons),
        "plpgsql/contract.sql": write(
            "contract.sql", model=model, columns=_columns(model), tombstones=source.TOMBSTONES
        ),
        "plpgsql/kpi.sql": write("kpi.sql", **figures),
        "plpgsql/permissions.sql": write(
            "permissions.sql",
            model=model,
            name=name,
            stars=stars,
            kpi_views=kpi_views(model),
            sensitivity=_sensitivity(model),
        ),
        source.FILE: model.source.to_json(),
    }
    for dimension in model.dimensions:
        files[f"plpgsql/{dimension.name}.sql"] = write("dimension.sql", d=dimension)
    for fact in model.facts:
        files[f"plpgsql/{fact.name}.sql"] = write("fact.sql", f=fact)
    if persons:
        files["plpgsql/personal.sql"] = write("personal.sql", persons=persons)
    if figures["fact"]:
        files |= _dashboard(name, figures)
    return files


def _columns(model: Model) -> list[tuple[str | None, ...]]:
    """Return the rows of what the view source.columns expects."""
    rows: list[tuple[str | None, ...]] = []
    for one in model.contracts:
        place = (one.name, one.table.schema, one.table.name)
        for f in one.fields:
            if f.column is not None:
                rows.append((*place, f.column.name, f.name, f.column.type, f.type))
        rows += [(*place, column.name, None, column.type, None) for column, _ in one.left_out]
    return rows


# -- permissions ----------------------------------------------------------------------------------


def _sensitivity(model: Model) -> list[tuple[str, str, str, list[str]]]:
    """Return schema, relation, sensitivity and columns."""
    found: list[tuple[str, str, str, list[str]]] = []

    def add(schema: str, relation: str, columns: Sequence[str], personal: Sequence[str]) -> None:
        for kind, listed in (
            ("public", [one for one in columns if one not in personal]),
            ("personal", list(personal)),
        ):
            if listed:
                found.append((schema, relation, kind, listed))

    for one in model.contracts:
        personal = [f.name for f in one.fields if one.is_personal(f)]
        add("source", one.name, [f.name for f in one.fields], personal)
    for d in model.dimensions:
        columns = [d.surrogate_key, *(a.name for a in (*d.key, *d.attributes))]
        add("dwh", d.name, columns, [a.name for a in d.attributes if a.is_personal])
    for fact in model.facts:
        keys = [*(a.name for a in fact.key), *(k.key_column for k in fact.lookups)]
        values = [a.name for a in (fact.event, *fact.details, *fact.measures)]
        add("dwh", fact.name, [*keys, *values], [])
    return found


@dataclass(frozen=True)
class _Person:
    """A kind of person, with what `oceanrecords forget` replaces.

    Attributes:
        subject: such as customer.
        key: the key column.
        objects: mirrors and dimensions, each with its personal columns.
    """

    subject: str
    key: Attribute
    objects: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

    @property
    def columns(self) -> list[tuple[str, str, list[str]]]:
        """Object, replacement as SQL, and columns."""
        found = []
        for name, listed in self.objects:
            for replacement, is_text in (("'forgotten'", True), ("NULL", False)):
                columns = [column for column, type_ in listed if (type_ == "text") is is_text]
                if columns:
                    found.append((name, replacement, columns))
        return found


def _persons(model: Model) -> list[_Person]:
    found = []
    for d in model.dimensions:
        mirror = tuple((f.name, f.type) for f in d.base.fields if d.base.is_personal(f))
        own = tuple(
            (a.name, a.type) for a in d.attributes if a.is_personal and a.expression[:2] == "t."
        )
        if mirror and len(d.key) == 1:
            objects = ((d.base.name, mirror), (d.name, own))
            found.append(_Person(singular(d.base.name), d.key[0], objects))
    return found


# -- figures --------------------------------------------------------------------------------------


def _figures(model: Model) -> dict[str, Any]:
    """Return what KPIs and dashboard show of the fact that has most to show."""
    fact = max(
        model.facts,
        key=lambda f: (len(f.measures) > 1, len(f.lookups), f.base.table.rows, f.name),
        default=None,
    )
    if fact is None:
        return {"fact": None, "count": None, "sums": [], "ranking": None}
    sums = [m.name for m in fact.measures[:-1] if not _NOT_SUMMED.search(m.name)]
    preferred = [m for m in sums if re.search(r"amount|total|sales|net|gross|revenue", m)]
    count = fact.measures[-1].name
    value = next(iter(preferred or sums), count)
    # Business users see no person, so people are not ranked.
    keys = [
        k
        for k in fact.lookups
        if k.dimension and not any(a.is_personal for a in k.dimension.attributes)
    ]
    best = next((k for k in keys if k.dimension and k.dimension.label), next(iter(keys), None))
    stem = fact.name.removeprefix("fact_")
    role = best.key_column.removesuffix("_key") if best else ""
    return {
        "fact": fact,
        "stem": stem,
        "count": count,
        "sums": sums,
        "value": value,
        "ranked": list(dict.fromkeys([count, value])),
        "day": next(k.key_column for k in fact.lookups if not k.dimension and k.null_key == -1),
        "best": best,
        "label": (best.dimension.label or best.dimension.key[0].name)
        if best and best.dimension
        else None,
        "role": role,
        "ranking": shorten(f"{stem}_by_{role}", 60) if best else None,
    }


def kpi_views(model: Model) -> list[str]:
    """Return the views of schema kpi that a draft has."""
    figures = _figures(model)
    views = ["freshness", "definition"]
    if figures["fact"]:
        views.append(f"{figures['stem']}_monthly")
    return views + ([figures["ranking"]] if figures["ranking"] else [])


def _dashboard(name: str, figures: dict[str, Any]) -> dict[str, str]:
    count, value, sums = figures["count"], figures["value"], figures["sums"]
    latest = list(dict.fromkeys([count, value, *[m for m in sums if m != value][:1]]))

    def months(columns: list[str], *, is_latest: bool = False) -> str:
        return write("months.sql", columns=columns, stem=figures["stem"], latest=is_latest)

    return {
        "dashboard/dashboard.yaml": write(
            "dashboard.yaml", key=snake(name), name=name, latest=latest, **figures
        ),
        "dashboard/questions/latest_months.sql": months(latest, is_latest=True),
        "dashboard/questions/count_by_month.sql": months([count]),
        "dashboard/questions/value_by_month.sql": months([value]),
        "dashboard/questions/top_members.sql": write("top.sql", **figures),
    }
