"""The optional migration for Citus, held against stand-ins for the functions that it calls.

That the warehouse runs on Citus is not tested here: the extension is on neither server.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.database import Database

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

STAND_IN = (Path(__file__).parent / "citus_standin.sql").read_text(encoding="utf-8")

FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text AS source, c.confrelid::regclass::text AS target, c.conkey, c.confkey,
    a.attname AS first_column
FROM pg_constraint AS c
JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.convalidated AND c.connamespace IN ('dwh'::regnamespace, 'stage'::regnamespace, 'work'::regnamespace)
ORDER BY c.oid::regclass::text, 1, 2, 5
"""


def _keys(database: Database) -> list[tuple[str, str, str]]:
    return sorted(
        (r["source"], r["target"], r["first_column"]) for r in database.rows(FOREIGN_KEYS)
    )


def _tables(database: Database) -> dict[str, tuple[str, str | None]]:
    return {
        row["name"]: (row["citus_table_type"], row["distribution_column"])
        for row in database.rows("SELECT table_name::text AS name, * FROM citus_tables")
    }


def test_without_citus_it_is_refused_in_a_sentence(cli, database: Database) -> None:
    finished = cli("migrate", "--optional", "citus")
    assert finished.returncode == 1
    assert "the extension citus is not installed" in finished.stderr
    assert "CREATE EXTENSION citus" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_unknown_name_is_refused(cli) -> None:
    finished = cli("migrate", "--optional", "sharding")
    assert finished.returncode == 2
    assert "There is no optional migration 'sharding'." in finished.stderr


def test_it_is_not_applied_by_itself(database: Database) -> None:
    database.execute(STAND_IN)
    database.execute("CALL etl.build()")
    assert _tables(database) == {}


def test_facts_are_distributed_and_dimensions_are_everywhere(cli, database: Database) -> None:
    database.execute(STAND_IN)
    before = _keys(database)
    finished = cli("migrate", "--optional", "citus")
    assert finished.returncode == 0, finished.stderr
    tables = _tables(database)
    by_order = ("distributed", "order_id")
    for name in (
        "dwh.fact_order",
        "dwh.fact_order_line",
        "stage.orders",
        "stage.order_lines",
        "delta.orders",
        "delta.order_lines",
        "work.fact_order_key",
        "work.fact_order_decision",
        "work.fact_order_line_key",
        "work.fact_order_line_decision",
    ):
        assert tables.pop(name) == by_order, name
    everywhere = ("reference", None)
    for name in (
        "dwh.dim_customer",
        "dwh.dim_product",
        "dwh.dim_date",
        "stage.customers",
        "delta.products",
        "work.dim_product_key",
        "work.dim_product_decision",
        "work.country",
    ):
        assert tables[name] == everywhere, name
    assert set(tables.values()) == {everywhere}
    assert not [name for name in tables if name.startswith(("etl.", "dwh.agg_", "oceanrecords."))]
    assert _keys(database) == before


def test_no_foreign_key_crosses_shards(cli, database: Database) -> None:
    """A key between distributed tables leads by their distribution column, any other to a reference table."""
    database.execute(STAND_IN)
    database.execute(
        "ALTER TABLE dwh.fact_order_line ADD FOREIGN KEY (order_id) REFERENCES dwh.fact_order;"
        "ALTER TABLE dwh.fact_order ADD FOREIGN KEY (customer_key) REFERENCES dwh.dim_customer;"
    )
    assert cli("migrate", "--optional", "citus").returncode == 0
    tables = _tables(database)
    seen = 0
    for source, target, first_column in _keys(database):
        if source not in tables:
            assert tables.get(target, ("local",))[0] != "distributed", (source, target)
            continue
        seen += 1
        if tables[target][0] == "distributed":
            assert tables[source] == tables[target]
            assert first_column == tables[source][1]
        else:
            assert tables[target][0] == "reference", (source, target)
    assert seen == 2


def test_applying_it_again_spreads_only_what_is_new(cli, database: Database) -> None:
    database.execute(STAND_IN)
    assert cli("migrate", "--optional", "citus").returncode == 0
    first = _tables(database)
    assert cli("migrate", "--optional", "citus").returncode == 0
    assert _tables(database) == first
    # A table that the engine makes anew is local again until the migration has seen it.
    database.execute(
        "DELETE FROM citus_tables WHERE table_name = 'delta.orders'::regclass; DROP TABLE delta.orders; CALL etl.build();"
    )
    assert "delta.orders" not in _tables(database)
    assert cli("migrate", "--optional", "citus").returncode == 0
    assert _tables(database) == first


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "CREATE UNIQUE INDEX by_moment ON dwh.fact_order (customer_key, ordered_at)",
            'unique index dwh.by_moment of dwh.fact_order does not contain the distribution column "order_id"',
        ),
        (
            "CREATE TRIGGER watch BEFORE INSERT ON dwh.fact_order FOR EACH ROW EXECUTE FUNCTION oceanrecords._own_row_xid()",
            'trigger "watch" of dwh.fact_order would not follow it to other nodes',
        ),
    ],
)
def test_what_cannot_be_spread_is_named_and_nothing_is_done(
    cli, database: Database, fault: str, sentence: str
) -> None:
    database.execute(STAND_IN)
    before = _keys(database)
    database.execute(fault)
    finished = cli("migrate", "--optional", "citus")
    assert finished.returncode == 1
    assert sentence in " ".join(finished.stderr.split())
    assert _tables(database) == {}
    assert _keys(database) == before
