"""Follows a business key, or a run, through all layers; the database does the looking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import dict_row


@dataclass(frozen=True)
class Section:
    """What was found in one place.

    Attributes:
        layer: the schema's role: source, delta, stage, work, dwh or etl.
        relation: where it was looked for.
        title: what the rows are.
        rows: what was found, columns in their order.
        has_more: whether further rows were left out.
    """

    layer: str
    relation: str
    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    has_more: bool = False


def trace(
    connection: psycopg.Connection[Any], kind: str, key: Sequence[str], limit: int = 20
) -> list[Section]:
    """Return what is and was of a key in every layer, in the order in which data flows.

    Parameters:
        kind: what it is a key of, such as 'product'; or 'run'.
        key: values of the key, in the order of its columns.
        limit: rows of a section at most.

    Raises:
        psycopg.Error: ET045 for an unknown kind, ET046 for what is no key of it, ET047 when no
            layer has it.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT * FROM etl.trace(%s, %s::text[], %s)",
            [kind, list(key), limit],
        ).fetchall()
    sections = []
    for (_, layer, relation, title), group in groupby(
        found, key=lambda row: (row["step"], row["layer"], row["relation"], row["title"])
    ):
        entries = list(group)
        rows = [row["entry"] for row in entries if row["entry"] is not None]
        sections.append(
            Section(layer, relation, title, rows, any(row["has_more"] for row in entries))
        )
    return sections
