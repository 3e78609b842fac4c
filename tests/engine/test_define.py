"""Declarations: a business of one dimension and one fact, what is derived for it, and what leaves the catalog again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from tests.support.database import Database

pytestmark = pytest.mark.installed("engine")

OPERATIONAL = """
CREATE SCHEMA lab;
CREATE TABLE lab.things (
    thing_id bigint PRIMARY KEY, label text, colour text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE lab.events (
    event_id bigint PRIMARY KEY, thing_id bigint, happened_at timestamptz NOT NULL, amount numeric(10, 2),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE VIEW source.things AS SELECT * FROM lab.things;
CREATE VIEW source.events AS SELECT * FROM lab.events;
"""
SOURCES = """
SELECT etl.define_source('things');
SELECT etl.define_source('events');
CALL etl.build();
"""
VIEWS = """
CREATE VIEW work.dim_thing AS SELECT thing_id, label, colour, updated_at AS effective_at, deleted_at FROM stage.things;
COMMENT ON VIEW work.dim_thing IS 'Things.';
COMMENT ON COLUMN work.dim_thing.label IS 'What the thing is called.';
CREATE VIEW work.fact_event AS SELECT event_id, thing_id, happened_at, amount, deleted_at FROM stage.events;
"""
DIMENSION = (
    "SELECT etl.define_dimension('dim_thing', p_key => '{thing_id}', p_type_2 => '{label}');"
)
FACT = """
SELECT etl.define_fact(
    'fact_event', p_key => '{event_id}', p_measures => '{amount}', p_dimensions => ARRAY[etl.fact_key('dim_thing', p_as_of => 'happened_at')]
);
"""


class Lab:
    """The business beside whatever else the database holds."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def execute(self, query: str) -> None:
        self.connection.execute(query.encode())

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def value(self, query: str, *parameters: object) -> Any:
        return self.rows(query, *parameters)[0][0]

    def declare(self, *statements: str) -> None:
        """Declare the business anew, in one transaction, as an installation does."""
        with self.connection.transaction():
            self.execute("SELECT etl.begin_declarations('lab')")
            for statement in statements:
                self.execute(statement)
            self.execute("SELECT etl.end_declarations()")
            self.execute("CALL etl.build()")

    def run(self) -> str:
        self.execute("CALL etl.run()")
        return str(self.value("SELECT status FROM etl.run ORDER BY run_id DESC LIMIT 1"))


@pytest.fixture
def lab(database: Database) -> Lab:
    """The business, declared, with nothing loaded."""
    lab = Lab(database.connect())
    lab.execute(OPERATIONAL)
    lab.declare(SOURCES, VIEWS, DIMENSION, FACT)
    return lab


def test_tables_are_made_in_the_shape_of_their_views(lab: Lab) -> None:
    columns = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    assert lab.rows(columns, "dwh.dim_thing") == [
        ("thing_key", "bigint"),
        ("thing_id", "bigint"),
        ("label", "text"),
        ("colour", "text"),
        ("valid_from", "timestamp with time zone"),
        ("valid_to", "timestamp with time zone"),
        ("is_current", "boolean"),
        ("run_id", "bigint"),
    ]
    assert lab.rows(columns, "dwh.fact_event") == [
        ("event_id", "bigint"),
        ("thing_key", "bigint"),
        ("happened_at", "timestamp with time zone"),
        ("amount", "numeric(10,2)"),
        ("is_deleted", "boolean"),
        ("run_id", "bigint"),
    ]
    assert (
        lab.value("SELECT col_description('dwh.dim_thing'::regclass, 3)")
        == "What the thing is called."
    )
    assert lab.rows("SELECT thing_key, thing_id FROM dwh.dim_thing") == [(-1, None)]


def test_keys_change_columns_and_attributes_are_derived(lab: Lab) -> None:
    assert lab.rows(
        "SELECT source_table, key_columns, change_detection, change_column, delete_detection FROM etl.source_table"
        " WHERE source_table IN ('things', 'events') ORDER BY 1"
    ) == [
        ("events", ["event_id"], "timestamp", "updated_at", "comparison"),
        ("things", ["thing_id"], "timestamp", "updated_at", "comparison"),
    ]
    assert lab.rows(
        "SELECT attribute, scd_type FROM etl.dimension_attribute WHERE dimension = 'dim_thing' ORDER BY 1"
    ) == [
        ("colour", 1),
        ("label", 2),
    ]
    assert lab.rows(
        "SELECT object, source_table, key_query FROM etl.dependency WHERE source_table IN ('things', 'events') ORDER BY 1"
    ) == [
        ("dim_thing", "things", "SELECT thing_id FROM changed"),
        ("fact_event", "events", "SELECT event_id FROM changed"),
    ]
    assert lab.rows("SELECT kind, business FROM etl.object WHERE object = 'fact_event'") == [
        ("fact", "lab")
    ]


def test_it_loads_insert_update_and_delete(lab: Lab) -> None:
    lab.execute(
        "INSERT INTO lab.things VALUES (1, 'one', 'red'); INSERT INTO lab.events VALUES (1, 1, now(), 5), (2, 1, now(), 6), (3, 9, now(), 7)"
    )
    assert lab.run() == "succeeded"
    lab.execute("UPDATE lab.things SET label = 'uno', updated_at = clock_timestamp()")
    lab.execute("DELETE FROM lab.events WHERE event_id = 2")
    lab.execute("INSERT INTO lab.things VALUES (9, 'late', 'blue')")
    assert lab.run() == "succeeded"
    assert lab.rows(
        "SELECT label, is_current FROM dwh.dim_thing WHERE thing_id = 1 ORDER BY valid_from"
    ) == [("one", False), ("uno", True)]
    assert lab.rows(
        "SELECT f.event_id, d.label, f.amount, f.is_deleted FROM dwh.fact_event AS f JOIN dwh.dim_thing AS d USING (thing_key) ORDER BY 1"
    ) == [(1, "one", 5, False), (2, "one", None, True), (3, "late", 7, False)]


def test_an_attribute_that_is_no_longer_declared_leaves_the_catalog_and_stays_in_the_table(
    lab: Lab,
) -> None:
    lab.execute("INSERT INTO lab.things VALUES (1, 'one', 'red')")
    lab.run()
    lab.declare(
        SOURCES,
        "DROP VIEW work.dim_thing; CREATE VIEW work.dim_thing AS SELECT thing_id, label, updated_at AS effective_at, deleted_at FROM stage.things",
        DIMENSION,
        FACT,
    )
    assert lab.rows(
        "SELECT attribute FROM etl.dimension_attribute WHERE dimension = 'dim_thing'"
    ) == [("label",)]
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT label, colour FROM dwh.dim_thing WHERE thing_id = 1") == [
        ("one", "red")
    ]


def test_an_object_that_is_no_longer_declared_leaves_the_catalog_with_its_routines(
    lab: Lab,
) -> None:
    lab.execute(
        "INSERT INTO lab.things VALUES (1, 'one', 'red'); INSERT INTO lab.events VALUES (1, 1, now(), 5)"
    )
    lab.run()
    lab.declare(SOURCES, DIMENSION)
    assert lab.rows("SELECT object FROM etl.object WHERE business = 'lab' ORDER BY 1") == [
        ("dim_thing",),
        ("events",),
        ("things",),
    ]
    assert (
        lab.rows(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'compiled'::regnamespace AND proname LIKE '%fact_event'"
        )
        == []
    )
    assert lab.rows("SELECT task FROM etl.task WHERE object = 'fact_event'") == []
    assert lab.value("SELECT count(*) FROM dwh.fact_event") == 1
    assert lab.run() == "succeeded"


def test_what_another_business_or_a_hand_declared_stays(lab: Lab) -> None:
    before = lab.rows(
        "SELECT kind, object FROM etl.object WHERE business IS DISTINCT FROM 'lab' ORDER BY 1, 2"
    )
    lab.declare(SOURCES)
    assert (
        lab.rows(
            "SELECT kind, object FROM etl.object WHERE business IS DISTINCT FROM 'lab' ORDER BY 1, 2"
        )
        == before
    )
    assert before


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["SELECT etl.define_source('nothing')"], 'catalog of "nothing": there is no relation source.nothing'),
        (["CREATE VIEW source.keyless AS SELECT 1 AS a", "SELECT etl.define_source('keyless')"], 'catalog of "keyless": no key can be derived'),
        (["SELECT etl.define_dimension('dim_nothing', '{id}')"], 'catalog of "dim_nothing": there is no relation work.dim_nothing'),
        (["SELECT etl.define_dimension('dim_thing', '{thing_id}', p_type_2 => '{lable}')", "CALL etl.build()"], 'work.dim_thing has no column "lable"'),
        (["SELECT etl.define_fact('fact_event', '{event_id}', '{amount}', ARRAY[etl.fact_key('dim_nothing')])"], 'there is no dimension "dim_nothing"'),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_work_is_refused_by_name(
    lab: Lab, statements: Sequence[str], message: str
) -> None:
    for statement in statements[:-1]:
        lab.execute(statement)
    with pytest.raises(psycopg.Error) as refused:
        lab.execute(statements[-1])
    assert refused.value.sqlstate == "ET003"
    assert message in str(refused.value)
    assert refused.value.diag.message_hint


