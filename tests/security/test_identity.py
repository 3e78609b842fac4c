"""What can be learnt of persons and operational numbers from the analysts' views, by trying it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.security.conftest import Connection, People
from tests.support.database import Database

KEYS = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'analysis' AND column_name ~ '_(key|id)$'
        AND column_name NOT IN ('run_id') AND column_name !~ 'date_key$'
"""


def sell(people: People, count: int = 12) -> None:
    """Let many customers order, so that numbers can be told from chance."""
    people.database.execute(
        "INSERT INTO oceanrecords.customers (first_name, last_name, email)"
        " SELECT 'First' || g, 'Last' || g, 'c' || g || '@example.org' FROM generate_series(1, %s) AS g",
        count,
    )
    people.database.execute(
        """
        INSERT INTO oceanrecords.addresses (street, postal_code, city, country_code)
        SELECT 'Weg ' || g, '1' || g, 'Town ' || g, CASE WHEN g %% 2 = 0 THEN 'DE' ELSE 'FR' END FROM generate_series(1, %s) AS g
        """,
        count,
    )
    people.database.execute(
        """
        INSERT INTO oceanrecords.customers_addresses (customer_id, address_id)
        SELECT c.customer_id, a.address_id
        FROM oceanrecords.customers AS c JOIN oceanrecords.addresses AS a ON a.street = 'Weg ' || substr(c.first_name, 6)
        WHERE c.first_name LIKE 'First%'
        """
    )
    people.database.execute(
        """
        INSERT INTO oceanrecords.orders (customer_id, address_id, order_status_id, payment_method_id, ordered_at)
        SELECT l.customer_id, l.address_id, 1, 1, timestamptz '2025-04-01' + l.customer_id * interval '1 hour'
        FROM oceanrecords.customers_addresses AS l
        JOIN oceanrecords.customers AS c USING (customer_id) WHERE c.first_name LIKE 'First%'
        """
    )
    people.database.execute("CALL etl.run()")


def values(connection: Connection, table: str, column: str) -> list[Any]:
    query = f"SELECT {column} FROM analysis.{table} WHERE {column} >= 0"
    return [row[0] for row in connection.execute(query.encode())]


def test_no_key_is_that_of_the_operational_system_or_follows_its_order(people: People) -> None:
    sell(people)
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    keys = connection.execute(KEYS).fetchall()
    assert len(keys) > 20
    for table, column in keys:
        plain = {row[column] for row in people.database.rows(f"SELECT {column} FROM dwh.{table}")}
        seen = values(connection, table, column)
        assert not plain.intersection(seen), (table, column)
    ranked = connection.execute(
        "SELECT corr(customer_key::float8, extract(epoch FROM ordered_at)), corr(order_id::float8, extract(epoch FROM ordered_at))"
        " FROM analysis.fact_order WHERE ordered_at >= '2025-04-01'"
    ).fetchone()
    assert ranked is not None
    assert all(abs(one) < 0.9 for one in ranked)


def test_rows_do_not_come_in_the_order_of_their_keys(people: People) -> None:
    """The n-th row of a table that was loaded at once is the n-th key."""
    sell(people, 40)
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    for table, column in (
        ("dim_customer", "customer_id"),
        ("dim_address", "address_id"),
        ("fact_order", "order_id"),
        ("fact_order_line", "order_id"),
        ("agg_customer_quarterly", "customer_id"),
    ):
        plain = {
            row["pseudonym"]: row["key"]
            for row in people.database.rows(
                f"SELECT DISTINCT etl._pseudonym(s.secret, '{column}', t.{column}::text) AS pseudonym, t.{column} AS key"
                f" FROM dwh.{table} AS t CROSS JOIN etl.pseudonym_secret AS s WHERE t.{column} > 0"
            )
        }
        keys = [plain[one] for one in values(connection, table, column)]
        ascents = sum(one < other for one, other in pairwise(keys))
        # The number of ascents of a shuffled sequence has a variance of a twelfth of its length.
        assert abs(ascents - len(keys) / 2) < 6 * (len(keys) / 12) ** 0.5 + 1, (table, keys)


def test_the_same_key_is_the_same_pseudonym_everywhere(people: People) -> None:
    sell(people)
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    for joined, fact, dimension, key in (
        ("customer_key", "fact_order", "dim_customer", "customer_key"),
        ("address_key", "fact_order", "dim_address", "address_key"),
        ("order_id", "fact_order_line", "fact_order", "order_id"),
        ("product_key", "fact_order_line", "dim_product", "product_key"),
        ("supplier_key", "fact_order_line", "dim_supplier", "supplier_key"),
        ("customer_id", "agg_customer_quarterly", "dim_customer", "customer_id"),
        ("product_id", "agg_product_monthly", "dim_product", "product_id"),
    ):
        for schema in ("dwh", "analysis"):
            query = f"SELECT count(*) FROM {schema}.{fact} AS f JOIN {schema}.{dimension} AS d ON f.{joined} = d.{key}"
            count = (
                (connection if schema == "analysis" else people.database.connect())
                .execute(query.encode())
                .fetchone()
            )
            if schema == "dwh":
                expected = count
            else:
                assert count == expected, query


