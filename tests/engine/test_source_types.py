"""What a source table may be made of: types of every kind, names of every kind, rows that do not tell when they changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Finished
from tests.engine.library import Library
from tests.support.database import Database

# What is tested here does not depend on the version of the server, but for types that one of them lacks.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]


class Table:
    """A source table `things` with a key and a value of given types, and its mirror."""

    def __init__(
        self,
        database: Database,
        key: str = "integer",
        value: str = "text",
        *,
        deletes: str = "tombstone",
        before: str = "",
        build: bool = True,
    ) -> None:
        self.warehouse = Library(database.connect())
        self.warehouse.execute(
            f"""
            CREATE SCHEMA lab;
            {before};
            CREATE TABLE lab.things (
                thing {key}, value {value},
                row_xid xid8 DEFAULT pg_current_xact_id()
            );
            CREATE TABLE lab.deleted_rows (
                table_name text, row_key jsonb, deleted_at timestamptz DEFAULT now(), row_xid xid8 DEFAULT pg_current_xact_id()
            );
            CREATE VIEW source.tombstones AS SELECT table_name, row_key, deleted_at, row_xid FROM lab.deleted_rows;
            CREATE FUNCTION lab.mark() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF TG_OP = 'DELETE' THEN
                    INSERT INTO lab.deleted_rows (table_name, row_key)
                    VALUES ('things', jsonb_build_object('thing', to_jsonb(OLD.thing)));
                    RETURN OLD;
                END IF;
                NEW.row_xid := pg_current_xact_id();
                RETURN NEW;
            END $$;
            CREATE TRIGGER mark BEFORE INSERT OR UPDATE OR DELETE ON lab.things
            FOR EACH ROW EXECUTE FUNCTION lab.mark();
            CREATE VIEW source.things AS SELECT thing, value, row_xid FROM lab.things;
            """
        )
        self.warehouse.execute(
            "INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column,"
            " delete_detection) VALUES ('things', '{thing}', 'snapshot', 'row_xid', %s)",
            deletes,
        )
        if build:
            self.build()

    def build(self) -> None:
        self.warehouse.execute("CALL etl.build()")

    def write(self, query: str) -> None:
        self.warehouse.execute(query)

    def mirror(self) -> list[tuple[Any, ...]]:
        return self.warehouse.rows(
            "SELECT thing::text, value::text FROM stage.things WHERE deleted_at IS NULL ORDER BY 1"
        )

    def source(self) -> list[tuple[Any, ...]]:
        return self.warehouse.rows("SELECT thing::text, value::text FROM lab.things ORDER BY 1")

    def check(self) -> None:
        """The mirror is the source, row by row, also after a full refresh, which finds nothing to do."""
        self.warehouse.run()
        assert self.mirror() == self.source()
        self.warehouse.execute("CALL etl.run(NULL, '{things}')")
        assert self.mirror() == self.source()
        assert (
            self.warehouse.value(
                "SELECT rows_read FROM etl.task_status WHERE task = 'extract:things'"
            )
            == 0
        )


VALUES = [
    ("json", """'{"a": 1}'""", """'{"a":1}'""", ""),
    ("xml", "'<a/>'", "'<a></a>'", ""),
    ("point", "'(1,2)'", "'(1,3)'", ""),
    ("polygon", "'((0,0),(1,1),(1,0))'", "'((0,0),(1,1),(2,0))'", ""),
    ("interval", "'30 days'", "'1 month'", ""),
    ("box", "'(0,0),(1,1)'", "'(1,1),(2,2)'", ""),
    ("numeric", "1.0", "1.00", ""),
    ("money", "1", "2", ""),
    ("uuid", "gen_random_uuid()", "gen_random_uuid()", ""),
    ("int4range", "'[1,5)'", "'[1,6)'", ""),
    ("integer[]", "'{1,2}'", "'[2:3]={1,2}'", ""),
    ("lab.mood", "'sad'", "'happy'", "CREATE TYPE lab.mood AS ENUM ('sad', 'happy')"),
    ("lab.pair", "(1, 'x')", "(1, 'y')", "CREATE TYPE lab.pair AS (number integer, word text)"),
    ("lab.code", "'a'", "'b'", "CREATE DOMAIN lab.code AS varchar(5) NOT NULL CHECK (value <> '')"),
    ("double precision", "'0'", "'-0'", ""),
    ("char(4)", "'a'", "'b'", ""),
    ("timestamptz", "'infinity'", "'2026-01-01'", ""),
    (
        "text COLLATE lab.loose",
        "'Smith'",
        "'smith'",
        "CREATE COLLATION lab.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    ),
]


@pytest.mark.parametrize(("kind", "old", "new", "before"), VALUES, ids=[v[0] for v in VALUES])
def test_a_value_of_any_type_is_mirrored_and_its_change_is_seen(
    database: Database, kind: str, old: str, new: str, before: str
) -> None:
    """By its image: 30 days and 1 month are equal, but not the same."""
    try:
        table = Table(database, value=kind, before=before)
        table.write(f"INSERT INTO lab.things VALUES (1, {old}), (2, {old}), (3, {old})")
    except psycopg.errors.FeatureNotSupported as error:
        pytest.skip(f"the server was built without it: {error}")
    table.check()
    table.write(f"UPDATE lab.things SET value = {new} WHERE thing = 1")
    table.write("DELETE FROM lab.things WHERE thing = 2")
    table.write(f"INSERT INTO lab.things VALUES (4, {new})")
    table.check()


@pytest.mark.server("debian")
@pytest.mark.parametrize(
    ("kind", "old", "new", "before"),
    [value for value in VALUES if value[0] in ("xml", "text COLLATE lab.loose")],
)
def test_types_that_the_embedded_server_lacks(
    database: Database, kind: str, old: str, new: str, before: str
) -> None:
    test_a_value_of_any_type_is_mirrored_and_its_change_is_seen(database, kind, old, new, before)


KEYS = [
    ("text", "'a'", "'b'", "'c'", ""),
    ("uuid", f"'{'1' * 32}'", f"'{'2' * 32}'", f"'{'3' * 32}'", ""),
    ("numeric", "1.10", "1.20", "3", ""),
    ("money", "1", "2", "3", ""),
    ("date", "'2026-01-01'", "'2026-01-02'", "'2026-01-03'", ""),
    ("timestamptz", "'2026-01-01'", "'2026-01-02'", "'2026-01-03'", ""),
    ("integer[]", "'{1}'", "'{1,2}'", "'{}'", ""),
    ("int4range", "'[1,2)'", "'[1,3)'", "'[1,4)'", ""),
    ("lab.mood", "'a'", "'b'", "'c'", "CREATE TYPE lab.mood AS ENUM ('a', 'b', 'c')"),
    ("lab.pair", "(1, 'x')", "(1, 'y')", "(2, 'x')", "CREATE TYPE lab.pair AS (n integer, w text)"),
    ("lab.code", "'a'", "'b'", "'c'", "CREATE DOMAIN lab.code AS varchar(5) NOT NULL"),
    ("bytea", r"'\x01'", r"'\x02'", r"'\x03'", ""),
    ("integer GENERATED ALWAYS AS IDENTITY", "DEFAULT", "DEFAULT", "DEFAULT", ""),
]


@pytest.mark.parametrize("deletes", ["tombstone", "comparison"])
@pytest.mark.parametrize(("kind", "a", "b", "c", "before"), KEYS, ids=[k[0] for k in KEYS])
def test_a_key_of_any_type_that_can_be_compared_identifies_rows(
    database: Database, kind: str, a: str, b: str, c: str, before: str, deletes: str
) -> None:
    table = Table(database, key=kind, deletes=deletes, before=before)
    table.write(f"INSERT INTO lab.things VALUES ({a}, 'one'), ({b}, 'two')")
    table.check()
    table.write("UPDATE lab.things SET value = 'ONE' WHERE value = 'one'")
    table.write("DELETE FROM lab.things WHERE value = 'two'")
    table.write(f"INSERT INTO lab.things VALUES ({c}, 'three')")
    table.check()
    assert len(table.mirror()) == 2
    table.write("DELETE FROM lab.things")
    table.warehouse.run()
    assert table.mirror() == []


def test_a_key_of_citext_is_compared_as_citext(database: Database) -> None:
    table = Table(
        database, key="public.citext", before="CREATE EXTENSION citext WITH SCHEMA public"
    )
    table.write("INSERT INTO lab.things VALUES ('Anna', 'one'), ('Bert', 'two')")
    table.check()
    table.write("UPDATE lab.things SET thing = 'ANNA', value = 'ONE' WHERE thing = 'anna'")
    table.write("DELETE FROM lab.things WHERE thing = 'bert'")
    table.warehouse.run()
    assert table.warehouse.rows(
        "SELECT value, deleted_at IS NULL FROM stage.things ORDER BY 1"
    ) == [
        ("ONE", True),
        ("two", False),
    ]
    table.write("CALL etl.run(NULL, '{things}')")
    assert table.warehouse.value("SELECT count(*) FROM stage.things WHERE deleted_at IS NULL") == 1


def test_a_key_whose_values_cannot_be_compared_is_refused(database: Database) -> None:
    table = Table(database, key="json", build=False)
    with pytest.raises(
        psycopg.Error, match="is of type json, whose values cannot be compared"
    ) as refused:
        table.build()
    assert refused.value.sqlstate == "ET003"
    assert "::text" in (refused.value.diag.message_hint or "")


@pytest.mark.parametrize("name", ["batch_id", "deleted_at", "delta_operation"])
def test_a_column_with_a_name_of_the_mirror_is_refused(database: Database, name: str) -> None:
    table = Table(database, build=False)
    table.write(
        "DROP VIEW source.things;"
        f"CREATE VIEW source.things AS SELECT thing, value AS {name}, row_xid FROM lab.things"
    )
    with pytest.raises(psycopg.Error, match=f'"{name}"') as refused:
        table.build()
    assert refused.value.sqlstate == "ET003"


NAMES = [
    *("at", "operation", "version_key", "is_there", "goes_on", "v", "d", "w", "b", "m", "s", "t", "k"),
    *("this", "p_batch", "p_batch_id", "changes", "since", "until", "row_count", "result", "upserts"),
    *("is_null", "source_table", "row_key", "select", 'odd "name"', "Größe", "100%", "{{x}}"),
]  # fmt: skip


def test_no_other_name_of_a_column_is_taken_for_one_of_the_engine(database: Database) -> None:
    table = Table(database, build=False)
    columns = [psycopg.sql.Identifier(name).as_string(table.warehouse.connection) for name in NAMES]
    declared = ", ".join(f"{column} text" for column in columns)
    table.write(
        "DROP VIEW source.things;"
        + f"ALTER TABLE lab.things {', '.join(f'ADD COLUMN {column} text' for column in columns)};"
        + f"CREATE VIEW source.things AS SELECT thing, value, {', '.join(columns)}, row_xid FROM lab.things"
    )
    assert declared
    table.build()
    table.write("INSERT INTO lab.things (thing, value) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    table.check()
    for name, column in zip(NAMES, columns, strict=True):
        table.write(f"UPDATE lab.things SET {column} = 'changed' WHERE thing = 1")
        table.warehouse.run()
        assert (
            table.warehouse.value(f"SELECT {column} FROM stage.things WHERE thing = 1") == "changed"
        ), name
    table.write("DELETE FROM lab.things WHERE thing = 2")
    table.check()


def test_key_columns_may_have_any_name_too(database: Database) -> None:
    """The rows are also fetched by their keys, as after a repair."""
    table = Table(database, build=False)
    columns = [psycopg.sql.Identifier(name).as_string(table.warehouse.connection) for name in NAMES]
    table.write(
        "DROP VIEW source.things;"
        + f"ALTER TABLE lab.things {', '.join(f'ADD COLUMN {column} integer DEFAULT 1' for column in columns)};"
        + f"CREATE VIEW source.things AS SELECT thing, value, {', '.join(columns)}, row_xid FROM lab.things"
    )
    table.warehouse.execute(
        "UPDATE etl.source_table SET key_columns = %s, delete_detection = 'comparison' WHERE source_table = 'things'",
        ["thing", *NAMES],
    )
    table.build()
    table.write("INSERT INTO lab.things (thing, value) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    table.check()
    table.write("DELETE FROM lab.things WHERE thing = 2")
    table.write("UPDATE lab.things SET value = 'changed' WHERE thing = 1")
    table.check()
    keys = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', 1" for name in NAMES)
    table.write(
        "UPDATE stage.things SET value = 'wrong';"
        f"INSERT INTO etl.reextraction SELECT 'things', jsonb_build_object('thing', n, {keys}) FROM generate_series(1, 3) AS n"
    )
    table.warehouse.run()
    assert table.mirror() == table.source()


def test_a_key_with_empty_fields_is_a_key(database: Database) -> None:
    """A row with a NULL inside IS NOT NULL only when no field is: such keys were left out of repairs and of what a change touches."""
    table = Table(
        database,
        key="lab.pair PRIMARY KEY",
        before="CREATE TYPE lab.pair AS (number integer, word text)",
    )
    table.write("INSERT INTO lab.things VALUES ((1, NULL), 'one'), ((2, 'two'), 'two')")
    table.write(
        "CREATE VIEW work.dim_thing AS SELECT thing, value, deleted_at FROM stage.things;"
        "SELECT etl.define_dimension('dim_thing', '{thing}', p_type_2 => '{value}', p_depends_on => ARRAY[etl.depends_on('things')]);"
        "CALL etl.build()"
    )
    loaded = "SELECT value FROM dwh.dim_thing WHERE thing_key > 0 AND is_current ORDER BY 1"
    table.warehouse.run()
    assert table.warehouse.rows(loaded) == [("one",), ("two",)]
    table.write("UPDATE lab.things SET value = 'uno' WHERE value = 'one'")
    table.warehouse.run()
    assert table.warehouse.rows(loaded) == [("two",), ("uno",)]
    table.write("UPDATE stage.things SET value = 'wrong'")
    table.write("CALL etl.reconcile()")
    table.write("SELECT etl.repair()")
    table.warehouse.run()
    assert table.mirror() == table.source()


def test_tombstones_find_their_rows_whatever_the_session_that_deletes_looks_like(
    database: Database, cli: Callable[..., Finished], tmp_path: Path
) -> None:
    """Ranges, intervals and floating-point numbers are written as the settings of the session say."""
    keys = {
        "spans": ("tstzrange", "'[2026-01-02 03:04+00,2026-02-03 04:05+00)'"),
        "delays": ("interval", "'-1 day -02:00'"),
        "rates": ("double precision", "'1.0000000000000002'"),
        "marks": ("bytea", r"'\x00ff5c'"),
    }
    warehouse = Library(database.connect())
    warehouse.execute("CREATE SCHEMA lab")
    for name, (kind, _) in keys.items():
        warehouse.execute(f"CREATE TABLE lab.{name} (thing {kind} PRIMARY KEY, value text)")
    file = tmp_path / "marks.sql"
    made = cli("source", "marks", "--schema", "lab", "--write", str(file))
    assert made.returncode == 0, made.stderr
    warehouse.execute(file.read_text(encoding="utf-8"))
    warehouse.execute(
        "CREATE VIEW source.tombstones AS SELECT table_name, row_key, deleted_at, row_xid FROM lab.deleted_rows"
    )
    for name, (_, value) in keys.items():
        warehouse.execute(f"INSERT INTO lab.{name} (thing, value) VALUES ({value}, 'x')")
        warehouse.execute(
            f"CREATE VIEW source.{name} AS SELECT thing, value, row_xid FROM lab.{name}"
        )
        warehouse.execute(
            "INSERT INTO etl.source_table (source_table, key_columns, change_detection, change_column, delete_detection)"
            " VALUES (%s, '{thing}', 'snapshot', 'row_xid', 'tombstone')",
            name,
        )
    warehouse.execute("CALL etl.build()")
    warehouse.run()
    settings = "-c TimeZone=Asia/Kathmandu -c DateStyle=SQL,DMY -c IntervalStyle=sql_standard -c extra_float_digits=-15 -c bytea_output=escape"
    with psycopg.connect(database.dsn, autocommit=True, options=settings) as writer:
        for name in keys:
            writer.execute(f"DELETE FROM lab.{name}".encode())
    warehouse.run()
    for name in keys:
        assert warehouse.value(f"SELECT deleted_at IS NOT NULL FROM stage.{name}"), name


def test_generated_columns_are_mirrored_as_values(database: Database) -> None:
    table = Table(database, value="text, twice text GENERATED ALWAYS AS (value || value) STORED")
    table.write(
        "DROP VIEW source.things;"
        "CREATE VIEW source.things AS SELECT thing, twice AS value, row_xid FROM lab.things"
    )
    table.build()
    table.write("INSERT INTO lab.things (thing, value) VALUES (1, 'a')")
    table.warehouse.run()
    table.write("UPDATE lab.things SET value = 'b'")
    table.warehouse.run()
    assert table.mirror() == [("1", "bb")]


# Rows that share a key, rows that do not tell when they changed ----------------------------------------------------------


@pytest.mark.parametrize("deletes", ["tombstone", "comparison"])
def test_of_two_rows_that_share_a_key_the_survivor_is_loaded(
    database: Database, deletes: str
) -> None:
    table = Table(database, deletes=deletes)
    table.write("INSERT INTO lab.things VALUES (1, 'stays'), (2, 'other')")
    table.write("INSERT INTO lab.things VALUES (1, 'goes')")
    table.warehouse.run("partial")
    assert table.mirror() == [("2", "other")]
    table.write("DELETE FROM lab.things WHERE value = 'goes'")
    table.warehouse.run()
    assert table.mirror() == [("1", "stays"), ("2", "other")]
    assert table.warehouse.rows("SELECT * FROM etl.quarantine WHERE object = 'things'") == []


def test_a_row_behind_another_of_its_key_comes_back_when_that_is_deleted(
    database: Database,
) -> None:
    """The mirror held the one that came later; the tombstone does not beat the row that is there."""
    table = Table(database)
    table.write("INSERT INTO lab.things VALUES (1, 'first')")
    table.warehouse.run()
    table.write("INSERT INTO lab.things VALUES (1, 'second')")
    table.warehouse.run()
    table.write("DELETE FROM lab.things WHERE value = 'second'")
    table.warehouse.run()
    assert table.mirror() == [("1", "first")]


def test_rows_without_a_transaction_id_are_read_always(database: Database) -> None:
    table = Table(database)
    table.write("INSERT INTO lab.things VALUES (1, 'one')")
    table.warehouse.run()
    table.write(
        "ALTER TABLE lab.things DISABLE TRIGGER mark;"
        "INSERT INTO lab.things VALUES (2, 'unmarked', NULL)"
    )
    table.warehouse.run()
    assert table.mirror() == [("1", "one"), ("2", "unmarked")]


@pytest.mark.parametrize("moment", ["NULL", "'infinity'", "'-infinity'"])
def test_rows_that_do_not_tell_when_they_changed_are_read_always(
    database: Database, moment: str
) -> None:
    table = Table(database, build=False)
    table.write(
        "ALTER TABLE lab.things ADD COLUMN changed_at timestamptz;"
        "DROP VIEW source.things;"
        "CREATE VIEW source.things AS SELECT thing, value, changed_at FROM lab.things;"
        "UPDATE etl.source_table SET change_detection = 'timestamp', change_column = 'changed_at',"
        " delete_detection = 'comparison' WHERE source_table = 'things'"
    )
    table.build()
    table.write(
        "INSERT INTO lab.things (thing, value, changed_at)"
        f" VALUES (1, 'one', now() - interval '1 day'), (2, 'two', {moment})"
    )
    table.warehouse.run()
    table.write(f"INSERT INTO lab.things (thing, value, changed_at) VALUES (3, 'three', {moment})")
    table.write("UPDATE lab.things SET value = 'TWO' WHERE thing = 2")
    table.warehouse.run()
    assert table.mirror() == [("1", "one"), ("2", "TWO"), ("3", "three")]


def test_a_time_of_change_without_time_zone_is_refused(database: Database) -> None:
    table = Table(database, build=False)
    table.write(
        "ALTER TABLE lab.things ADD COLUMN changed_at timestamp;"
        "DROP VIEW source.things;"
        "CREATE VIEW source.things AS SELECT thing, value, changed_at FROM lab.things;"
        "UPDATE etl.source_table SET change_detection = 'timestamp', change_column = 'changed_at',"
        " delete_detection = 'comparison' WHERE source_table = 'things'"
    )
    with pytest.raises(psycopg.Error, match="timestamp without time zone") as refused:
        table.build()
    assert refused.value.sqlstate == "ET003"
    assert "AT TIME ZONE" in (refused.value.diag.message_hint or "")
    table.write(
        "DROP VIEW source.things; CREATE VIEW source.things AS"
        " SELECT thing, value, (changed_at AT TIME ZONE 'Europe/Berlin')::timestamptz(3) AS changed_at"
        " FROM lab.things"
    )
    table.build()