def test_a_source_that_another_object_still_reads_is_not_dropped(lab: Lab) -> None:
    with pytest.raises(psycopg.Error) as refused:
        lab.declare(DIMENSION, FACT)
    assert refused.value.sqlstate == "ET003"
    assert (
        lab.value(
            "SELECT count(*) FROM etl.source_table WHERE source_table IN ('things', 'events')"
        )
        == 2
    )


def test_a_key_may_be_widened_within_a_declaration(database: Database) -> None:
    """Views are created again, mirrors and pending keys follow, and keys beyond the former type are loaded."""
    lab = Lab(database.connect())
    lab.execute(OPERATIONAL.replace("thing_id bigint", "thing_id integer"))
    lab.declare(SOURCES, VIEWS, DIMENSION, FACT)
    lab.execute("INSERT INTO lab.things VALUES (1, 'one')")
    assert lab.run() == "succeeded"
    for table in ("things", "events"):
        lab.execute(
            f"DROP VIEW source.{table}; ALTER TABLE lab.{table} ALTER thing_id TYPE bigint;"
            f" CREATE VIEW source.{table} AS SELECT * FROM lab.{table}"
        )
    lab.execute(
        "DROP VIEW work.dim_thing, work.fact_event; ALTER TABLE dwh.dim_thing ALTER thing_id TYPE bigint"
    )
    lab.declare(SOURCES, VIEWS, DIMENSION, FACT)
    lab.execute(
        "INSERT INTO lab.things VALUES (3000000000, 'many'); INSERT INTO lab.events VALUES (1, 3000000000, now(), 5)"
    )
    assert lab.run() == "succeeded"
    assert lab.rows(
        "SELECT d.label FROM dwh.fact_event JOIN dwh.dim_thing AS d USING (thing_key)"
    ) == [("many",)]
