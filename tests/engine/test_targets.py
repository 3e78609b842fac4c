"""Tables as people make them: loaded in bulk without losing what hangs on them, whatever their indexes are used for."""

from __future__ import annotations

import pytest

from tests.engine.test_define import DIMENSION, FACT, OPERATIONAL, SOURCES, VIEWS, Lab
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

FILL = (
    "INSERT INTO lab.things SELECT i, 'thing ' || i, 'red' FROM generate_series(1, 5) AS i;"
    " INSERT INTO lab.events SELECT i, i % 5 + 1, now() - interval '1 day', i FROM generate_series(1, 20) AS i"
)
INDEXES = (
    "SELECT i.indexrelid::regclass::text, i.indisvalid, i.indisreplident, i.indisclustered, pg_get_indexdef(i.indexrelid)"
    " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_class AS x ON x.oid = i.indexrelid"
    " WHERE c.relname ~ '^(fact_event|dim_thing|things)' AND c.relnamespace::regnamespace::text IN ('dwh', 'stage') ORDER BY 1"
)
AMOUNTS = "SELECT sum(amount) FROM dwh.fact_event"


@pytest.fixture
def lab(database: Database) -> Lab:
    lab = Lab(database.connect())
    lab.execute(OPERATIONAL)
    return lab


def load_and_change(lab: Lab) -> None:
    """Every index is there after the initial load as it was before, and the next change arrives."""
    before = lab.rows(INDEXES)
    lab.execute(FILL)
    assert lab.run() == "succeeded"
    assert lab.rows(INDEXES) == before
    lab.execute(
        "UPDATE lab.events SET amount = 1000, updated_at = clock_timestamp() WHERE event_id IN (1, 15);"
        " UPDATE lab.things SET label = 'changed', updated_at = clock_timestamp() WHERE thing_id = 2"
    )
    assert lab.run() == "succeeded"
    assert lab.value(AMOUNTS) == 2000 + sum(range(1, 21)) - 16
    assert lab.value("SELECT count(*) FROM dwh.dim_thing WHERE thing_id = 2") == 2


def test_a_view_may_group_by_the_key_of_a_table(lab: Lab) -> None:
    """PostgreSQL then keeps the key: the view stands on it."""
    lab.declare(SOURCES)
    lab.execute(
        "CREATE VIEW work.dim_thing AS SELECT t.thing_id, t.label, t.colour, count(e.event_id) AS event_count FROM stage.things AS t"
        " LEFT JOIN stage.events AS e ON e.thing_id = t.thing_id AND e.deleted_at IS NULL WHERE t.deleted_at IS NULL GROUP BY t.thing_id;"
        " CREATE VIEW work.fact_event AS SELECT event_id, thing_id, happened_at, amount, deleted_at FROM stage.events;"
        " SELECT etl.define_dimension('dim_thing', '{thing_id}', '{label}',"
        " p_depends_on => ARRAY[etl.depends_on('events', 'SELECT thing_id FROM changed')])"
    )
    lab.execute(FACT + "CALL etl.build()")
    lab.execute(
        "CREATE VIEW kpi.per_thing AS SELECT d.thing_key, d.label, sum(f.amount) AS amount FROM dwh.dim_thing AS d"
        " JOIN dwh.fact_event AS f USING (thing_key) GROUP BY d.thing_key;"
        " CREATE VIEW kpi.per_event AS SELECT f.event_id, f.amount, count(*) FROM dwh.fact_event AS f"
        " JOIN dwh.dim_thing AS d USING (thing_key) GROUP BY f.event_id"
    )
    load_and_change(lab)


def test_a_fact_may_be_partitioned(lab: Lab) -> None:
    lab.declare(SOURCES, VIEWS, DIMENSION)
    lab.execute(
        "CREATE TABLE dwh.fact_event (event_id bigint PRIMARY KEY, thing_key bigint, thing_id bigint, happened_at timestamptz, amount numeric,"
        " is_deleted boolean NOT NULL, run_id bigint NOT NULL) PARTITION BY RANGE (event_id);"
        " CREATE TABLE dwh.fact_event_1 PARTITION OF dwh.fact_event FOR VALUES FROM (MINVALUE) TO (10);"
        " CREATE TABLE dwh.fact_event_2 PARTITION OF dwh.fact_event FOR VALUES FROM (10) TO (MAXVALUE);"
        " CREATE INDEX by_thing ON dwh.fact_event (thing_key, happened_at); CREATE INDEX fact_event_some ON dwh.fact_event_2 (amount)"
    )
    lab.execute(
        FACT
        + "CREATE VIEW work.agg_thing AS SELECT event_id, thing_key, amount FROM dwh.fact_event;"
        " SELECT etl.define_aggregate('agg_thing', '{thing_key}', '{amount}', '{event_id}', ARRAY[etl.fed_by('fact_event')]); CALL etl.build()"
    )
    load_and_change(lab)
    assert lab.value("SELECT sum(amount) FROM dwh.agg_thing") == lab.value(AMOUNTS)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_row_without_a_key_is_not_left_out_in_silence(lab: Lab, is_loaded: bool) -> None:
    lab.execute(SOURCES)
    lab.execute(
        "CREATE VIEW work.fact_event AS SELECT nullif(event_id, 7) AS event_id, amount, deleted_at FROM stage.events;"
        " SELECT etl.define_fact('fact_event', '{event_id}', '{amount}', p_depends_on => ARRAY[etl.depends_on('events')]); CALL etl.build()"
    )
    if is_loaded:
        assert lab.run() == "succeeded"
    lab.execute(FILL + "; UPDATE etl.quality_check SET run_every = '0'")
    assert lab.run() == "partial"
    assert lab.value("SELECT count(*) FROM dwh.fact_event") == 19
    assert lab.rows("SELECT * FROM etl.keyless_rows()") == [("fact_event", 1)]
    lab.execute("DELETE FROM lab.events WHERE event_id = 7")
    assert lab.run() == "succeeded"


def test_an_index_that_identifies_rows_for_replication_stays(lab: Lab) -> None:
    lab.declare(SOURCES, VIEWS, DIMENSION, FACT)
    lab.execute(
        "CREATE UNIQUE INDEX fact_event_replica ON dwh.fact_event (event_id); CREATE INDEX fact_event_order ON dwh.fact_event (happened_at);"
        " ALTER TABLE dwh.fact_event REPLICA IDENTITY USING INDEX fact_event_replica, CLUSTER ON fact_event_order"
    )
    load_and_change(lab)
