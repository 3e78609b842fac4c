"""What the dashboard would have shown on each day of a history equals the figures computed at equal age."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from pytest_postgresql.executors import NoopExecutor

from simulator.seed import seed
from tests.kpi import expected
from tests.support.database import temporary_database
from tests.support.servers import RunningServer

# What is tested here does not depend on the version of the server.
pytestmark = pytest.mark.server("embedded")

ENDS = date(2025, 4, 2)
MONTHS = 17
LIMITS = [(date.min, Decimal("0.08")), (date(2025, 1, 20), Decimal("0.05"))]


@pytest.fixture(scope="module")
def history(
    server: RunningServer, request: pytest.FixtureRequest
) -> Iterator[psycopg.Connection[Any]]:
    """A warehouse with seventeen months of orders, loaded once."""
    template: NoopExecutor = request.getfixturevalue(f"{server.name}_template")
    with (
        temporary_database(server, template.template_dbname) as made,
        made.connect() as connection,
    ):
        seed(connection, orders=900, months=MONTHS, seed=23, until=ENDS)
        connection.execute("INSERT INTO kpi.lost_order_limit VALUES ('2025-01-20', 0.05)")
        connection.execute("CALL etl.run()")
        yield connection


def month_starts() -> list[date]:
    """Return the first days of the months of the history."""
    starts = [ENDS.replace(day=1)]
    while len(starts) <= MONTHS:
        starts.append(expected.before_month(starts[-1]))
    return starts[::-1]


def ask(connection: psycopg.Connection[Any], view: str, columns: list[str]) -> list[dict[str, Any]]:
    statement = sql.SQL("SELECT {} FROM kpi.{}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(view)
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement).fetchall()


SMALL_GROUP = 5  # smaller counts of people are suppressed


def assert_day(
    connection: psycopg.Connection[Any],
    orders: list[expected.Order],
    day: date,
    limits: list[tuple[date, Decimal]],
) -> None:
    """Hold the views, as they are on a day, against the operational system's orders."""
    connection.execute(
        "UPDATE etl.setting SET value = %s WHERE name = 'business_date'", [day.isoformat()]
    )
    wanted = expected.months(orders, day, limits)
    assert ask(connection, "month", list(wanted[0])) == wanted, day

    figures = expected.overview(wanted, day)
    columns = [
        "kpi",
        "month_to_date",
        "last_month",
        "monthly_average",
        "growth_percent",
        "change_points",
        "trend_values",
        "trend",
        "note",
    ]
    for row in ask(connection, "overview", columns):
        name = row.pop("kpi")
        assert len(row.pop("trend")) == figures[name].pop("months")
        assert (row.pop("note") == "No full day yet") == (day.day == 1)
        assert row == figures[name], (day, name)

    past = [one for one in orders if one.day <= day]
    tomorrow = day + timedelta(days=1)
    loaded = expected.Sums.of(past, date.min, tomorrow, tomorrow)
    columns = ["orders", "lost_orders", "sales", "fulfilled_orders"]
    daily = ask(connection, "order_daily", columns)
    assert [sum(row[one] for row in daily) for one in columns] == [
        getattr(loaded, one) for one in columns
    ], day
    counted = ask(connection, "customer_count", ["quarter_name", "unique_customers"])
    assert {
        row["quarter_name"]: row["unique_customers"] for row in counted if row["unique_customers"]
    } == {
        quarter: count
        for quarter, count in expected.customers_by_quarter(past).items()
        if count >= SMALL_GROUP
    }, day

    told = {
        row["headline"]: (row["sales"], row["compared_with"])
        for row in ask(connection, "headline", ["headline", "sales", "compared_with"])
    }
    for name, pair in expected.headline(orders, day).items():
        assert told[name] == pair, (day, name)


@pytest.mark.parametrize("start", month_starts(), ids=lambda day: f"{day:%Y-%m}")
def test_every_day_of_a_month(history: psycopg.Connection[Any], start: date) -> None:
    orders = expected.orders(history)
    day = start
    while day < expected.next_month(start) and day <= ENDS:
        assert_day(history, orders, day, LIMITS)
        day += timedelta(days=1)


def test_history_is_one_that_flatters(history: psycopg.Connection[Any]) -> None:
    """Without equal age the share of lost orders of a running month is too low: the history can tell the difference."""
    orders = expected.orders(history)
    naive, fair = [], []
    for start in month_starts()[2:-1]:
        before = expected.before_month(start)
        until = start + timedelta(days=28)
        now = expected.Sums.of(orders, start, until, until)
        final = expected.Sums.of(orders, before, before + timedelta(days=28), date.max)
        same_age = expected.Sums.of(
            orders, before, before + timedelta(days=28), before + timedelta(days=28)
        )
        naive.append(now.lost_orders / now.orders - final.lost_orders / final.orders)
        fair.append(now.lost_orders / now.orders - same_age.lost_orders / same_age.orders)
    assert sum(naive) < sum(fair) - 0.1
