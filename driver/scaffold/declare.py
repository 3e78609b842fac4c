"""The declarations of a business, as SQL: the one place that knows how the engine is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def literal(value: str | None) -> str:
    """Return a text as SQL writes it."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def names(values: Iterable[str]) -> str:
    """Return an array of names as SQL writes it."""
    listed = list(values)
    if all(one.replace("_", "").isalnum() for one in listed):
        return literal("{" + ",".join(listed) + "}")
    return "ARRAY[" + ", ".join(literal(one) for one in listed) + "]::name[]"


def source(
    table: str, key: Sequence[str], detection: str, column: str | None, deletion: str
) -> str:
    """Return the declaration of a source table."""
    # Without a name, the engine would look for a time of change; '' compares all rows.
    change = "" if detection == "comparison" else column or ""
    return f"""\
SELECT etl.define_source(
    {literal(table)},
    p_key => {names(key)},
    p_change_column => {literal(change)},
    p_delete_detection => {literal(deletion)}
);
"""


def dimension(
    name: str,
    key: Sequence[str],
    attributes: Sequence[tuple[str, int]],
    depends_on: Sequence[tuple[str, str]],
) -> str:
    """Return the declaration of a dimension: attributes that are not of type 2 are overwritten.

    Parameters:
        name: the dimension.
        key: its business key.
        attributes: each with its SCD type.
        depends_on: further source tables, each with the SELECT of the key from "changed".
    """
    lines = [literal(name), f"p_key => {names(key)}"]
    tracked = [attribute for attribute, scd in attributes if scd == 2]
    if tracked:
        lines.append(f"p_type_2 => {names(tracked)}")
    lines += _depends_on(depends_on)
    return "SELECT etl.define_dimension(\n    " + ",\n    ".join(lines) + "\n);\n"


def fact(
    name: str,
    key: Sequence[str],
    measures: Sequence[str],
    lookups: Sequence[tuple[str, str, Sequence[str], str | None, int]],
    depends_on: Sequence[tuple[str, str]],
) -> str:
    """Return the declaration of a fact with its keys.

    Parameters:
        name: the fact.
        key: its business key.
        measures: its measures.
        lookups: key column, dimension, lookup columns, column of the moment, key for none.
        depends_on: further source tables, each with the SELECT of the key from "changed".
    """
    keys = []
    for column, of, by, moment, null_key in lookups:
        parts = [literal(of), literal(column), f"p_lookup => {names(by)}"]
        if moment is not None:
            parts.append(f"p_as_of => {literal(moment)}")
        if null_key != -1:
            parts.append(f"p_null_key => {null_key}")
        keys.append(f"        etl.fact_key({', '.join(parts)})")
    lines = [
        literal(name),
        f"p_key => {names(key)}",
        f"p_measures => {names(measures)}",
        "p_dimensions => ARRAY[\n" + ",\n".join(keys) + "\n    ]"
        if keys
        else "p_dimensions => '{}'",
        *_depends_on(depends_on),
    ]
    return "SELECT etl.define_fact(\n    " + ",\n    ".join(lines) + "\n);\n"


def _depends_on(queries: Sequence[tuple[str, str]]) -> list[str]:
    if not queries:
        return []
    listed = ",\n".join(
        f"        etl.depends_on({literal(table)}, {literal(query)})" for table, query in queries
    )
    return [f"p_depends_on => ARRAY[\n{listed}\n    ]"]


def grants(tables: Sequence[tuple[str, str]]) -> str:
    """Return the statements that let the owner of the warehouse read the source's tables.

    Parameters:
        tables: schema and table, both as SQL writes them.
    """
    schemas = ", ".join(dict.fromkeys(schema for schema, _ in tables))
    listed = ",\n            ".join(f"{schema}.{table}" for schema, table in tables)
    usage = literal(f"GRANT USAGE ON SCHEMA {schemas} TO %I")
    select = "GRANT SELECT ON\n            " + listed + "\n            TO %I"
    return f"""\
DO $grant_source$
DECLARE
    v_role name;
BEGIN
    FOR v_role IN
        SELECT DISTINCT l.role_name
        FROM etl.access_level AS l
        JOIN etl.access_schema AS s ON s.owner_level = l.level
    LOOP
        EXECUTE format({usage}, v_role);
        EXECUTE format($grant$
            {select}
        $grant$, v_role);
    END LOOP;
END
$grant_source$;
"""


def sensitivity(origin: str, rows: Sequence[tuple[str, str, str, Sequence[str]]]) -> str:
    """Return how sensitive columns are.

    Parameters:
        origin: the business.
        rows: schema, relation, sensitivity, columns.
    """
    values = ",\n".join(
        f"        ({literal(schema)}, {literal(relation)}, {literal(kind)}, {names(columns)})"
        for schema, relation, kind, columns in rows
    )
    return f"""\
DELETE FROM etl.column_sensitivity
WHERE origin = {literal(origin)};
INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity, origin)
SELECT d.schema_name, d.object_name, c.name, d.sensitivity, {literal(origin)}
FROM (
    VALUES
{values}
) AS d (schema_name, object_name, sensitivity, column_names)
CROSS JOIN LATERAL unnest(d.column_names::name[]) AS c (name);
"""


def published(origin: str, stars: Sequence[str]) -> str:
    """Return the views that analysts read, with all rows of the stars."""
    values = ",\n".join(
        f"    ({literal(one)}, 'SELECT a.* FROM dwh.{one} AS a', {literal(origin)})"
        for one in stars
    )
    return f"""\
DELETE FROM etl.published_view
WHERE origin = {literal(origin)};
INSERT INTO etl.published_view (view_name, rows_query, origin)
VALUES
{values};
"""


def person(
    subject: str,
    key: tuple[str, str],
    objects: Sequence[tuple[str, Sequence[tuple[str, str]]]],
) -> str:
    """Return what is personal about a kind of subject, and what replaces it.

    Parameters:
        subject: such as customer.
        key: its key column, and the type of that.
        objects: source tables and dimensions, each with its personal columns and their types.
    """
    column, type_ = key
    query = literal(f"SELECT $1::{type_}")
    rows = ",\n".join(
        f"    ({literal(subject)}, {literal(name)}, {names([column])}, {query})"
        for name, _ in objects
    )
    columns = ",\n".join(
        f"    ({literal(subject)}, {literal(name)}, {literal(one)}, "
        + literal(literal("forgotten") if kind == "text" else "NULL")
        + ")"
        for name, listed in objects
        for one, kind in listed
    )
    return f"""\
INSERT INTO etl.personal_subject (subject, key_type)
VALUES ({literal(subject)}, {literal(type_)})
ON CONFLICT (subject) DO UPDATE
SET key_type = excluded.key_type;
DELETE FROM etl.personal_object
WHERE subject = {literal(subject)};
INSERT INTO etl.personal_object (subject, object, key_columns, key_query)
VALUES
{rows};
INSERT INTO etl.personal_column (subject, object, column_name, replacement)
VALUES
{columns};
"""


def permissions(origin: str, rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    """Return who may do what.

    Parameters:
        origin: the business.
        rows: level, kind of object, schema, object, privileges as an array's text.
    """
    values = ",\n".join(
        "    (" + ", ".join([*(literal(one) for one in row), literal(origin)]) + ")" for row in rows
    )
    return f"""\
DELETE FROM etl.permission
WHERE origin = {literal(origin)};
INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges, origin)
VALUES
{values};
"""