def test_a_key_in_another_role_joins_with_its_dimension(database: Database) -> None:
    database.execute(
        "UPDATE etl.fact_dimension SET key_column = 'payer_key' WHERE fact = 'fact_order' AND key_column = 'payment_key'"
    )
    column = database.value(
        "SELECT etl._published_column('dwh.fact_order', 'payer_key', 'text'::regtype, 'internal', 'false')"
    )
    assert column == "etl._pseudonym(k.secret, 'payment_key', t.payer_key::text) AS payer_key"


def test_another_secret_makes_other_pseudonyms(people: People) -> None:
    people.add("ana", "analyst", countries=("*",))
    connection = people.connect("ana")
    before = set(values(connection, "dim_customer", "customer_id"))
    people.database.execute("CALL etl.rotate_pseudonyms()")
    after = set(values(connection, "dim_customer", "customer_id"))
    assert len(after) == len(before)
    assert not before & after
    for name in ("ana",):
        for statement in (
            "CALL etl.rotate_pseudonyms()",
            "SELECT * FROM etl.pseudonym_secret",
            "SELECT etl._pseudonym('x', 'customer_id', '1') FROM etl.pseudonym_secret",
        ):
            assert people.try_as(name, statement) == "42501", statement


def test_a_new_column_is_closed_until_somebody_decides(people: People, cli: Any) -> None:
    database = people.database
    people.add("ana", "analyst", countries=("*",))
    for table in ("dim_customer", "dim_product", "agg_order_daily", "dim_date"):
        database.execute(
            f"ALTER TABLE dwh.{table} ADD COLUMN private_note text DEFAULT 'secret of ' || '{table}'"
        )
    assert cli("migrate").returncode == 0
    gaps = database.rows("SELECT object_name FROM etl.permission_gap WHERE object_kind = 'column'")
    assert len(gaps) == 4
    assert "dwh.dim_customer.private_note" in cli("doctor").stdout
    for table in ("dim_customer", "dim_product", "agg_order_daily", "dim_date"):
        assert people.try_as("ana", f"SELECT private_note FROM analysis.{table}") == "42703"
    declare = "INSERT INTO etl.column_sensitivity (schema_name, object_name, column_name, sensitivity) VALUES ('dwh', %s, 'private_note', %s)"
    for table, sensitivity in (
        ("agg_order_daily", "public"),
        ("dim_customer", "personal"),
        ("dim_product", "secret"),
        ("dim_date", "internal"),
    ):
        database.execute(declare, table, sensitivity)
    database.execute("CALL etl.publish()")
    with people.connect("ana") as connection:

        def first(table: str) -> Any:
            row = connection.execute(
                f"SELECT private_note FROM analysis.{table} ORDER BY 1 DESC LIMIT 1".encode()
            ).fetchone()
            assert row is not None
            return row[0]

        assert first("agg_order_daily") == "secret of agg_order_daily"
        assert first("dim_customer") in ("masked", "secret of dim_customer")
        masked = connection.execute(
            "SELECT DISTINCT private_note FROM analysis.dim_customer WHERE customer_key > 0"
        ).fetchall()
        assert masked == [("masked",)]
        assert isinstance(first("dim_date"), int)
    assert people.try_as("ana", "SELECT private_note FROM analysis.dim_product") == "42703"
    # The rows of the installation come back at every migration, what you declared stays.
    assert cli("migrate").returncode == 0
    assert people.try_as("ana", "SELECT private_note FROM analysis.agg_order_daily") is None


def test_what_is_derived_from_personal_data_is_personal(people: People) -> None:
    database = people.database
    database.execute("ALTER TABLE dwh.dim_customer ADD COLUMN initials text")
    database.execute(
        "CREATE OR REPLACE VIEW work.dim_customer AS SELECT q.*, left(s.first_name, 1) || left(s.last_name, 1) AS initials"
        f" FROM ({database.value('SELECT rtrim(pg_get_viewdef(%s::regclass), %s)', 'work.dim_customer', ';')}) AS q"
        " JOIN stage.customers AS s USING (customer_id)"
    )
    database.execute("INSERT INTO etl.dimension_attribute VALUES ('dim_customer', 'initials', 1)")
    status = "SELECT declared, inherited, sensitivity FROM etl.column_status WHERE object_name = 'dim_customer' AND column_name = 'initials'"
    assert database.rows(status) == [
        {"declared": None, "inherited": "personal", "sensitivity": "personal"}
    ]
    database.execute("UPDATE dwh.dim_customer SET initials = 'MC'")
    database.execute("CALL etl.publish()")
    people.add("ana", "analyst", countries=("*",))
    seen = people.connect("ana").execute(
        "SELECT DISTINCT initials FROM analysis.dim_customer WHERE customer_key > 0"
    )
    assert seen.fetchall() == [("masked",)]


# -- the filter of the countries ------------------------------------------------------------------


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan] + [inner for one in plan.get("Plans", []) for inner in nodes(one)]


