"""What a transformation reads is followed, or refused by etl.build(): it never stays behind while runs succeed."""

from __future__ import annotations

import psycopg
import pytest

from tests.engine.test_define import DIMENSION, FACT, OPERATIONAL, SOURCES, VIEWS, Lab
from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = [pytest.mark.server("embedded"), pytest.mark.installed("engine")]

THINGS = (
    "CREATE VIEW work.dim_thing AS SELECT thing_id, label, colour, deleted_at FROM stage.things;"
)
RATES = """
CREATE TABLE lab.rates (rate numeric);
INSERT INTO lab.rates VALUES (2);
CREATE MATERIALIZED VIEW lab.known_rates AS SELECT * FROM lab.rates;
CREATE FUNCTION lab.rate() RETURNS numeric STABLE LANGUAGE sql AS 'SELECT rate FROM lab.rates';
CREATE FUNCTION lab.hours(p_since timestamptz) RETURNS numeric LANGUAGE sql
    AS 'SELECT extract(epoch FROM now() - p_since)::numeric /* now */';
CREATE FUNCTION lab.quiet(p_text text) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$SELECT p_text || ' random() ' -- now()
    $$;
GRANT USAGE ON SCHEMA lab TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA lab TO PUBLIC;
"""


@pytest.fixture
def lab(database: Database) -> Lab:
    lab = Lab(database.connect())
    lab.execute(OPERATIONAL + RATES)
    return lab


def events(amount: str, source: str = "stage.events AS e") -> str:
    return (
        f"CREATE VIEW work.fact_event AS SELECT e.event_id, e.thing_id, e.happened_at, {amount} AS amount, e.deleted_at"
        f" FROM {source};"
    )


def fill(lab: Lab) -> None:
    lab.execute(
        "INSERT INTO lab.things VALUES (1, 'one', 'red');"
        " INSERT INTO lab.events VALUES (1, 1, now(), 5), (2, 1, now(), 6)"
    )
    assert lab.run() == "succeeded"


def assert_follows(lab: Lab) -> None:
    rows = "SELECT event_id, amount FROM {}.fact_event ORDER BY 1"
    assert lab.rows(rows.format("dwh")) == lab.rows(rows.format("work"))


@pytest.mark.parametrize(
    ("amount", "name"),
    [
        ("e.amount * (SELECT rate FROM lab.rates)", "table lab.rates"),
        ("e.amount * (SELECT rate FROM lab.known_rates)", "table lab.known_rates"),
        ("e.amount * lab.rate()", "table lab.rates"),
        ("e.amount * (SELECT count(*) FROM lab.things)", "table lab.things"),
    ],
)
def test_a_reference_table_that_changes_reloads_what_reads_it(
    lab: Lab, amount: str, name: str
) -> None:
    lab.declare(SOURCES, THINGS, events(amount), DIMENSION, FACT)
    fill(lab)
    assert_follows(lab)
    lab.execute(
        "UPDATE lab.rates SET rate = 3; REFRESH MATERIALIZED VIEW lab.known_rates; INSERT INTO lab.things VALUES (7, 'x', 'y')"
    )
    assert lab.rows("SELECT object, reasons FROM etl.plan()") == [
        ("fact_event", [f"{name} has changed"])
    ]
    assert lab.run() == "succeeded"
    assert_follows(lab)
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT reload_reasons FROM etl.run ORDER BY run_id DESC LIMIT 1") == [(None,)]


@pytest.mark.parametrize(
    ("amount", "name"),
    [
        ("extract(epoch FROM clock_timestamp() - e.happened_at)::numeric", "clock_timestamp"),
        ("(current_date - e.happened_at::date)::numeric", "current_date"),
        ("extract(day FROM age(e.happened_at))::numeric", "age"),
        ("CASE WHEN e.happened_at < LOCALTIMESTAMP THEN e.amount END", "localtimestamp"),
        ("length(current_user)::numeric", "current_user"),
        ("current_setting('max_connections')::numeric", "current_setting"),
        ("random()::numeric", "random"),
        ("lab.hours(e.happened_at)", "now"),
    ],
)
def test_a_value_of_the_moment_is_refused(lab: Lab, amount: str, name: str) -> None:
    with pytest.raises(psycopg.DatabaseError, match=f'reads "{name}"') as error:
        lab.declare(SOURCES, THINGS, events(amount), DIMENSION, FACT)
    assert error.value.sqlstate == "ET003"


