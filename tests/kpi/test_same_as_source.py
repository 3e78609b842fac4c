"""The key figures equal those computed from the operational system, whatever happened in between."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql

from simulator.actions import TickPlan, tick
from simulator.seed import seed
from tests.kpi import expected
from tests.support.database import Database

HISTORY_ENDS = date(2025, 8, 11)
LIMITS = [(date.min, Decimal("0.08")), (date(2025, 6, 10), Decimal("0.05"))]


def assert_same(connection: psycopg.Connection[Any], today: date) -> None:
    """Hold every figure against the operational system."""
    orders = expected.orders(connection)
    wanted = expected.months(orders, today, LIMITS)
    columns = sql.SQL(", ").join(map(sql.Identifier, wanted[0]))
    found = connection.execute(
        sql.SQL("SELECT {} FROM kpi.month ORDER BY month_start").format(columns)
    ).fetchall()
    assert [dict(zip(wanted[0], row, strict=True)) for row in found] == wanted

    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")
        counted = connection.execute(
            "SELECT quarter_name, unique_customers FROM kpi.customer_count WHERE unique_customers > 0"
        ).fetchall()
        assert dict(counted) == expected.customers_by_quarter(orders)
        for countries in (["Germany"], ["Germany", "France", "Atlantis"]):
            narrowed = connection.execute(
                "SELECT q.unique_customers - count(DISTINCT c.customer_id)"
                " FROM kpi.customer_count_of(VARIADIC %s) AS q"
                " LEFT JOIN dwh.agg_customer_quarterly AS c USING (quarter_start)"
                " WHERE c.country = ANY (%s) OR c.country IS NULL GROUP BY q.quarter_start, q.unique_customers",
                [countries, countries],
            ).fetchall()
            assert {row[0] for row in narrowed} == {0}

    products = connection.execute(
        "SELECT month_start, product_id, sum(quantity), sum(sales) FROM kpi.product_monthly GROUP BY 1, 2"
    ).fetchall()
    assert {row[:2]: row[2:] for row in products} == expected.products_by_month(connection)

    quarters = connection.execute("SELECT quarter_start, sales, orders FROM kpi.quarter").fetchall()
    sums: dict[date, list[Any]] = {}
    for month in wanted:
        start = month["month_start"]
        total = sums.setdefault(
            start.replace(month=(start.month - 1) // 3 * 3 + 1), [Decimal(0), 0]
        )
        total[0] += month["sales"]
        total[1] += month["orders"]
    assert {start: [sales, number] for start, sales, number in quarters} == sums


def assert_aggregates_add_up(connection: psycopg.Connection[Any]) -> None:
    """Hold each aggregate against the sum of all that its facts contribute."""
    aggregates = connection.execute(
        "SELECT aggregate_table::text, contribution_view::text, group_key::text[], measures::text[]"
        " FROM etl.aggregate"
    ).fetchall()
    assert len(aggregates) == 10
    for table, view, group_key, measures in aggregates:
        groups = sql.SQL(", ").join(map(sql.Identifier, group_key))
        sums = sql.SQL(", ").join(
            sql.SQL("sum({})").format(sql.Identifier(one)) for one in measures
        )
        kept = connection.execute(
            sql.SQL("SELECT {}, {} FROM {}").format(
                groups,
                sql.SQL(", ").join(map(sql.Identifier, measures)),
                sql.SQL(table),
            )
        ).fetchall()
        anew = connection.execute(
            sql.SQL("SELECT {}, {} FROM {} GROUP BY {}").format(groups, sums, sql.SQL(view), groups)
        ).fetchall()
        assert sorted(kept) == sorted(anew), table


@pytest.fixture
def played(database: Database) -> psycopg.Connection[Any]:
    """A shop with nine months of history that is played on in the year 2025."""
    connection = database.connect()
    seed(connection, orders=400, months=9, seed=11, until=HISTORY_ENDS)
    connection.execute("INSERT INTO kpi.lost_order_limit VALUES ('2025-06-10', 0.05)")
    return connection


def test_after_random_days_of_business(played: psycopg.Connection[Any]) -> None:
    chance = random.Random(5)
    play_day(played, HISTORY_ENDS)
    played.execute("CALL etl.run()")
    assert_same(played, HISTORY_ENDS)
    assert_aggregates_add_up(played)

    today = HISTORY_ENDS
    for days in (1, 5, 16):
        today += timedelta(days=days)
        moment = datetime(today.year, today.month, today.day, 9, tzinfo=UTC)
        tick(played, TickPlan(), chance, moment)
        delete_some(played, chance)
        play_day(played, today)
        played.execute("CALL etl.run()")
        assert_same(played, today)
        assert_aggregates_add_up(played)
    assert played.execute("SELECT count(*) FROM dwh.fact_order WHERE is_deleted").fetchone() != (0,)


def play_day(connection: psycopg.Connection[Any], today: date) -> None:
    connection.execute(
        "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [today.isoformat()]
    )


def delete_some(connection: psycopg.Connection[Any], chance: random.Random) -> None:
    """Delete orders with their lines, and single lines of others."""
    numbers = [row[0] for row in connection.execute("SELECT order_id FROM oceanrecords.orders")]
    gone, shortened = chance.sample(numbers, 3), chance.sample(numbers, 5)
    with connection.transaction():
        connection.execute(
            "DELETE FROM oceanrecords.order_lines WHERE order_id = ANY (%s)"
            " OR order_id = ANY (%s) AND line_number = 1",
            [gone, shortened],
        )
        connection.execute("DELETE FROM oceanrecords.orders WHERE order_id = ANY (%s)", [gone])


def test_another_time_zone_after_a_full_refresh(played: psycopg.Connection[Any]) -> None:
    play_day(played, HISTORY_ENDS)
    played.execute("CALL etl.run()")
    played.execute("UPDATE etl.setting SET value = 'Pacific/Auckland' WHERE name = 'time_zone'")
    played.execute("CALL etl.run(NULL, ARRAY['all'])")
    orders = expected.orders(played, "Pacific/Auckland")
    wanted = expected.months(orders, HISTORY_ENDS, LIMITS)
    found = played.execute("SELECT month_start, orders, sales FROM kpi.month").fetchall()
    assert found == [(row["month_start"], row["orders"], row["sales"]) for row in wanted]
    assert orders != expected.orders(played)
    assert_aggregates_add_up(played)


def test_country_figures_add_up_to_those_of_all(played: psycopg.Connection[Any]) -> None:
    play_day(played, HISTORY_ENDS)
    played.execute("CALL etl.run()")
    total = b"SELECT sum(quantity), sum(sales) FROM kpi.product_monthly"
    shown = played.execute(total).fetchone()
    played.execute("UPDATE etl.setting SET value = '0' WHERE name = 'small_group'")
    assert played.execute(total).fetchone() == shown
    countries = [row[0] for row in played.execute("SELECT country FROM kpi.country ORDER BY 1")]
    assert len(countries) > 3
    whole = played.execute("SELECT sum(orders), sum(sales) FROM kpi.month").fetchone()
    parts = [
        played.execute(
            "SELECT sum(orders), sum(sales) FROM kpi.month_of(%s::text)", [country]
        ).fetchone()
        for country in countries
    ]
    assert whole == tuple(sum(part[n] for part in parts if part) for n in (0, 1))
    some = played.execute(
        "SELECT sum(orders), sum(sales) FROM kpi.month_of(VARIADIC %s)", [countries[:2]]
    ).fetchone()
    assert some == tuple(sum(part[n] for part in parts[:2] if part) for n in (0, 1))
    by_fact = played.execute(
        "SELECT sum(f.gross_amount) FROM dwh.fact_order AS f JOIN dwh.dim_address AS a USING (address_key)"
        " WHERE a.country = %s AND NOT f.is_lost",
        [countries[0]],
    ).fetchone()
    assert by_fact == parts[0][1:] if parts[0] else False