def counts(connection: Connection, condition: str, *options: str) -> list[Any]:
    """All numbers of rows that EXPLAIN tells of a query with a condition."""
    query = f"EXPLAIN ({', '.join((*options, 'FORMAT json', 'COSTS on'))}) SELECT 1 FROM analysis.fact_order WHERE {condition}"
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    kept = (
        "Actual Rows",
        "Rows Removed by Filter",
        "Rows Removed by Join Filter",
        "Rows Removed by Index Recheck",
        "Plan Rows",
        "Actual Loops",
    )
    below = [one for one in nodes(row[0][0]["Plan"]) if one["Node Type"] != "Subquery Scan"]
    return [(one["Node Type"], [one.get(name) for name in kept]) for one in below]


def test_explain_tells_nothing_of_hidden_orders(people: People) -> None:
    """Conditions with leakproof operators were counted below the filter: hidden rows came out bit by bit."""
    sell(people)
    database = people.database
    people.add("ana", "analyst", countries=("FR",))
    connection = people.connect("ana")
    hidden = database.rows(
        "SELECT f.* FROM dwh.fact_order AS f JOIN dwh.dim_address AS a USING (address_key) WHERE a.country_code = 'DE'"
    )
    assert len(hidden) > 3
    for order in hidden:
        for column, unlikely in (
            ("ordered_at", "'1999-01-01'"),
            ("customer_key", "-77"),
            ("order_id", "-77"),
            ("gross_amount", "-77"),
            ("quantity", "-77"),
            ("ordered_date_key", "-77"),
            ("is_lost", "NOT false"),
        ):
            value = f"'{order[column]}'"
            for options in ((), ("ANALYZE", "TIMING off", "SUMMARY off")):
                right = counts(connection, f"{column} = {value}", *options)
                wrong = counts(connection, f"{column} = {unlikely}", *options)
                if column != "is_lost":
                    assert right == wrong, (column, options)


def test_no_view_of_analysts_lets_a_condition_below_its_filter(people: People) -> None:
    people.add("ana", "analyst", countries=("FR",))
    connection = people.connect("ana")
    tables = connection.execute(
        "SELECT table_name, min(column_name) FROM information_schema.columns WHERE table_schema = 'analysis' AND table_name <> 'lost_order_limit' GROUP BY 1"
    ).fetchall()
    assert len(tables) > 15
    for table, column in tables:
        row = connection.execute(
            f"EXPLAIN (FORMAT json) SELECT 1 FROM analysis.{table} WHERE {column}::text = 'needle'".encode()
        ).fetchone()
        assert row is not None
        for one in nodes(row[0][0]["Plan"]):
            below = str({key: value for key, value in one.items() if key != "Plans"})
            assert "needle" not in below or one["Node Type"] == "Subquery Scan", (table, one)


@pytest.mark.parametrize("level", ["analyst", "business", "auditor", "etl"])
def test_statistics_show_no_values(people: People, level: str) -> None:
    people.database.execute("ANALYZE")
    people.add(level, level, countries=("FR",) if level == "analyst" else ())
    seen = people.connect(level).execute(
        "SELECT count(*) FROM pg_stats WHERE schemaname IN ('dwh', 'stage', 'delta', 'work', 'oceanrecords', 'source')"
    )
    assert seen.fetchone() == (0,)
    assert people.try_as(level, "SELECT * FROM pg_statistic") == "42501"
    assert people.try_as(level, "SELECT * FROM pg_statistic_ext_data") == "42501"


def test_business_users_see_no_person(people: People) -> None:
    people.add("bob", "business")
    connection = people.connect("bob")
    columns = connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'kpi' AND column_name ~ '(customer|address|order)_(id|key)'"
    ).fetchall()
    assert columns == []
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT * FROM kpi.customer_quarterly")


@pytest.mark.parametrize(
    "broken",
    [
        "INSERT INTO etl.published_view VALUES ('nowhere', 'SELECT 1 AS one')",
        "CREATE TABLE dwh.closed (note text);"
        " INSERT INTO etl.published_view VALUES ('closed', 'SELECT c.* FROM dwh.closed AS c')",
        "CREATE VIEW public.mine AS SELECT postal_code FROM analysis.dim_address;"
        " UPDATE etl.column_sensitivity SET sensitivity = 'secret' WHERE object_name = 'dim_address' AND column_name = 'city'",
    ],
)
def test_what_cannot_be_published_is_named(database: Database, broken: str) -> None:
    database.execute(broken)
    with pytest.raises(psycopg.Error) as caught:
        database.execute("CALL etl.publish()")
    assert caught.value.sqlstate == "ET044"


def test_the_documentation_shows_how_sensitive_a_column_is(
    people: People, cli: Any, tmp_path: Path
) -> None:
    people.database.execute("ALTER TABLE dwh.fact_order ADD COLUMN private_note text")
    written = cli("docs", "--out", str(tmp_path / "docs"))
    assert written.returncode == 0, written.stderr
    told = "\n".join(
        one.read_text() for one in (tmp_path / "docs").rglob("*") if one.suffix in (".md", ".html")
    )
    for column, sensitivity in (("email", "personal"), ("customer_key", "internal")):
        assert re.search(rf"{column}.*{sensitivity}", told), column
    assert re.search(r"private_note.*not decided", told)
