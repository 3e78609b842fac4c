"""Counts of few people are suppressed in what people see who may not see personal data."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.conftest import DENIED, People

COUNT = "SELECT unique_customers, is_suppressed FROM kpi.customer_count_of({}) WHERE quarter_start = '2025-04-01'"


def sell(people: People, day: str = "2025-05-01", **customers: int) -> None:
    """Let so many customers order one piece for 10 to each country, by default in the second quarter of 2025."""
    for country, count in customers.items():
        people.database.execute(
            """
            WITH customer AS (
                INSERT INTO oceanrecords.customers (first_name, last_name, email)
                SELECT 'First', 'Last', %s || g || '@example.org' FROM generate_series(1, %s) AS g
                RETURNING customer_id
            ),
            address AS (
                INSERT INTO oceanrecords.addresses (street, postal_code, city, country_code)
                VALUES ('Weg 1', '1', 'Town', %s)
                RETURNING address_id
            ),
            link AS (
                INSERT INTO oceanrecords.customers_addresses (customer_id, address_id)
                SELECT c.customer_id, a.address_id
                FROM customer AS c
                CROSS JOIN address AS a
                RETURNING customer_id, address_id
            )
            INSERT INTO oceanrecords.orders (customer_id, address_id, order_status_id, payment_method_id, ordered_at)
            SELECT l.customer_id, l.address_id, 1, 1, %s::timestamptz
            FROM link AS l
            """,
            f"{country}{day}", count, country, day,
        )  # fmt: skip
    people.database.execute(
        "INSERT INTO oceanrecords.order_lines (order_id, line_number, product_id, quantity, unit_price)"
        " SELECT o.order_id, 1, (SELECT min(p.product_id) FROM oceanrecords.products AS p), 1, 10"
        " FROM oceanrecords.orders AS o"
        " WHERE NOT EXISTS (SELECT FROM oceanrecords.order_lines AS l WHERE l.order_id = o.order_id)"
    )
    people.database.execute("CALL etl.run()")


@pytest.fixture
def shown(people: People) -> Any:
    """What a business user sees: the count, and whether something was suppressed."""
    people.add("bob", "business")
    connection = people.connect("bob")

    def read(*countries: str) -> tuple[int | None, bool]:
        row = connection.execute(
            COUNT.format(", ".join(["%s"] * len(countries))).encode(), countries or None
        ).fetchone()
        assert row is not None
        return row

    return read


def test_a_small_group_is_suppressed_and_the_total_does_not_reveal_it(
    people: People, shown: Any
) -> None:
    sell(people, DE=7, FR=9, IT=3)
    assert shown() == (19, False)
    assert shown("Italy") == (None, True)
    # 19 without Germany and France would be Italy.
    assert shown("Germany", "France") == (None, True)
    # Italy is left out; so that 19 - 7 = 12 are France and Italy together.
    assert shown("Germany", "Italy") == (7, True)
    assert shown("Germany") == (7, False)
    assert shown("Austria") == (0, False)
    assert shown("Italy", "Austria") == (None, True)


def test_a_total_of_few_is_suppressed_as_well(people: People, shown: Any) -> None:
    sell(people, IT=4)
    assert shown() == (None, True)
    people.database.execute("UPDATE etl.setting SET value = '4' WHERE name = 'small_group'")
    assert shown() == (4, False)
    assert shown("Italy") == (4, False)
    view = people.connect("bob").execute("SELECT max(unique_customers) FROM kpi.customer_count")
    assert view.fetchone() == (4,)


def test_no_choice_of_countries_isolates_a_small_group(people: People, shown: Any) -> None:
    """Every pair of choices, one within the other: what is between them is no one, or many."""
    sell(people, DE=7, FR=9, IT=3, AT=5, PL=1)
    names = ("Germany", "France", "Italy", "Austria", "Poland")
    choices = [
        frozenset(name for bit, name in enumerate(names) if number >> bit & 1)
        for number in range(1, 2 ** len(names))
    ]
    counts = {choice: shown(*sorted(choice))[0] for choice in choices}
    counts[frozenset((*names, "the others"))] = shown()[0]
    for large, more in counts.items():
        for small, fewer in counts.items():
            if small < large and more is not None and fewer is not None:
                assert more == fewer or more - fewer >= 5, (sorted(large), sorted(small))


# Figures of sales. Each customer buys one piece for 10, so orders, pieces and sales are numbers of people.
MONTH = "SELECT orders, sales / 10, is_suppressed FROM kpi.month_of(VARIADIC %s) WHERE month_start = '2025-05-01'"
FIGURES = {
    "month": "SELECT orders FROM kpi.month_of(VARIADIC %s) WHERE month_start = '2025-05-01'",
    "quarter": "SELECT orders FROM kpi.quarter_of(VARIADIC %s) WHERE quarter_start = '2025-04-01'",
    "months": "SELECT sum(quantity) FROM kpi.ranking_of('country', '2025-05-01', '2025-06-30', %s)",
    "days": "SELECT sum(quantity) FROM kpi.ranking_of('product', '2025-05-10', '2025-05-20', %s)",
    "across months": "SELECT sum(quantity) FROM kpi.ranking_of('country', '2025-05-12', '2025-06-12', %s)",
}


def test_sales_to_few_customers_count_under_other_countries(people: People) -> None:
    sell(people, DE=7, FR=9, IT=3)
    people.add("bob", "business")
    bob = people.connect("bob")

    def month(*countries: str) -> Any:
        return bob.execute(MONTH.encode(), [list(countries)]).fetchone()

    # Germany is the next smallest: Italy alone would be all countries less the others.
    assert month() == (19, 19, False)
    assert month("Italy") == (None, None, True)
    assert month("Germany") == (None, None, True)
    assert month("Other countries") == (10, 10, False)
    assert month("France") == (9, 9, False)
    assert month("France", "Italy") == (9, 9, True)
    assert month("Austria") == (0, 0, False)
    assert month("France", "Other countries", "Germany", "Italy") == (19, 19, True)
    ranking = "SELECT member, quantity::integer FROM kpi.ranking_of('country', %s, %s)"
    both = [("Other countries", 10), ("France", 9)]
    assert bob.execute(ranking, ["2025-05-01", "2025-05-31"]).fetchall() == both
    # Of days within a month, all are others if those with few customers are few together.
    assert bob.execute(ranking, ["2025-04-20", "2025-05-10"]).fetchall() == [
        ("Other countries", 19)
    ]
    for view in ("kpi.product_monthly", "kpi.subtype_monthly"):
        query = f"SELECT country, sum(quantity)::integer FROM {view} WHERE month_start = '2025-05-01' GROUP BY 1 ORDER BY 2 DESC"
        assert bob.execute(query.encode()).fetchall() == both
    assert people.try_as("bob", "SELECT FROM kpi.order_daily") == DENIED
    countries = {name for (name,) in bob.execute("SELECT country FROM kpi.country")}
    assert countries == {"Germany", "France", "Italy", "Other countries"}

    people.database.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")
    assert month("Italy") == (3, 3, False)
    assert bob.execute(ranking, ["2025-05-01", "2025-05-31"]).fetchall() == [
        ("France", 9), ("Germany", 7), ("Italy", 3),
    ]  # fmt: skip


def test_a_headline_of_few_customers_is_not_shown(people: People) -> None:
    sell(people, DE=7, FR=9, IT=3)
    people.database.execute(
        "UPDATE etl.setting SET value = '2025-05-02' WHERE name = 'business_date'"
    )
    people.add("bob", "business")
    bob = people.connect("bob")

    def headline(*countries: str) -> list[tuple[Any, ...]]:
        query = "SELECT sales::integer, note FROM kpi.headline_of(VARIADIC %s) WHERE position < 3"
        return bob.execute(query.encode(), [list(countries)]).fetchall()

    few = "Too few customers to show"
    assert [sales for sales, _ in headline()] == [190, 190]
    assert [sales for sales, _ in headline("France")] == [90, 90]
    assert [sales for sales, _ in headline("Other countries")] == [100, 100]
    assert headline("Italy") == [(None, few), (None, few)]
    assert headline("Germany") == [(None, few), (None, few)]
    assert [sales for sales, _ in headline("Austria")] == [0, 0]


def test_no_choice_isolates_sales_to_few_customers(people: People) -> None:
    """Every pair of choices, one within the other: what is between them is no one, or many."""
    sell(people, DE=7, FR=9, IT=3, AT=5)
    sell(people, day="2025-05-15", DE=4, FR=6, IT=8, AT=1)
    sell(people, day="2025-06-10", DE=6, FR=1, IT=1)
    people.add("bob", "business")
    bob = people.connect("bob")
    names = ("Germany", "France", "Italy", "Austria", "Other countries")
    choices = [
        frozenset(name for bit, name in enumerate(names) if number >> bit & 1)
        for number in range(1, 2 ** len(names))
    ]
    for figure, query in FIGURES.items():
        counts = {}
        for choice in [*choices, frozenset()]:
            (count,) = bob.execute(query.encode(), [sorted(choice)]).fetchone() or (None,)
            # Without a choice it is all countries.
            counts[choice or frozenset((*names, "all"))] = count
        assert any(counts.values()), figure
        for large, more in counts.items():
            for small, fewer in counts.items():
                if small < large and more is not None and fewer is not None:
                    gap = more - fewer
                    assert gap == 0 or gap >= 5, (figure, sorted(large), sorted(small))


def test_a_figure_that_counts_people_without_the_rule_is_reported(people: People, cli: Any) -> None:
    database = people.database
    assert database.rows("SELECT object_name, is_protected FROM etl.people_reader") == [
        {"object_name": "customer_count_of", "is_protected": True}
    ]
    database.execute(
        "CREATE VIEW kpi.buyers AS SELECT country, count(*) AS buyers FROM dwh.agg_customer_quarterly GROUP BY country;"
        "CREATE FUNCTION kpi.buyers_of(text) RETURNS bigint LANGUAGE sql AS"
        " $$ SELECT count(*) FROM dwh.agg_customer_quarterly AS a WHERE a.country = $1 $$;"
        "INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges) VALUES"
        " ('business', 'relation', 'kpi', 'buyers', '{SELECT}'), ('business', 'routine', 'kpi', 'buyers_of', '{EXECUTE}');"
        "CALL etl.apply_permissions()"
    )
    gaps = database.rows("SELECT object_kind, object_name FROM etl.permission_gap ORDER BY 2")
    assert gaps == [
        {"object_kind": "small group", "object_name": "buyers"},
        {"object_kind": "small group", "object_name": "buyers_of"},
    ]
    told = cli("doctor").stdout
    assert "do not suppress small groups" in told
    database.execute(
        "CREATE OR REPLACE VIEW kpi.buyers AS"
        " SELECT country, etl.suppress_small(count(*)) AS buyers FROM dwh.agg_customer_quarterly GROUP BY country;"
        "DROP FUNCTION kpi.buyers_of; CALL etl.apply_permissions()"
    )
    assert database.rows("SELECT * FROM etl.permission_gap") == []
    people.add("bob", "business")
    seen = people.connect("bob").execute("SELECT country, buyers FROM kpi.buyers ORDER BY 1")
    assert seen.fetchall() == [("France", None), ("Germany", None)]


def test_a_readable_view_of_personal_data_is_reported(people: People, cli: Any) -> None:
    """The sensitivity of columns governs schema analysis; other schemas are watched."""
    database = people.database
    database.execute(
        "CREATE VIEW kpi.mailing AS SELECT customer_id, email FROM dwh.dim_customer;"
        "CREATE VIEW analysis.raw AS SELECT street FROM stage.addresses;"
        "CREATE VIEW kpi.segments AS SELECT segment, is_current FROM dwh.dim_customer;"
        "INSERT INTO etl.permission (level, object_kind, schema_name, object_name, privileges) VALUES"
        " ('business', 'relation', 'kpi', 'mailing', '{SELECT}'), ('business', 'relation', 'kpi', 'segments', '{SELECT}'),"
        " ('analyst', 'relation', 'analysis', 'raw', '{SELECT}');"
        "CALL etl.apply_permissions()"
    )
    gaps = database.rows("SELECT object_kind, object_name FROM etl.permission_gap ORDER BY 2")
    assert gaps == [
        {"object_kind": "personal data", "object_name": "mailing"},
        {"object_kind": "personal data", "object_name": "raw"},
    ]
    assert "show personal data to people who may not see them" in cli("doctor").stdout