def test_what_only_looks_like_a_value_of_the_moment_is_taken(lab: Lab) -> None:
    amount = (
        "CASE WHEN lab.quiet('now()') = 'random()' THEN 0 ELSE e.amount"
        " + extract(day FROM age(e.happened_at, e.happened_at)) END"
    )
    lab.declare(SOURCES, THINGS, events(amount), DIMENSION, FACT)
    fill(lab)
    assert_follows(lab)


@pytest.mark.parametrize(
    ("amount", "source"),
    [
        ("row_number() OVER (PARTITION BY e.thing_id ORDER BY e.event_id DESC)", "stage.events AS e"),
        ("(SELECT sum(o.amount) FROM stage.events AS o WHERE o.thing_id = e.thing_id)", "stage.events AS e"),
        ("e.amount", "(SELECT * FROM stage.events ORDER BY event_id DESC LIMIT 2) AS e"),
        ("e.amount", "(SELECT max(event_id) AS event_id, thing_id, max(happened_at) AS happened_at, sum(amount) AS amount, min(deleted_at) AS deleted_at FROM stage.events GROUP BY thing_id) AS e"),
        ("e.amount", "(SELECT event_id + 1 AS event_id, thing_id, happened_at, amount, deleted_at FROM stage.events) AS e"),
        ("e.amount + o.amount", "stage.events AS e JOIN stage.events AS o ON o.event_id = e.thing_id"),
    ],
)  # fmt: skip
def test_rows_made_of_several_rows_of_a_mirror_want_a_dependency(
    lab: Lab, amount: str, source: str
) -> None:
    with pytest.raises(psycopg.DatabaseError, match=r"reads mirror stage\.events, but no") as error:
        lab.declare(SOURCES, THINGS, events(amount, source), DIMENSION, FACT)
    assert error.value.sqlstate == "ET003"


def test_a_view_that_no_longer_fits_its_derived_dependency_is_refused(lab: Lab) -> None:
    """By the next run: nobody has built since. The view that fitted is taken again."""
    lab.declare(SOURCES, THINGS, events("e.amount"), DIMENSION, FACT)
    fill(lab)
    last = "CREATE OR REPLACE VIEW work.dim_thing AS SELECT thing_id, {} AS label, colour, deleted_at FROM stage.things"
    lab.execute(last.format("lag(label) OVER (ORDER BY thing_id)"))
    with pytest.raises(
        psycopg.Error, match=r"reads mirror stage\.things no longer by its key"
    ) as error:
        lab.run()
    assert error.value.sqlstate == "ET003"
    lab.execute(last.format("upper(label)"))
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT label FROM dwh.dim_thing WHERE is_current AND thing_key > 0") == [
        ("ONE",)
    ]


def test_a_declared_dependency_reaches_the_other_rows(lab: Lab) -> None:
    sequence = "row_number() OVER (PARTITION BY e.thing_id ORDER BY e.event_id DESC)"
    siblings = "SELECT e.event_id FROM changed JOIN stage.events AS e USING (thing_id)"
    fact = FACT.replace(
        "'fact_event', ",
        f"'fact_event', p_depends_on => ARRAY[etl.depends_on('events', '{siblings}')], ",
    )
    lab.declare(SOURCES, THINGS, events(sequence), DIMENSION, fact)
    fill(lab)
    lab.execute("INSERT INTO lab.events VALUES (9, 1, now(), 5)")
    assert lab.run() == "succeeded"
    assert_follows(lab)


@pytest.mark.parametrize(
    "source",
    [
        "(SELECT *, row_number() OVER (PARTITION BY event_id) FROM stage.events) AS e",
        "(SELECT DISTINCT * FROM stage.events) AS e",
        "(SELECT * FROM stage.events WHERE amount > 5 UNION ALL SELECT * FROM stage.events WHERE amount <= 5) AS e",
        "stage.events AS e LEFT JOIN stage.events AS o ON o.event_id = e.event_id",
        '(SELECT * FROM stage.events AS "a b") AS e',
    ],
)
def test_a_dependency_is_derived_where_the_key_decides(lab: Lab, source: str) -> None:
    lab.declare(SOURCES, THINGS, events("e.amount", source), DIMENSION, FACT)
    fill(lab)
    lab.execute(
        "UPDATE lab.events SET amount = 50, updated_at = clock_timestamp() WHERE event_id = 1"
    )
    assert lab.run() == "succeeded"
    assert_follows(lab)


