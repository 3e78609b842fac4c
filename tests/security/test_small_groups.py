"""Counts of few people are suppressed in what people see who may not see personal data."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.conftest import People

COUNT = "SELECT unique_customers, is_suppressed FROM kpi.customer_count_of({}) WHERE quarter_start = '2025-04-01'"


def sell(people: People, **customers: int) -> None:
    """Let so many customers order to each country in the second quarter of 2025, each of them once."""
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
            SELECT l.customer_id, l.address_id, 1, 1, timestamptz '2025-05-01'
            FROM link AS l
            """,
            country, count, country,
        )  # fmt: skip
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
    """Every pair of choices, one within the other: what is between them is nobody, or many."""
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
