"""The contract: what a business may consist of loads rightly from the first change on; what cannot work is refused by etl.build()."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.engine.test_define import Lab
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

# A type of attribute, a first value, another one, and one that is equal to the first but not identical with it (where there is such a value).
TYPES = {
    "json": ("""'{"a": 1}'::json""", """'{"a": 2}'::json""", """'{"a":  1}'::json"""),
    "jsonb": ("""'{"a": 1}'::jsonb""", """'{"a": 2}'::jsonb""", None),
    "point": ("'(1,2)'::point", "'(1,3)'::point", None),
    "polygon": ("'((0,0),(1,1),(1,0))'::polygon", "'((0,0),(2,2),(1,0))'::polygon", None),
    "box": ("'(1,1),(0,0)'::box", "'(3,1),(0,0)'::box", "'(3,3),(2,2)'::box"),
    "circle": ("'<(0,0),1>'::circle", "'<(0,0),2>'::circle", "'<(5,5),1>'::circle"),
    "path": ("'[(0,0),(1,1)]'::path", "'[(0,0),(1,1),(2,2)]'::path", "'[(0,0),(5,5)]'::path"),
    "interval": ("'30 days'::interval", "'31 days'::interval", "'1 month'::interval"),
    "numeric": ("1.0::numeric", "2.0::numeric", "1.00::numeric"),
    "citext": ("'Smith'::public.citext", "'Jones'::public.citext", "'smith'::public.citext"),
    "money": ("'1.50'::money", "'2.50'::money", None),
    "uuid": ("'00000000-0000-0000-0000-000000000001'::uuid", "'00000000-0000-0000-0000-000000000002'::uuid", None),
    "int4range": ("'[1,5)'::int4range", "'[1,6)'::int4range", None),
    "text[]": ("'{a,b}'::text[]", "'{a,c}'::text[]", None),
    "bytea": (r"'\x00ff'::bytea", r"'\x00fe'::bytea", None),
    "bit(3)": ("B'101'", "B'111'", None),
    "char(5)": ("'ab'::char(5)", "'abc'::char(5)", None),
    "varchar(5)": ("'ab'::varchar(5)", "'abc'::varchar(5)", None),
    "tsvector": ("'a b'::tsvector", "'a c'::tsvector", None),
    "inet": ("'10.0.0.1'::inet", "'10.0.0.2'::inet", None),
    "lab.mood": ("'glad'::lab.mood", "'sad'::lab.mood", None),
    "lab.pair": ("ROW(1, 'x')::lab.pair", "ROW(2, 'x')::lab.pair", None),
    "lab.short": ("'ab'::lab.short", "'abc'::lab.short", None),
    "lab.needed": ("'ab'::lab.needed", "'abc'::lab.needed", None),
}  # fmt: skip


@pytest.fixture
def lab(database: Database) -> Lab:
    """A schema of types, without any object."""
    lab = Lab(database.connect())
    lab.execute(
        "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE SCHEMA lab;"
        " CREATE TYPE lab.mood AS ENUM ('glad', 'sad'); CREATE TYPE lab.pair AS (number integer, letter text);"
        " CREATE DOMAIN lab.short AS text CHECK (length(VALUE) < 9); CREATE DOMAIN lab.needed AS text NOT NULL"
    )
    return lab


def things(
    lab: Lab, columns: str, *, key: str = "thing_id", view: str = "*", seen: str = "*"
) -> None:
    """Make a source table of the columns, compared each time, and its dimension of type 2 attributes."""
    lab.execute(f"CREATE TABLE lab.things ({columns})")
    lab.execute(f"CREATE VIEW source.things AS SELECT {view} FROM lab.things")
    lab.execute(f"SELECT etl.define_source('things', '{{{key}}}')")
    lab.execute("CALL etl.build()")
    lab.execute(
        f"CREATE VIEW work.dim_thing AS SELECT {seen} FROM (SELECT t.* FROM stage.things AS t WHERE t.deleted_at IS NULL) AS t"
    )


def declare(lab: Lab, key: str, *tracked: str) -> None:
    lab.execute(
        f"SELECT etl.define_dimension('dim_thing', '{{{key}}}', p_type_2 => '{{{','.join(tracked)}}}')"
    )
    lab.execute("CALL etl.build()")


def assert_agrees(lab: Lab) -> None:
    lab.execute("CALL etl.reconcile()")
    disagreeing = (
        "SELECT object, status, message FROM etl.reconciliation_status WHERE status <> 'equal'"
    )
    assert lab.rows(disagreeing) == []


@pytest.mark.parametrize("name", TYPES)
def test_an_attribute_of_any_type_is_loaded_changed_and_deleted(lab: Lab, name: str) -> None:
    """Equal values that are not identical differ; one that is deleted closes its member; a full refresh and reconciliation agree."""
    first, second, equal = TYPES[name]
    things(lab, f"thing_id bigint PRIMARY KEY, odd {name}", seen="thing_id, odd")
    declare(lab, "thing_id", "odd")
    lab.execute(f"INSERT INTO lab.things VALUES (1, {first}), (2, {first}), (3, {first})")
    assert lab.run() == "succeeded"
    lab.execute(f"UPDATE lab.things SET odd = {second} WHERE thing_id = 1")
    if equal:
        lab.execute(f"UPDATE lab.things SET odd = {equal} WHERE thing_id = 2")
    lab.execute("DELETE FROM lab.things WHERE thing_id = 3")
    assert lab.run() == "succeeded"
    for _ in range(2):
        assert lab.rows(
            "SELECT d.thing_id, d.odd::text = t.odd::text FROM dwh.dim_thing AS d JOIN lab.things AS t USING (thing_id) WHERE d.is_current ORDER BY 1"
        ) == [(1, True), (2, True)]
        versions = lab.rows(
            "SELECT thing_id, count(*), bool_or(is_current) FROM dwh.dim_thing WHERE thing_key > 0 GROUP BY 1 ORDER BY 1"
        )
        assert versions == [(1, 2, True), (2, 2 if equal else 1, True), (3, 1, False)]
        lab.execute("CALL etl.run(NULL, '{things,dim_thing}')")
    assert_agrees(lab)


@pytest.mark.parametrize(
    ("type_name", "one", "other"),
    [
        ("text", "'a'", "'b'"),
        ("public.citext", "'Ada'", "'Bea'"),
        (
            "uuid",
            "'00000000-0000-0000-0000-000000000001'",
            "'00000000-0000-0000-0000-000000000002'",
        ),
        ("timestamptz", "'2025-01-01 10:00+02'", "'2025-01-02 00:00+00'"),
        ("date", "'2025-01-01'", "'2025-01-02'"),
        ("numeric", "1.0", "2"),
        ("bytea", r"'\x00ff'", r"'\x01'"),
        ("lab.mood", "'glad'", "'sad'"),
        ("lab.short", "'a'", "'b'"),
        ("char(3)", "'a'", "'b'"),
        ("text[]", "'{a,b}'", "'{c}'"),
        ("int4range", "'[1,5)'", "'[6,9)'"),
        # A part of the key is NULL, the key is not.
        ("lab.pair", "ROW(1, 'x')::lab.pair", "ROW(1, NULL)::lab.pair"),
        ("jsonb", "'[1]'", "'{\"a\": null}'"),
    ],
)
def test_a_key_of_any_type_leads_facts_to_their_members(
    lab: Lab, type_name: str, one: str, other: str
) -> None:
    """Also the ones that wait: a late member resolves its facts, whatever session loads it."""
    things(lab, f"thing_id {type_name} PRIMARY KEY, label text", seen="thing_id, label")
    declare(lab, "thing_id", "label")
    lab.execute(
        f"CREATE TABLE lab.events (event_id {type_name} PRIMARY KEY, thing_id {type_name}, happened_at timestamptz, amount integer);"
        " CREATE VIEW source.events AS SELECT * FROM lab.events; SELECT etl.define_source('events'); CALL etl.build();"
        " CREATE VIEW work.fact_event AS SELECT event_id, thing_id, happened_at, amount, deleted_at FROM stage.events;"
        " SELECT etl.define_fact('fact_event', '{event_id}', '{amount}', ARRAY[etl.fact_key('dim_thing', p_as_of => 'happened_at')]); CALL etl.build()"
    )
    lab.execute(f"INSERT INTO lab.things VALUES ({one}, 'one')")
    lab.execute(
        f"INSERT INTO lab.events VALUES ({one}, {one}, now(), 1), ({other}, {other}, now(), 2)"
    )
    assert lab.run() == "succeeded"
    labels = "SELECT f.amount, d.label FROM dwh.fact_event AS f JOIN dwh.dim_thing AS d USING (thing_key) ORDER BY 1"
    assert lab.rows(labels) == [(1, "one"), (2, None)]
    assert lab.value("SELECT count(*) FROM etl.reprocessing_queue WHERE fact = 'fact_event'") == 1
    assert_agrees(lab)
    lab.execute(
        "SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET intervalstyle = iso_8601; SET bytea_output = 'escape'"
    )
    lab.execute(f"INSERT INTO lab.things VALUES ({other}, 'other')")
    assert lab.run() == "succeeded"
    assert lab.rows(labels) == [(1, "one"), (2, "other")]
    assert lab.value("SELECT count(*) FROM etl.reprocessing_queue WHERE fact = 'fact_event'") == 0
    lab.execute(
        f"DELETE FROM lab.events WHERE amount = 2; UPDATE lab.things SET label = 'new' WHERE thing_id = {one}"
    )
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT amount, is_deleted FROM dwh.fact_event ORDER BY is_deleted") == [
        (1, False),
        (None, True),
    ]
    assert_agrees(lab)


def test_a_citext_key_in_another_spelling_is_the_same_member(lab: Lab) -> None:
    things(lab, "thing_id public.citext PRIMARY KEY, label text", seen="thing_id, label")
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.things VALUES ('Ada', 'one')")
    lab.run()
    lab.execute("UPDATE lab.things SET thing_id = 'ADA', label = 'two'")
    assert lab.run() == "succeeded"
    assert lab.rows(
        "SELECT label, is_current FROM dwh.dim_thing WHERE thing_key > 0 ORDER BY valid_from"
    ) == [("one", False), ("two", True)]


@pytest.mark.parametrize(
    "name", ["at", "_deleted", "version_key", "is_there", "goes_on", "k", "v", "d", "w", "l", "n", "e", "f", "q", "key", "valid", "row", "position", "select", "operation_", "now", "p_now", "r"]
)  # fmt: skip
def test_a_column_may_bear_the_name_of_an_alias_or_a_variable(lab: Lab, name: str) -> None:
    things(lab, f'thing_id bigint PRIMARY KEY, "{name}" text', seen=f'thing_id, "{name}"')
    declare(lab, "thing_id", name)
    lab.execute("INSERT INTO lab.things VALUES (1, 'a'), (2, 'a')")
    assert lab.run() == "succeeded"
    lab.execute(
        f"UPDATE lab.things SET \"{name}\" = 'b' WHERE thing_id = 1; DELETE FROM lab.things WHERE thing_id = 2"
    )
    assert lab.run() == "succeeded"
    assert lab.rows(
        f'SELECT "{name}", is_current FROM dwh.dim_thing WHERE thing_key > 0 ORDER BY thing_id, valid_from'
    ) == [("a", False), ("b", True), ("a", False)]


def test_generated_and_identity_columns_of_source_and_target_are_left_to_postgresql(
    lab: Lab,
) -> None:
    things(
        lab,
        "thing_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text, big text GENERATED ALWAYS AS (upper(label)) STORED",
        seen="thing_id, label, big",
    )
    lab.execute(
        "CREATE TABLE dwh.dim_thing (thing_key bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, thing_id bigint, label text, big text,"
        " shout text GENERATED ALWAYS AS (label || '!') STORED, valid_from timestamptz, valid_to timestamptz, is_current boolean, run_id bigint)"
    )
    lab.execute(
        "INSERT INTO dwh.dim_thing (thing_key, valid_from, valid_to, is_current, run_id) VALUES (-1, '-infinity', 'infinity', true, 0)"
    )
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.things (label) VALUES ('a')")
    assert lab.run() == "succeeded"
    lab.execute("UPDATE lab.things SET label = 'b'")
    assert lab.run() == "succeeded"
    assert lab.rows(
        "SELECT label, big, shout FROM dwh.dim_thing WHERE thing_key > 0 ORDER BY valid_from"
    ) == [("a", "B", "a!"), ("b", "B", "b!")]


def test_a_member_without_a_time_of_change_is_dated_by_the_batch(lab: Lab) -> None:
    things(
        lab,
        "thing_id bigint PRIMARY KEY, label text",
        seen="thing_id, label, NULL::timestamptz AS effective_at, NULL::timestamptz AS deleted_at",
    )
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.things VALUES (1, 'a')")
    lab.run()
    lab.execute("UPDATE lab.things SET label = 'b'")
    lab.run()
    assert lab.rows(
        "SELECT d.label, d.valid_from = b.read_at FROM dwh.dim_thing AS d CROSS JOIN (SELECT max(read_at) AS read_at FROM etl.batch) AS b"
        " WHERE d.thing_key > 0 ORDER BY d.valid_from"
    ) == [("a", False), ("b", True)]


def test_a_change_dated_in_the_future_counts_from_the_load_on(lab: Lab) -> None:
    """It would hold before its time otherwise, and every later change would lie behind it."""
    things(
        lab,
        "thing_id bigint PRIMARY KEY, label text, at timestamptz",
        seen="thing_id, label, at AS effective_at",
    )
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.things VALUES (1, 'a', now())")
    lab.run()
    lab.execute("UPDATE lab.things SET label = 'b', at = now() + interval '50 years'")
    lab.run()
    lab.execute("UPDATE lab.things SET label = 'c', at = clock_timestamp()")
    lab.run()
    assert lab.rows(
        "SELECT label, is_current FROM dwh.dim_thing WHERE thing_key > 0 ORDER BY valid_from"
    ) == [("a", False), ("b", False), ("c", True)]
    assert lab.value("SELECT max(valid_from) < clock_timestamp() FROM dwh.dim_thing")


def test_a_log_entry_dated_in_the_future_is_quarantined_with_its_member(lab: Lab) -> None:
    things(
        lab,
        "thing_id bigint PRIMARY KEY, label text, at timestamptz",
        seen="thing_id, label, at AS effective_at",
    )
    lab.execute(
        "CREATE VIEW work.dim_thing_history AS SELECT thing_id, at AS valid_from, label FROM stage.things WHERE deleted_at IS NULL"
    )
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.things VALUES (1, 'a', now()), (2, 'b', now() + interval '1 day')")
    lab.run()
    assert lab.rows("SELECT label FROM dwh.dim_thing WHERE thing_key > 0") == [("a",)]
    assert lab.rows("SELECT row_key, sqlstate FROM etl.quarantine WHERE object = 'dim_thing'") == [
        ({"thing_id": 2}, "22008")
    ]


@pytest.mark.parametrize(
    ("name", "effective_at", "join"),
    [
        ("u.name", "t.at", "u.u_id = t.u_id AND u.deleted_at IS NULL"),
        (
            "CASE WHEN u.deleted_at IS NULL THEN u.name END AS name",
            "greatest(t.at, u.deleted_at)",
            "u.u_id = t.u_id",
        ),
    ],
)
def test_a_deleted_row_of_a_joined_table_is_joined_no_more(
    lab: Lab, name: str, effective_at: str, join: str
) -> None:
    """Its change can be dated by the deletion, too."""
    lab.execute(
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, u_id bigint, at timestamptz NOT NULL DEFAULT clock_timestamp());"
        " CREATE TABLE lab.u (u_id bigint PRIMARY KEY, name text);"
        " CREATE VIEW source.t AS SELECT * FROM lab.t; CREATE VIEW source.u AS SELECT * FROM lab.u;"
        " SELECT etl.define_source('t'), etl.define_source('u'); CALL etl.build()"
    )
    lab.execute(
        f"CREATE VIEW work.dim_t AS SELECT t.id, {name}, {effective_at} AS effective_at, t.deleted_at"
        f" FROM stage.t AS t LEFT JOIN stage.u AS u ON {join};"
        " SELECT etl.define_dimension('dim_t', '{id}', p_type_2 => '{name}', p_depends_on => ARRAY["
        "etl.depends_on('t'), etl.depends_on('u', 'SELECT t.id FROM changed JOIN stage.t AS t USING (u_id)')])"
    )
    lab.execute("CALL etl.build()")
    lab.execute("INSERT INTO lab.u VALUES (1, 'one'); INSERT INTO lab.t VALUES (7, 1)")
    lab.run()
    before = lab.value("SELECT clock_timestamp()")
    lab.execute("DELETE FROM lab.u")
    assert lab.run() == "succeeded"
    versions = lab.rows(
        "SELECT name, is_current, valid_from > %s FROM dwh.dim_t WHERE id = 7 ORDER BY valid_from",
        before,
    )
    assert versions == [("one", False, False), (None, True, "deleted_at)" in effective_at)]
    lab.execute("INSERT INTO lab.u VALUES (1, 'uno')")
    assert lab.run() == "succeeded"
    assert lab.value("SELECT name FROM dwh.dim_t WHERE id = 7 AND is_current") == "uno"


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_key_that_the_view_gives_twice_is_quarantined_alone(lab: Lab, is_loaded: bool) -> None:
    things(
        lab,
        "row_id bigint PRIMARY KEY, thing_id bigint, label text",
        key="row_id",
        seen="thing_id, label",
    )
    lab.execute(
        "SELECT etl.define_dimension('dim_thing', '{thing_id}', p_type_2 => '{label}', p_depends_on => ARRAY[etl.depends_on('things')])"
    )
    lab.execute("CALL etl.build()")
    if is_loaded:
        lab.execute("INSERT INTO lab.things VALUES (9, 9, 'nine')")
        lab.run()
    lab.execute(
        "INSERT INTO lab.things SELECT g, g, 'thing ' || g FROM generate_series(1, 8) AS g; INSERT INTO lab.things VALUES (100, 3, 'twin')"
    )
    lab.run()
    assert lab.rows("SELECT row_key, sqlstate FROM etl.quarantine WHERE object = 'dim_thing'") == [
        ({"thing_id": 3}, "23505")
    ]
    assert lab.value("SELECT count(*) FROM dwh.dim_thing WHERE thing_key > 0") == 7 + is_loaded
    lab.execute("DELETE FROM lab.things WHERE row_id = 100")
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT label FROM dwh.dim_thing WHERE thing_id = 3") == [("thing 3",)]
    assert lab.value("SELECT count(*) FROM etl.quarantine WHERE object = 'dim_thing'") == 0


def test_a_member_that_moves_to_another_mirror_of_its_view_goes_on(lab: Lab) -> None:
    """The view also returns the deleted row that it left behind. Two live rows are still refused."""
    for place in ("here", "there"):
        lab.execute(
            f"CREATE TABLE lab.{place} (thing_id integer PRIMARY KEY, label text);"
            f" CREATE VIEW source.{place} AS SELECT * FROM lab.{place};"
            f" SELECT etl.define_source('{place}')"
        )
    lab.execute("CALL etl.build()")
    lab.execute(
        "CREATE VIEW work.dim_thing AS SELECT thing_id, label, deleted_at FROM stage.here"
        " UNION ALL SELECT thing_id, label, deleted_at FROM stage.there"
    )
    declare(lab, "thing_id", "label")
    lab.execute("INSERT INTO lab.here VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    assert lab.run() == "succeeded"
    lab.execute("DELETE FROM lab.here WHERE thing_id < 3")
    lab.execute("INSERT INTO lab.there VALUES (1, 'one'), (2, 'second')")
    assert lab.run() == "succeeded"
    versions = "SELECT label, is_current FROM dwh.dim_thing WHERE thing_id = %s ORDER BY valid_from"
    assert lab.rows(versions % 1) == [("one", True)]
    assert lab.rows(versions % 2) == [("two", False), ("second", True)]
    lab.execute("DELETE FROM lab.there WHERE thing_id = 1")
    assert lab.run() == "succeeded"
    assert lab.rows(versions % 1) == [("one", False)]
    lab.execute("INSERT INTO lab.there VALUES (3, 'third')")
    assert lab.run() == "partial"
    assert lab.rows("SELECT row_key FROM etl.quarantine WHERE object = 'dim_thing'") == [
        ({"thing_id": 3},)
    ]


def test_a_fact_without_a_moment_keeps_its_member_through_several_lives(lab: Lab) -> None:
    """A member that was deleted and came back has two versions. The fact refers to one of them, always the same."""
    things(lab, "thing_id integer PRIMARY KEY, label text", seen="thing_id, label")
    declare(lab, "thing_id")
    lab.execute(
        "CREATE TABLE lab.events (event_id integer PRIMARY KEY, thing_id integer, amount integer); CREATE VIEW source.events AS SELECT * FROM lab.events;"
        " SELECT etl.define_source('events'); CALL etl.build();"
        " CREATE VIEW work.fact_event AS SELECT event_id, thing_id, amount, deleted_at FROM stage.events;"
        " SELECT etl.define_fact('fact_event', '{event_id}', '{amount}', ARRAY[etl.fact_key('dim_thing')]); CALL etl.build();"
        " INSERT INTO lab.things VALUES (1, 'one'); INSERT INTO lab.events VALUES (1, 1, 5)"
    )
    assert lab.run() == "succeeded"
    lab.execute("DELETE FROM lab.things")
    assert lab.run() == "succeeded"
    lab.execute(
        "INSERT INTO lab.things VALUES (1, 'again'); INSERT INTO lab.events VALUES (2, 1, 6)"
    )
    assert lab.run() == "succeeded"
    labels = "SELECT f.event_id, d.label FROM dwh.fact_event AS f JOIN dwh.dim_thing AS d USING (thing_key) ORDER BY 1"
    assert lab.value("SELECT count(*) FROM dwh.dim_thing WHERE thing_id = 1") == 2
    assert lab.rows(labels) == [(1, "again"), (2, "again")]
    lab.execute("CALL etl.run(NULL, '{fact_event}')")
    assert lab.rows(labels) == [(1, "again"), (2, "again")]
    lab.execute("CALL etl.reconcile()")
    assert lab.value("SELECT DISTINCT overall_status FROM etl.reconciliation_status") == "equal"


@pytest.mark.parametrize(
    "expression",
    [
        "100 / amount",
        "(SELECT n FROM generate_series(1, CASE amount WHEN 0 THEN 2 ELSE 1 END) AS n)",
    ],
    ids=["an error of data", "a subquery of two rows"],
)
def test_a_row_on_which_the_view_fails_keeps_no_other_from_being_compared(
    lab: Lab, expression: str
) -> None:
    lab.execute(
        "CREATE TABLE lab.events (event_id integer PRIMARY KEY, amount integer); CREATE VIEW source.events AS SELECT * FROM lab.events;"
        " SELECT etl.define_source('events'); CALL etl.build();"
        f" CREATE VIEW work.fact_event AS SELECT event_id, {expression} AS amount, deleted_at FROM stage.events;"
        " SELECT etl.define_fact('fact_event', '{event_id}', '{amount}', '{}'); CALL etl.build();"
        " INSERT INTO lab.events VALUES (1, 5), (2, 0), (3, 4)"
    )
    assert lab.run() == "partial"
    verdict = (
        "SELECT status, differences, left_out FROM etl.reconciliation_status WHERE object = %s"
    )
    lab.execute("CALL etl.reconcile()")
    assert lab.rows(verdict, "fact_event") == [("equal", 0, {"quarantined": 1})]
    assert lab.rows(verdict, "quarantine") == [("equal", 0, {})]
    lab.execute("UPDATE dwh.fact_event SET amount = 77 WHERE event_id = 3")
    lab.execute("CALL etl.reconcile()")
    assert lab.rows(verdict, "fact_event") == [("different", 1, {"quarantined": 1})]
    lab.execute("SELECT etl.repair()")
    lab.run()
    assert lab.value("SELECT count(*) FROM dwh.fact_event WHERE amount = 77") == 0


def test_a_sequence_at_its_end_is_no_fault_of_a_row(lab: Lab) -> None:
    """The dimension fails, with the way out, and catches up by itself. Nothing is left in quarantine."""
    things(lab, "thing_id integer PRIMARY KEY, label text", seen="thing_id, label")
    declare(lab, "thing_id")
    lab.execute("ALTER TABLE dwh.dim_thing ALTER thing_key SET MAXVALUE 2")
    lab.execute("INSERT INTO lab.things VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    assert lab.run() == "partial"
    failed = "SELECT message, hint LIKE 'Raise the limit of the sequence%' FROM etl.task_status WHERE status = 'failed' AND sqlstate = 'ET008'"
    assert lab.rows(failed) == [
        ("no row can be added to dim_thing: a sequence of its table has reached its limit", True)
    ]
    lab.execute("ALTER TABLE dwh.dim_thing ALTER thing_key SET MAXVALUE 9")
    assert lab.run() == "succeeded"
    assert lab.value("SELECT count(*) FROM dwh.dim_thing WHERE thing_key > 0") == 3


# Refused ---------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, str]] = {
    "change column without a time zone": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, changed_at timestamp); CREATE VIEW source.t AS SELECT * FROM lab.t;"
        " SELECT etl.define_source('t', p_change_column => 'changed_at')",
        'column "changed_at" of source.t is timestamp without time zone, not timestamp with time zone',
    ),
    "date of a version without a time zone": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text, at timestamp); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t');"
        " CALL etl.build(); CREATE VIEW work.dim_t AS SELECT id, label, at AS effective_at FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}')",
        'column "effective_at" of work.dim_t is timestamp without time zone, not timestamp with time zone',
    ),
    "reserved name in a source": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, batch_id text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t')",
        'column "batch_id" of source.t has a name that the engine uses itself',
    ),
    "own deleted_at": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, deleted_at timestamptz); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t')",
        'column "deleted_at" of source.t has a name that the engine uses itself',
    ),
    "wrong type": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE TABLE dwh.dim_t (t_key bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, id bigint, label integer, valid_from timestamptz, valid_to timestamptz,"
        " is_current boolean, run_id bigint); CREATE VIEW work.dim_t AS SELECT id, label FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}')",
        'column "label" of work.dim_t is text, and cannot be assigned to integer of dwh.dim_t',
    ),
    "missing dependency": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, u_id bigint); CREATE TABLE lab.u (u_id bigint PRIMARY KEY, name text);"
        " CREATE VIEW source.t AS SELECT * FROM lab.t; CREATE VIEW source.u AS SELECT * FROM lab.u; SELECT etl.define_source('t'), etl.define_source('u'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT t.id, u.name FROM stage.t AS t LEFT JOIN stage.u AS u USING (u_id); SELECT etl.define_dimension('dim_t', '{id}')",
        "work.dim_t reads mirror stage.u, but no dependency says which keys a change there affects",
    ),
    "deleted rows that one view sees and another does not": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, u_id bigint); CREATE TABLE lab.u (u_id bigint PRIMARY KEY, name text);"
        " CREATE VIEW source.t AS SELECT * FROM lab.t; CREATE VIEW source.u AS SELECT * FROM lab.u; SELECT etl.define_source('t'), etl.define_source('u'); CALL etl.build();"
        " CREATE VIEW work.all_u AS SELECT u_id, name FROM stage.u; CREATE VIEW work.dim_u AS SELECT u_id, name, deleted_at FROM stage.u;"
        " CREATE VIEW work.dim_t AS SELECT t.id, u.name, t.deleted_at FROM stage.t AS t LEFT JOIN work.all_u AS u USING (u_id);"
        " SELECT etl.define_dimension('dim_u', '{u_id}'), etl.define_dimension('dim_t', '{id}', p_depends_on => ARRAY["
        "etl.depends_on('t'), etl.depends_on('u', 'SELECT t.id FROM changed JOIN stage.t AS t USING (u_id)')])",
        "work.dim_t reads mirror stage.u without its column deleted_at",
    ),
    "key query of the wrong shape": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT id, label, deleted_at FROM stage.t;"
        " SELECT etl.define_dimension('dim_t', '{id}', p_depends_on => ARRAY[etl.depends_on('t', 'SELECT id, label FROM changed')])",
        'its key query for "t" does not return its business key (id)',
    ),
    "key query of nothing": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT id, label, deleted_at FROM stage.t;"
        " SELECT etl.define_dimension('dim_t', '{id}', p_depends_on => ARRAY[etl.depends_on('t', 'SELECT nothing FROM changed')])",
        'its key query for "t" does not return its business key (id)',
    ),
    "NOT NULL column that nothing fills": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE TABLE dwh.dim_t (t_key bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, id bigint, label text, other text NOT NULL, valid_from timestamptz,"
        " valid_to timestamptz, is_current boolean, run_id bigint); CREATE VIEW work.dim_t AS SELECT id, label FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}')",
        'nothing fills column "other" of dwh.dim_t, which is NOT NULL',
    ),
    "key of a fact to one of several versions": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text, amount integer); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT id, label, deleted_at FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}', '{label}');"
        " CREATE VIEW work.fact_t AS SELECT id, amount, deleted_at FROM stage.t; SELECT etl.define_fact('fact_t', '{id}', '{amount}', ARRAY[etl.fact_key('dim_t')])",
        'key "t_key" looks up dim_t without a point in time',
    ),
    "fact without a key": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, amount integer); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE TABLE dwh.fact_t (id bigint, amount integer, is_deleted boolean, run_id bigint); CREATE VIEW work.fact_t AS SELECT id, amount FROM stage.t;"
        " SELECT etl.define_fact('fact_t', '{id}', '{amount}', '{}')",
        "dwh.fact_t has no primary key or unique constraint on (id)",
    ),
    "column of the fact that the view lacks": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, amount integer); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE TABLE dwh.fact_t (id bigint PRIMARY KEY, amount integer, remark text, is_deleted boolean, run_id bigint);"
        " CREATE VIEW work.fact_t AS SELECT id, amount FROM stage.t; SELECT etl.define_fact('fact_t', '{id}', '{amount}', '{}')",
        'work.fact_t has no column "remark"',
    ),
    "column of a view that no target has": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT id, label, deleted_at FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}'); CALL etl.build();"
        " CREATE OR REPLACE VIEW work.dim_t AS SELECT id, label, deleted_at, upper(label) AS loud FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}')",
        'column "loud" of work.dim_t leads nowhere',
    ),
    "column of a fact's view that is neither stored nor looked up": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, amount integer); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE TABLE dwh.fact_t (id bigint PRIMARY KEY, date_key integer, amount integer, is_deleted boolean, run_id bigint);"
        " CREATE VIEW work.fact_t AS SELECT id, amount, date '2025-01-01' AS day, 'x' AS remark FROM stage.t;"
        " SELECT etl.define_fact('fact_t', '{id}', p_dimensions => ARRAY[etl.fact_key('dim_date', p_lookup => '{day}')])",
        'column "remark" of work.fact_t leads nowhere',
    ),
    "attribute with a name of the versions": (
        "CREATE TABLE lab.t (id bigint PRIMARY KEY, label text); CREATE VIEW source.t AS SELECT * FROM lab.t; SELECT etl.define_source('t'); CALL etl.build();"
        " CREATE VIEW work.dim_t AS SELECT id, label AS is_current FROM stage.t; SELECT etl.define_dimension('dim_t', '{id}')",
        'column "is_current" of work.dim_t has a name that the engine uses itself',
    ),
    "name that is too long": (
        f"CREATE TABLE lab.t (id bigint PRIMARY KEY); CREATE VIEW source.{'t' * 60} AS SELECT * FROM lab.t; SELECT etl.define_source('{'t' * 60}')",
        "its name is longer than 48 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_by_name_before_anything_runs(lab: Lab, what: str) -> None:
    declaration, message = REFUSED[what]
    lab.execute(declaration)
    with pytest.raises(psycopg.Error) as refused:
        lab.execute("CALL etl.build()")
    assert refused.value.sqlstate == "ET003"
    assert message in str(refused.value.diag.message_primary)
    assert refused.value.diag.message_hint


@pytest.mark.installed("oceanrecords")
def test_compiled_routines_are_the_same_each_time(database: Database) -> None:
    def routines() -> list[dict[str, Any]]:
        return database.rows(
            "SELECT oid::regprocedure::text AS name, prosrc FROM pg_proc WHERE pronamespace = 'compiled'::regnamespace ORDER BY 1"
        )

    before = routines()
    assert len(before) > 30
    database.execute("CALL etl.build()")
    assert routines() == before


@pytest.mark.parametrize("is_declared_first", [True, False])
def test_deleted_rows_of_a_joined_table_leave_what_was_built_from_them(
    lab: Lab, is_declared_first: bool
) -> None:
    """No view mentions deleted_at: the mirrors keep live rows only, also if a row was deleted before the view was declared."""
    lab.execute(
        "CREATE TABLE lab.shops (shop_id bigint PRIMARY KEY, town_id bigint); CREATE TABLE lab.towns (town_id bigint PRIMARY KEY, town text);"
        " CREATE VIEW source.shops AS SELECT * FROM lab.shops; CREATE VIEW source.towns AS SELECT * FROM lab.towns;"
        " INSERT INTO lab.shops VALUES (1, 1), (2, 2), (3, 1); INSERT INTO lab.towns VALUES (1, 'Oslo'), (2, 'Bergen')"
    )
    lab.execute("SELECT etl.define_source('shops'), etl.define_source('towns')")
    lab.execute("CALL etl.build()")
    declaration = (
        "CREATE VIEW work.dim_shop AS SELECT s.shop_id, t.town FROM stage.shops AS s LEFT JOIN stage.towns AS t USING (town_id);"
        " SELECT etl.define_dimension('dim_shop', '{shop_id}', '{town}', p_depends_on => ARRAY["
        "etl.depends_on('shops', 'SELECT shop_id FROM changed'), etl.depends_on('towns', 'SELECT s.shop_id FROM changed JOIN stage.shops AS s USING (town_id)')]);"
        " CALL etl.build()"
    )
    current = "SELECT shop_id, town FROM dwh.dim_shop WHERE is_current AND shop_key > 0 ORDER BY 1"
    if is_declared_first:
        for statement in declaration.split("; "):
            lab.execute(statement)
    assert lab.run() == "succeeded"
    lab.execute("DELETE FROM lab.towns WHERE town_id = 1")
    lab.execute("DELETE FROM lab.shops WHERE shop_id = 3")
    assert lab.run() == "succeeded"
    if not is_declared_first:
        for statement in declaration.split("; "):
            lab.execute(statement)
        assert lab.run() == "succeeded"
    assert lab.rows(current) == [(1, None), (2, "Bergen")]
    lab.execute("INSERT INTO lab.towns VALUES (1, 'Moss')")
    assert lab.run() == "succeeded"
    assert lab.rows(current) == [(1, "Moss"), (2, "Bergen")]
    lab.execute("CALL etl.reconcile()")
    assert (
        lab.rows("SELECT object, message FROM etl.reconciliation_status WHERE status <> 'equal'")
        == []
    )
