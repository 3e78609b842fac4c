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
    return f"""\
INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column, delete_detection)
VALUES ({literal(table)}, {names(key)}, {literal(detection)}, {literal(column)}, {literal(deletion)})
ON CONFLICT (source_table) DO UPDATE
SET key_columns = excluded.key_columns,
    change_detection = excluded.change_detection,
    change_column = excluded.change_column,
    delete_detection = excluded.delete_detection;
"""


def dimension(
    name: str, surrogate_key: str, key: Sequence[str], attributes: Sequence[tuple[str, int]]
) -> str:
    """Return the declaration of a dimension with its attributes."""
    text = f"""\
INSERT INTO etl.dimension (dimension, dimension_table, transform_view, surrogate_key, business_key)
VALUES ({literal(name)}, 'dwh.{name}', 'work.{name}', {literal(surrogate_key)}, {names(key)})
ON CONFLICT (dimension) DO UPDATE
SET transform_view = excluded.transform_view,
    business_key = excluded.business_key;
DELETE FROM etl.dimension_attribute
WHERE dimension = {literal(name)};
"""
    if attributes:
        rows = ",\n".join(
            f"    ({literal(name)}, {literal(attribute)}, {scd})" for attribute, scd in attributes
        )
        text += (
            "INSERT INTO etl.dimension_attribute (dimension, attribute, scd_type)\nVALUES\n"
            f"{rows};\n"
        )
    return text


def fact(
    name: str,
    key: Sequence[str],
    measures: Sequence[str],
    lookups: Sequence[tuple[str, str, Sequence[str], str | None, int]],
) -> str:
    """Return the declaration of a fact with its keys.

    Parameters:
        name: the fact.
        key: its business key.
        measures: its measures.
        lookups: key column, dimension, lookup columns, column of the moment, key for none.
    """
    text = f"""\
INSERT INTO etl.fact (fact, fact_table, transform_view, business_key, measures)
VALUES ({literal(name)}, 'dwh.{name}', 'work.{name}', {names(key)}, {names(measures)})
ON CONFLICT (fact) DO UPDATE
SET transform_view = excluded.transform_view,
    business_key = excluded.business_key,
    measures = excluded.measures;
DELETE FROM etl.fact_dimension
WHERE fact = {literal(name)};
"""
    if lookups:
        rows = ",\n".join(
            f"    ({literal(name)}, {literal(column)}, {literal(of)}, {names(by)}, "
            f"{literal(moment)}, {null_key})"
            for column, of, by, moment, null_key in lookups
        )
        text += (
            "INSERT INTO etl.fact_dimension "
            "(fact, key_column, dimension, lookup_columns, as_of_column, null_key)\nVALUES\n"
            f"{rows};\n"
        )
    return text


def dependencies(name: str, queries: Sequence[tuple[str, str]]) -> str:
    """Return which source tables touch an object, and how its keys are found from their rows.

    Parameters:
        name: the dimension or fact.
        queries: source table, and SELECT of the object's key from "changed".
    """
    rows = ",\n".join(
        f"    ({literal(name)}, {literal(table)}, {literal(query)})" for table, query in queries
    )
    return f"""\
DELETE FROM etl.dependency
WHERE object = {literal(name)};
INSERT INTO etl.dependency (object, source_table, key_query)
VALUES
{rows};
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