def test_tables_whose_keys_have_one_name_are_told_apart(lab: Lab) -> None:
    """Every table has a column id; only that of the fact's own table is the fact's key."""
    lab.execute(
        "CREATE TABLE lab.parents (id bigint PRIMARY KEY, name text);"
        " CREATE TABLE lab.children (id bigint PRIMARY KEY, parent_id bigint, happened_at timestamptz);"
        " CREATE VIEW source.parents AS SELECT * FROM lab.parents; CREATE VIEW source.children AS SELECT * FROM lab.children;"
        " SELECT etl.define_source('parents'); SELECT etl.define_source('children'); CALL etl.build();"
        " CREATE VIEW work.fact_child AS SELECT c.id, p.name, c.happened_at FROM stage.children AS c"
        " LEFT JOIN stage.parents AS p ON p.id = c.parent_id"
    )
    declare = "SELECT etl.define_fact('fact_child', '{{id}}', '{{}}', '{{}}'{})"
    lab.execute(declare.format(""))
    with pytest.raises(psycopg.DatabaseError, match=r"reads mirror stage\.parents, but no"):
        lab.execute("CALL etl.build()")
    of_parent = "SELECT c.id FROM changed AS p JOIN stage.children AS c ON c.parent_id = p.id"
    lab.execute(declare.format(f", ARRAY[etl.depends_on('parents', '{of_parent}')]"))
    lab.execute("CALL etl.build()")
    lab.execute(
        "INSERT INTO lab.parents VALUES (1, 'a'); INSERT INTO lab.children VALUES (7, 1, now())"
    )
    assert lab.run() == "succeeded"
    lab.execute("UPDATE lab.parents SET name = 'b'")
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT id, name FROM dwh.fact_child") == [(7, "b")]


@pytest.mark.parametrize(
    ("view", "fault"),
    [
        ("SELECT f.event_id, d.colour, f.amount FROM dwh.fact_event AS f JOIN dwh.dim_thing AS d USING (thing_key)", "colour"),
        ("SELECT f.event_id, d.valid_to::text AS colour, f.amount FROM dwh.fact_event AS f JOIN dwh.dim_thing AS d USING (thing_key)", "valid_to"),
        ("SELECT f.event_id, t.label AS colour, f.amount FROM dwh.fact_event AS f JOIN dwh.fact_other AS t USING (event_id)", "fact_other"),
    ],
)  # fmt: skip
def test_an_aggregate_reads_what_its_facts_follow(lab: Lab, view: str, fault: str) -> None:
    other = (
        "CREATE VIEW work.fact_other AS SELECT event_id, 'x'::text AS label, deleted_at FROM stage.events;"
        " SELECT etl.define_fact('fact_other', '{event_id}', '{}', '{}');"
    )
    aggregate = (
        f"CREATE VIEW work.agg_thing AS {view};"
        " SELECT etl.define_aggregate('agg_thing', '{colour}', '{amount}', '{event_id}', ARRAY[etl.fed_by('fact_event')])"
    )
    with pytest.raises(psycopg.DatabaseError, match=fault) as error:
        lab.declare(SOURCES, VIEWS, DIMENSION, FACT, other, aggregate)
    assert error.value.sqlstate == "ET003"


def test_a_fact_does_not_read_a_table_that_the_warehouse_loads(lab: Lab) -> None:
    lab.declare(SOURCES, THINGS, DIMENSION)
    with pytest.raises(psycopg.DatabaseError, match=r"dwh\.dim_thing, which the warehouse loads"):
        lab.declare(SOURCES, DIMENSION, events("(SELECT count(*) FROM dwh.dim_thing)"), FACT)


