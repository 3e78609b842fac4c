"""Values are compared by what is stored: of types without equality, and of those in which equal is not the same."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.conftest import Finished
from tests.support.database import Database

# Column: type, value, another value that differs from it, if only in how it is stored.
COLUMNS = {
    "a_money": ("money", "'12.34'", "'12.35'"),
    "a_json": ("json", """'{"a": 1}'""", """'{"a":1}'"""),
    "a_jsonb": ("jsonb", """'{"a": 1.0}'""", """'{"a": 1.00}'"""),
    "an_xml": ("xml", "'<a/>'", "'<a />'"),
    "an_interval": ("interval", "'30 days'", "'1 month'"),
    "a_numeric": ("numeric", "1.0", "1.00"),
    "a_float": ("float8", "0.1::float8 + 0.2::float8", "0.3"),
    "a_zero": ("float8", "'0'", "'-0'"),
    "a_bit": ("bit(4)", "'1010'", "'1011'"),
    "an_array": ("integer[]", "'{1,2}'", "'[2:3]={1,2}'"),
    "a_range": ("int4range", "'[1,5)'", "'[1,6)'"),
    "a_point": ("point", "'(1,2)'", "'(1,2.5)'"),
    "a_vector": ("tsvector", "'a:1'", "'a:2'"),
    "a_uuid": ("uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"),
    "some_bytes": ("bytea", r"'\x01'", r"'\x02'"),
    "a_char": ("char(5)", "'ab'", "'abc'"),
    "an_empty_text": ("text", "''", "NULL"),
    "a_time": ("timetz", "'12:00+00'", "'13:00+01'"),
}  # fmt: skip


@pytest.fixture
def columns(database: Database) -> dict[str, tuple[str, str, str]]:
    """The columns whose types the server has: the embedded one is built without XML."""
    try:
        database.execute("SELECT xml '<a/>'")
    except psycopg.errors.FeatureNotSupported:
        return {name: column for name, column in COLUMNS.items() if column[0] != "xml"}
    return COLUMNS


@pytest.fixture
def awkward(database: Database, columns: dict[str, tuple[str, str, str]]) -> Database:
    """A business whose only table, dimension and fact have columns of all these types."""
    typed = ", ".join(f"{name} {kind}" for name, (kind, _, _) in columns.items())
    values = ", ".join(value for _, value, _ in columns.values())
    names = ", ".join(columns)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for statement in (
            "CREATE SCHEMA shop",
            f"CREATE TABLE shop.things (thing_id integer PRIMARY KEY, {typed},"
            " updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), row_xid xid8 NOT NULL DEFAULT pg_current_xact_id())",
            f"INSERT INTO shop.things (thing_id, {names}) SELECT i, {values} FROM generate_series(1, {len(columns)}) AS i",
            "CREATE VIEW source.things AS SELECT * FROM shop.things",
            "SELECT etl.define_source('things', p_delete_detection => 'comparison')",
            "CALL etl.build()",
            f"CREATE VIEW work.dim_thing AS SELECT thing_id, {names}, updated_at AS effective_at, deleted_at FROM stage.things",
            f"CREATE VIEW work.fact_thing AS SELECT thing_id AS fact_id, thing_id, updated_at AS at_time, {names}, deleted_at FROM stage.things",
            "SELECT etl.define_dimension('dim_thing', p_key => '{thing_id}', p_type_2 => '{an_interval,a_json}')",
            "SELECT etl.define_fact('fact_thing', p_key => '{fact_id}', p_measures => '{a_numeric,a_money}', p_dimensions =>"
            " ARRAY[etl.fact_key('dim_thing', p_key_column => 'thing_key', p_lookup => '{thing_id}', p_as_of => 'at_time')],"
            " p_depends_on => ARRAY[etl.depends_on('things', 'SELECT thing_id FROM changed')])",
            "CALL etl.build()",
            "CALL etl.run()",
        ):
            connection.execute(statement.encode())
    assert database.value("SELECT count(*) FROM dwh.fact_thing") == len(columns)
    return database


def found(database: Database) -> dict[str, int]:
    with database.connect() as connection:
        connection.execute("CALL etl.reconcile('{fact_thing}')")
    rows = database.rows("SELECT * FROM etl.reconciliation_status")
    assert [row for row in rows if row["status"] == "skipped"] == []
    return {row["object"]: row["differences"] for row in rows if row["differences"]}


def test_they_agree_and_a_value_that_is_only_equal_does_not(
    awkward: Database, columns: dict[str, tuple[str, str, str]], cli: Callable[..., Finished]
) -> None:
    assert found(awkward) == {}
    for table, name, key in (
        ("stage.things", "things", "thing_id"),
        ("dwh.dim_thing", "dim_thing", "thing_id"),
        ("dwh.fact_thing", "fact_thing", "fact_id"),
    ):
        for number, (column, (_, _, other)) in enumerate(columns.items(), start=1):
            awkward.execute(f"UPDATE {table} SET {column} = {other} WHERE {key} = {number}")
        assert found(awkward) == {name: len(columns)}
        if name == "fact_thing":
            shown = cli("reconcile", name, "--limit", "50").stdout
            assert "a_numeric: 1.00 instead of 1.0\n" in shown
        for number, (column, (_, value, _)) in enumerate(columns.items(), start=1):
            awkward.execute(f"UPDATE {table} SET {column} = {value} WHERE {key} = {number}")
    assert found(awkward) == {}
