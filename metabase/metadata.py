"""Tables and columns as the query builder shows them, from the warehouse's catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from metabase.compare import differences
from metabase.walk import Walk
from metabase.warehouse import CatalogColumn

# Out of the query builder. 'sensitive' would make every query fail that touches the column.
_HIDDEN = "hidden"


def describe(
    walk: Walk,
    database: int,
    schema: str,
    catalog: Iterable[CatalogColumn],
    currency: str,
) -> None:
    """Bring the metadata of a schema's tables and columns to what the catalog says.

    What the catalog does not say is left to Metabase, and to people.

    Raises:
        UserError: if the server does not keep what was written.
    """
    wanted: dict[str, list[CatalogColumn]] = {}
    for column in catalog:
        wanted.setdefault(column.relation, []).append(column)
    tables = _tables(walk, database, schema)
    fields = {
        (name, one["name"]): int(one["id"])
        for name, table in tables.items()
        for one in table.get("fields") or ()
    }
    for name, columns in wanted.items():
        table = tables.get(name)
        if table is None:
            continue
        known = {one["name"]: one for one in table.get("fields") or ()}
        table_body = {}
        if columns[0].relation_description:
            table_body["description"] = columns[0].relation_description
        bodies = {
            column.name: _body(column, fields, currency)
            for column in columns
            if column.name in known
        }
        table_keys, changed = _differences(table_body, bodies, table)
        details = [f"{column}: {', '.join(keys)}" for column, keys in changed.items()]
        if not changed and not table_keys:
            continue
        if walk.change("update", "metadata", f"{schema}.{name}", *table_keys, *details):
            if table_keys:
                walk.client.put(f"/api/table/{table['id']}", table_body)
            for field in changed:
                walk.client.put(f"/api/field/{fields[name, field]}", bodies[field])
            stored = _tables(walk, database, schema).get(name, {})
            keys, left = _differences(table_body, bodies, stored)
            lost = (f"{column}.{key}" for column, names in left.items() for key in names)
            walk.verify("metadata", f"{schema}.{name}", (*keys, *lost))


def field_id(walk: Walk, database: int, schema: str, table: str, column: str) -> int | None:
    """Return the id of a column on the server, or None when Metabase has not read it."""
    found = _tables(walk, database, schema).get(table, {})
    ids = [int(one["id"]) for one in found.get("fields") or () if one["name"] == column]
    return ids[0] if ids else None


def _tables(walk: Walk, database: int, schema: str) -> dict[str, dict[str, Any]]:
    found = walk.client.get(f"/api/database/{database}/metadata", include_hidden="true")
    return {one["name"]: one for one in found.get("tables") or () if one.get("schema") == schema}


def _body(
    column: CatalogColumn, fields: Mapping[tuple[str, str], int], currency: str
) -> dict[str, Any]:
    """Return what the catalog says of a column, in the words of the API."""
    body: dict[str, Any] = {}
    if column.description:
        body["description"] = column.description
    if column.semantic_type:
        body["semantic_type"] = column.semantic_type
    if column.semantic_type == "type/Currency" and currency:
        body["settings"] = {"number_style": "currency", "currency": currency}
    if column.target is not None:
        target = fields.get(column.target)
        if target is None:
            # The dimension is not among the tables that Metabase has read.
            body.pop("semantic_type", None)
        else:
            body["fk_target_field_id"] = target
    if column.is_technical:
        body["visibility_type"] = _HIDDEN
    return body


def _differences(
    table_body: Mapping[str, Any], bodies: Mapping[str, Mapping[str, Any]], table: Mapping[str, Any]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the keys of a table that differ, and those of its columns."""
    known = {one["name"]: one for one in table.get("fields") or ()}
    columns = {name: differences(body, known.get(name, {})) for name, body in bodies.items()}
    return differences(table_body, table), {name: keys for name, keys in columns.items() if keys}