TYPE_1 = "SELECT etl.define_dimension('dim_thing', '{thing_id}');"
FIRST = "CASE WHEN row_number() OVER (PARTITION BY f.thing_id ORDER BY f.event_id) = 1 THEN f.amount END"
# An event that moves to another thing is another row.
FACT_OF_THINGS = """
CREATE VIEW work.fact_event AS SELECT thing_id, event_id, amount, deleted_at FROM stage.events;
SELECT etl.define_fact(
    'fact_event', '{thing_id,event_id}', '{amount}', ARRAY[etl.fact_key('dim_thing')],
    ARRAY[etl.depends_on('events', 'SELECT thing_id, event_id FROM changed')]
);
"""


def contributions(key: str, amount: str) -> str:
    columns = ", ".join(f"f.{column}" for column in sorted({key, "thing_key"}))
    return (
        f"CREATE VIEW work.agg_thing AS SELECT {columns}, {amount} AS amount FROM dwh.fact_event AS f WHERE NOT f.is_deleted;"
        f" SELECT etl.define_aggregate('agg_thing', '{{thing_key}}', '{{amount}}', '{{{key}}}', ARRAY[etl.fed_by('fact_event')])"
    )


@pytest.mark.parametrize(
    ("key", "amount", "fault"),
    [
        ("event_id", FIRST, r"several rows of dwh\.fact_event"),
        ("event_id", "(SELECT sum(o.amount) FROM dwh.fact_event AS o WHERE o.thing_id = f.thing_id)", r"several rows of dwh\.fact_event"),
        ("thing_key", "f.amount", r"no part of the key \(thing_id, event_id\)"),
    ],
)  # fmt: skip
def test_a_contribution_is_made_of_the_rows_of_its_key(
    lab: Lab, key: str, amount: str, fault: str
) -> None:
    """An earlier event would take the first place of another, whose contribution would stay."""
    lab.execute(SOURCES + THINGS + TYPE_1 + FACT_OF_THINGS + contributions(key, amount))
    with pytest.raises(psycopg.DatabaseError, match=fault) as error:
        lab.execute("CALL etl.build()")
    assert error.value.sqlstate == "ET003"


def test_a_key_that_takes_in_all_rows_of_a_contribution_follows_them(lab: Lab) -> None:
    lab.execute(SOURCES + THINGS + TYPE_1 + FACT_OF_THINGS + contributions("thing_id", FIRST))
    lab.execute("CALL etl.build()")
    fill(lab)
    lab.execute(
        "INSERT INTO lab.events VALUES (0, 1, now(), 4); INSERT INTO lab.things VALUES (2, 'two', 'red')"
    )
    assert lab.run() == "succeeded"
    amounts = "SELECT d.thing_id, a.amount FROM dwh.agg_thing AS a JOIN dwh.dim_thing AS d USING (thing_key) ORDER BY 1"
    assert lab.rows(amounts) == [(1, 4)]
    lab.execute(
        "UPDATE lab.events SET thing_id = 2, updated_at = clock_timestamp() WHERE event_id = 0"
    )
    assert lab.run() == "succeeded"
    assert lab.rows(amounts) == [(1, 5), (2, 4)]


def test_a_column_that_the_view_reads_is_watched(lab: Lab) -> None:
    """A date that only says when a version begins may be left out."""
    declare = (
        "SELECT etl.define_dimension('dim_thing', '{{thing_id}}', '{{label}}',"
        " p_depends_on => ARRAY[etl.depends_on('things', p_watched_columns => '{{{}}}')]);"
    )
    with pytest.raises(psycopg.DatabaseError, match=r'column "colour" of stage\.things') as error:
        lab.declare(SOURCES, VIEWS, declare.format("label"))
    assert error.value.sqlstate == "ET003"
    lab.declare(SOURCES, VIEWS, declare.format("label,colour"))
    lab.execute("INSERT INTO lab.things VALUES (1, 'one', 'red')")
    assert lab.run() == "succeeded"
    lab.execute("UPDATE lab.things SET colour = 'blue', updated_at = clock_timestamp()")
    assert lab.run() == "succeeded"
    assert lab.rows("SELECT colour FROM dwh.dim_thing WHERE is_current AND thing_key > 0") == [
        ("blue",)
    ]
